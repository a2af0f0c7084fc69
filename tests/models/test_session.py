import hashlib

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx.reference import ReferenceEvaluator

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Thing
from phenopipe.models import build_classical, ensure_classical, open_session
from phenopipe.models.session import open_cached_session, read_model

CROPS = np.random.default_rng(3).integers(100, 4000, (3, 2, 24, 24), np.uint16)


def parse_model(body, given="uint16[n,c,y,x] crops"):
    header = '<ir_version: 9, opset_import: ["": 18]>'
    text = f"{header} model ({given}) => (float[n,d] embedding) {{ {body} }}"
    return onnx.parser.parse_model(text).SerializeToString()


def test_a_session_gives_what_the_onnx_reference_gives():
    model = build_classical()
    (expected,) = ReferenceEvaluator(model).run(None, {"crops": CROPS})
    found = open_session(model.SerializeToString()).embed(CROPS)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_provider_that_runs_is_the_one_asked_for():
    session = open_session(build_classical().SerializeToString(), provider="cpu")
    assert session.provider == session._runtime.get_providers()[0] == "CPUExecutionProvider"


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
    with pytest.raises(InputError, match=r"(?s)found \(1, 1, 16, 16\).*set embed.crop"):
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
