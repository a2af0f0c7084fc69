import json

import onnx.parser
import onnxruntime
import pytest

from phenopipe.errors import InputError
from phenopipe.models.providers import (
    PROVIDERS,
    check_placement,
    choose_options,
    cpu_features,
    describe_device,
)
from phenopipe.models.providers import _openvino_options as openvino_options
from phenopipe.models.providers import _read_gpu as read_gpu


def test_each_provider_leads_its_own_chain():
    for name, full in PROVIDERS.items():
        assert choose_options(name)[0][0] == full


def test_no_provider_but_tensorrt_has_a_second():
    assert {name: len(choose_options(name)) for name in PROVIDERS} == {
        "cpu": 1,
        "cuda": 1,
        "tensorrt": 2,
        "openvino": 1,
    }


def test_cuda_neither_rounds_nor_times_kernels():
    ((_, options),) = choose_options("cuda")
    assert options["use_tf32"] == "0"
    assert options["cudnn_conv_algo_search"] == "HEURISTIC"


@pytest.mark.parametrize(
    ("precision", "flags"),
    [
        ("fp32", set()),
        ("bf16", {"trt_bf16_enable"}),
        ("fp16", {"trt_fp16_enable", "trt_layer_norm_fp32_fallback"}),
        ("int8", {"trt_int8_enable"}),
    ],
)
def test_tensorrt_computes_in_the_models_precision(precision, flags):
    options = choose_options("tensorrt", precision=precision)[0][1]
    assert set(options) == {"device_id", *flags}


def test_tensorrt_keeps_its_engines_in_the_folder(tmp_path):
    options = choose_options("tensorrt", cache=tmp_path)[0][1]
    assert options["trt_engine_cache_enable"] == "1"
    assert options["trt_engine_cache_path"] == str(tmp_path)


@pytest.mark.parametrize(
    ("precision", "features", "hint"),
    [
        ("bf16", ("avx512f", "amx_bf16"), "bf16"),
        ("bf16", ("avx512f",), "f32"),
        ("fp32", ("avx512f", "amx_bf16"), "f32"),
    ],
)
def test_openvino_rounds_to_bf16_only_what_was_verified_so(precision, features, hint):
    options = openvino_options(2, precision, features)
    assert json.loads(options["load_config"])["CPU"] == {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": "2",
        "NUM_STREAMS": "1",
    }


def list_placed(body):
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    text = (
        f'<ir_version: 9, opset_import: ["": 18]> m (float[n,4] x) => (float[n,d] y) {{ {body} }}'
    )
    content = onnx.parser.parse_model(text).SerializeToString()
    runtime = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    parts = runtime.get_provider_graph_assignment_info()
    return [(part.ep_name, node.op_type) for part in parts for node in part.get_nodes()]


def test_work_left_to_the_cpu_is_refused_and_named():
    placed = list_placed("t = Transpose(x) p = MatMul(x, t) y = Softmax(p)")
    check_placement(placed, provider=PROVIDERS["cpu"])
    with pytest.raises(InputError, match="found MatMul, Softmax on the CPU"):
        check_placement([*placed, (PROVIDERS["cuda"], "Cast")], provider=PROVIDERS["cuda"])


def test_a_model_wholly_on_the_cpu_is_refused():
    with pytest.raises(InputError, match="found all of its operators on the CPU"):
        check_placement(list_placed("y = Neg(x)"), provider=PROVIDERS["openvino"])


def test_shapes_may_be_computed_on_the_cpu():
    cuda, cpu = PROVIDERS["cuda"], PROVIDERS["cpu"]
    check_placement([(cuda, "MatMul"), (cpu, "Shape"), (cpu, "Gather")], provider=cuda)


def test_the_cpu_is_described_by_its_instruction_sets():
    told = describe_device("cpu")
    assert told["provider"] == "CPUExecutionProvider"
    assert told["device"].split()[1:] == list(cpu_features())
    assert told["runtime"] == f"onnxruntime {onnxruntime.__version__}"


@pytest.fixture
def _driver(tmp_path, monkeypatch):
    """A driver's nvidia-smi that knows two GPUs."""
    script = tmp_path / "nvidia-smi"
    script.write_text(
        '#!/bin/sh\ncase "$*" in\n *--id=7*) echo No devices were found; exit 6;;\n'
        ' *--id=GPU-b1*) echo "NVIDIA L4, 8.9";;\n *) echo "NVIDIA H100 80GB HBM3, 9.0";;\nesac\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    read_gpu.cache_clear()
    yield
    read_gpu.cache_clear()


@pytest.mark.usefixtures("_driver")
@pytest.mark.parametrize(
    ("visible", "device"), [("", "NVIDIA H100 80GB HBM3, 9.0"), ("GPU-b1,GPU-c2", "NVIDIA L4, 8.9")]
)
def test_the_gpu_is_the_one_the_worker_is_pinned_to(monkeypatch, visible, device):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert describe_device("cuda")["device"] == device


@pytest.mark.usefixtures("_driver")
def test_a_gpu_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(InputError, match="found No devices were found: check the driver"):
        describe_device("tensorrt")


def test_no_driver_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    read_gpu.cache_clear()
    with pytest.raises(InputError, match="expected nvidia-smi"):
        describe_device("cuda")
