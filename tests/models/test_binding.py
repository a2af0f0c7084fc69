import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx.parser
import onnxruntime
import pytest

from phenopipe.errors import InputError
from phenopipe.models import build_classical
from phenopipe.models.batches import OutOfMemory
from phenopipe.models.binding import Binding
from phenopipe.models.binding import _tell_fault as tell_fault

CROPS = np.random.default_rng(3).integers(100, 4000, (3, 2, 24, 24), np.uint16)

# Each crop takes 4 MB on its way: 64 do not fit into what the process may have, 8 do.
HUNGRY = """
import resource, sys
import numpy as np, onnx.parser, onnxruntime
from phenopipe.models.batches import Batches
from phenopipe.models.binding import Binding

model = onnx.parser.parse_model('''<ir_version: 9, opset_import: ["": 18]>
    hungry (uint16[n,1,32,32] crops) => (float[n,d] embedding)
    <int64[4] wide = {1, 1024, 32, 32}, int64[3] axes = {1, 2, 3}, int64[2] flat = {-1, 1}> {
        pixels = Cast<to = 1>(crops)
        copies = Expand(pixels, wide)
        most = ReduceMax<keepdims = 0>(copies, axes)
        embedding = Reshape(most, flat)
    }''')
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.enable_cpu_mem_arena = bool(int(sys.argv[1]))
options.log_severity_level = 4
runtime = onnxruntime.InferenceSession(model.SerializeToString(), options)
binding = Binding(runtime, device="cpu")
crops = np.arange(64, dtype=np.uint16)[:, None, None, None] + np.zeros((1, 1, 32, 32), np.uint16)
binding.run(crops[:1])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20),) * 2)
batches = Batches(64, most=64)
vectors = batches.run_all(binding.run, crops)
print(batches.batch, np.array_equal(vectors.ravel(), np.arange(64)))
"""


def load(content):
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def test_a_run_gives_what_the_runtime_gives():
    runtime = load(build_classical().SerializeToString())
    binding = Binding(runtime, device="cpu")
    (expected,) = runtime.run(None, {"crops": CROPS})
    for _ in range(2):
        np.testing.assert_array_equal(binding.run(CROPS), expected)


def test_crops_are_copied_not_written_to():
    binding = Binding(load(build_classical().SerializeToString()), device="cpu")
    first, kept = CROPS.copy(), CROPS.copy()
    binding.run(first)
    binding.run(CROPS[::-1])
    np.testing.assert_array_equal(first, kept)


def test_each_thread_has_its_own_buffers():
    runtime = load(build_classical().SerializeToString())
    many = [CROPS + np.uint16(k) for k in range(16)]
    expected = [Binding(runtime, device="cpu").run(crops) for crops in many]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda crops: Binding(runtime, device="cpu").run(crops), many))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("arena", [0, 1])
def test_where_memory_ends_the_batch_is_halved_until_it_fits(arena):
    told = subprocess.run(
        [sys.executable, "-c", HUNGRY, str(arena)], capture_output=True, text=True, check=False
    )
    batch, right = told.stdout.split() or (told.stderr, "")
    assert (1 < int(batch) < 64, right) == (True, "True"), told.stderr


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer", "memory"),
        ("Available memory of 0 is smaller than requested bytes of 256", "memory"),
        ("CUDA failure 2: out of memory ; GPU=0", "memory"),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0", "memory"),
        ("TensorRT EP failed: OutOfMemory (Requested size was 1073741824 bytes.)", "memory"),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", "device"),
        ("CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0", "device"),
        ("Reshape node. The input tensor cannot be reshaped to the requested shape", "crops"),
    ],
)
def test_a_failed_run_is_told_apart(told, kind):
    kinds = {"memory": OutOfMemory, "device": OSError, "crops": InputError}
    assert type(tell_fault(RuntimeError(told), (6, 80, 80))) is kinds[kind]


def test_crops_may_arrive_while_another_thread_runs():
    runtime, turn = load(build_classical().SerializeToString()), threading.Lock()
    many = [CROPS + np.uint16(k) for k in range(16)]
    expected = [Binding(runtime, device="cpu").run(crops) for crops in many]

    def run_all(crops):
        return [Binding(runtime, device="cpu", turn=turn).run(c) for c in crops]

    with ThreadPoolExecutor(2) as pool:
        even, odd = pool.map(run_all, (many[::2], many[1::2]))
    np.testing.assert_array_equal(even, expected[::2])
    np.testing.assert_array_equal(odd, expected[1::2])


def test_a_model_without_a_vector_a_crop_is_refused():
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 18]> one (uint16[n,c,y,x] crops) => '
        "(float[1,d] embedding) <int64[2] row = {1, -1}> "
        "{ pixels = Cast<to = 1>(crops) embedding = Reshape(pixels, row) }"
    )
    with pytest.raises(InputError, match=r"expected a vector a crop .* found \(1, 3456\) for 3"):
        Binding(load(model.SerializeToString()), device="cpu").run(CROPS)
