import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Thing
from phenopipe.models import build_classical, ensure_classical, open_session
from phenopipe.models.providers import PROVIDERS
from phenopipe.models.session import open_cached_session, read_model

HERE = onnxruntime.get_available_providers()
CROPS = np.random.default_rng(3).integers(100, 4000, (3, 2, 24, 24), np.uint16)


def parse_model(body, given="uint16[n,c,y,x] crops", initializers=""):
    header = '<ir_version: 9, opset_import: ["": 18]>'
    text = f"{header} model ({given}) => (float[n,d] embedding) {initializers} {{ {body} }}"
    return onnx.parser.parse_model(text).SerializeToString()


def test_a_session_gives_what_the_onnx_reference_gives():
    model = build_classical()
    (expected,) = ReferenceEvaluator(model).run(None, {"crops": CROPS})
    found = open_session(model.SerializeToString()).embed(CROPS)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_provider_that_runs_is_the_one_asked_for():
    session = open_session(build_classical().SerializeToString(), provider="cpu")
    assert session.provider == session._runtime.get_providers()[0] == "CPUExecutionProvider"


@pytest.mark.parametrize("where", ["weights.bin", "../weights.bin", "/etc/hostname"])
def test_a_model_of_bytes_reads_no_other_file(where, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    for folder in (tmp_path, tmp_path / "work"):
        (folder / "weights.bin").write_bytes(bytes(16))
    monkeypatch.chdir(tmp_path / "work")
    graph = onnx.load_from_string(build_classical().SerializeToString())
    tensor = onnx.TensorProto(name="elsewhere", data_type=onnx.TensorProto.UINT8, dims=[4])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": where, "offset": "0", "length": "4"}.items():
        tensor.external_data.add(key=key, value=value)
    graph.graph.initializer.append(tensor)
    graph.graph.node.append(onnx.helper.make_node("Identity", ["elsewhere"], ["secret"]))
    graph.graph.output.append(
        onnx.helper.make_tensor_value_info("secret", onnx.TensorProto.UINT8, [4])
    )
    with pytest.raises(InputError, match="External data path"):
        open_session(graph.SerializeToString())


# A small transformer block, so that products of matrices are among what is compared.
ATTENTION = """
    pixels = Cast<to = 1>(crops) scaled = Div(pixels, scale)
    rows = Reshape(scaled, tokens) turned = Transpose<perm = [0, 2, 1]>(rows)
    scores = MatMul(rows, turned) weights = Softmax(scores)
    seen = MatMul(weights, rows) mean = ReduceMean<keepdims = 0>(seen, second)
    embedding = Flatten(mean)
"""


@pytest.mark.parametrize("provider", [name for name, full in PROVIDERS.items() if full in HERE])
@pytest.mark.parametrize("model", ["classical", "attention"])
def test_a_crops_vector_does_not_depend_on_its_neighbours(model, provider):
    content = parse_model(
        ATTENTION,
        initializers="<float scale = {4e3}, int64[3] tokens = {0, -1, 48}, int64[1] second = {1}>",
    )
    content = build_classical().SerializeToString() if model == "classical" else content
    session = open_session(content, provider=provider)
    crops = np.random.default_rng(5).integers(100, 4000, (21, 2, 48, 48), np.uint16)
    together = session.embed(crops)
    assert session.batch > 1
    for kept in (0, 7, 20):
        others = crops[::-1].copy()
        others[kept] = crops[kept]
        np.testing.assert_array_equal(session.embed(others)[kept], together[kept])
    cut = 16 // session.batch * session.batch
    parts = [session.embed(crops[:cut]), session.embed(crops[cut:])]
    np.testing.assert_array_equal(np.concatenate(parts), together)


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_changes_no_bits(threads):
    content = build_classical().SerializeToString()
    crops = np.random.default_rng(5).integers(100, 4000, (9, 3, 64, 64), np.uint16)
    np.testing.assert_array_equal(
        open_session(content, threads=threads).embed(crops), open_session(content).embed(crops)
    )


@pytest.mark.parametrize(
    ("shape", "batch"),
    [((6, 48, 48), 8), ((6, 80, 80), 4), ((6, 128, 128), 2), ((6, 256, 256), 1), ((1, 16, 16), 16)],
)
def test_a_runs_planes_stay_in_a_cores_cache(shape, batch):
    session = open_session(
        parse_model(
            "p = Cast<to = 1>(crops) embedding = ReduceMax<keepdims = 0>(p, axes)",
            initializers="<int64[2] axes = {2, 3}>",
        )
    )
    session.embed(np.ones((1, *shape), np.uint16))
    assert session.describe()["batch"] == str(session.batch) == str(batch)


def test_a_graph_of_a_fixed_number_of_crops_is_given_that_many():
    body = "float_crops = Cast<to = 1>(crops) embedding = Flatten(float_crops)"
    session = open_session(parse_model(body, given="uint16[3,1,32,32] crops"))
    assert session.batch == 3
    crops = np.random.default_rng(5).integers(100, 4000, (7, 1, 32, 32), np.uint16)
    np.testing.assert_array_equal(session.embed(crops), crops.reshape(7, -1).astype(np.float32))


def test_threads_share_a_session():
    session = open_session(build_classical().SerializeToString())
    many = [CROPS + np.uint16(k) for k in range(8)]
    expected = [session.embed(crops) for crops in many]
    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(list(pool.map(session.embed, many)), expected)


@pytest.mark.parametrize("provider", ["cuda", "tpu"])
def test_a_provider_that_is_not_here_is_refused(provider, monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(InputError, match=rf"are here \(cpu\), found '{provider}'"):
        open_session(build_classical().SerializeToString(), provider=provider)


def test_nan_from_a_model_is_refused_and_the_crop_named():
    content = parse_model(
        "float_crops = Cast<to = 1>(crops) flat = Flatten(float_crops) embedding = Div(flat, flat)"
    )
    crops = np.ones((3, 1, 16, 16), np.uint16)
    assert open_session(content).embed(crops).shape == (3, 256)
    crops[1, 0, 0, 0] = 0
    with pytest.raises(InputError, match=r"infinity in 1 of 3 crops \(the first is crop 1\)"):
        open_session(content).embed(crops)


def test_crops_of_another_dtype_or_shape_are_refused():
    session = open_session(build_classical().SerializeToString())
    with pytest.raises(InputError, match=r"of uint16, found .* of float32"):
        session.embed(CROPS.astype(np.float32))
    with pytest.raises(InputError, match=r"expected crops \(n, c, y, x\)"):
        session.embed(CROPS[0])


def test_a_crop_of_a_size_the_model_does_not_take_is_refused():
    body = "float_crops = Cast<to = 1>(crops) embedding = Flatten(float_crops)"
    session = open_session(parse_model(body, given="uint16[n,1,32,32] crops"))
    with pytest.raises(InputError, match=r"(?s)found \(1, 16, 16\).*set embed.crop"):
        session.embed(np.ones((1, 1, 16, 16), np.uint16))


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x09" * 9])
def test_a_corrupt_model_is_refused(content):
    with pytest.raises(InputError, match="expected an ONNX model in the bytes given"):
        open_session(content)


def test_a_model_of_floats_is_refused():
    content = parse_model("embedding = Flatten(crops)", given="float[n,c,y,x] crops")
    with pytest.raises(InputError, match=r"uint8 or uint16, found tensor\(float\)"):
        open_session(content)


def test_a_changed_file_is_refused(tmp_path):
    lake, model = Lake(tmp_path), Thing("models/classical/1")
    digest = ensure_classical(lake).digest
    assert hashlib.sha256(read_model(lake, model, digest)).hexdigest() == digest
    once, again = (open_cached_session(lake.root, model, digest, "cpu") for _ in range(2))
    assert once is again
    path = tmp_path / "models/classical/1/model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"of models/classical/1, found .* changed or damaged"):
        read_model(lake, model, digest)
