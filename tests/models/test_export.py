from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from phenopipe.errors import InputError
from phenopipe.models.crop_model import CropModel, Rescale, Standardise
from phenopipe.models.export import export_onnx
from phenopipe.models.vit import VitEncoder, draw_weights

DEPTH = 2


def draw_model(seed=1, **changes):
    shape = {"width": 128, "depth": DEPTH, "heads": 2, "patch": 8, "crop": 32, "channels": "any"}
    encoder = VitEncoder(**{**shape, **changes})
    draw_weights(encoder, seed=seed)
    return CropModel(Standardise(), encoder).eval()


def draw_crops(n, channels, *, side=32, dtype="uint16"):
    high = 256 if dtype == "uint8" else 4096
    return np.random.default_rng([n, channels]).integers(0, high, (n, channels, side, side), dtype)


def embed_in_torch(model, crops):
    with torch.inference_mode():
        return model(torch.from_numpy(crops.astype("float32"))).numpy()


def run(content, crops):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"crops": crops})[0]


@pytest.mark.parametrize("output", ["pooled", "channelwise"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_one_graph_takes_any_number_of_channels_and_crops(output, dtype):
    model = draw_model(output=output)
    content = export_onnx(model, dtype=dtype, channels="any", crop=32)
    for n, channels in ((1, 1), (3, 2), (2, 6), (1, 11)):
        crops = draw_crops(n, channels, dtype=dtype)
        expected = embed_in_torch(model, crops)
        np.testing.assert_allclose(run(content, crops), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("patch", [8, 16])
def test_a_graph_of_fixed_channels_gives_what_torch_gives(patch):
    model = draw_model(channels=6, patch=patch)
    content = export_onnx(model, channels=6, crop=32)
    crops = draw_crops(3, 6)
    np.testing.assert_allclose(
        run(content, crops), embed_in_torch(model, crops), rtol=1e-4, atol=2e-5
    )
    (given,) = onnxruntime.InferenceSession(content).get_inputs()
    assert given.shape == ["n", 6, 32, 32]  # so that the runtime refuses all others


def test_the_graph_gives_what_the_onnx_reference_gives():
    content = export_onnx(draw_model(), channels="any", crop=32)
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    crops = draw_crops(2, 3)
    (expected,) = ReferenceEvaluator(model).run(None, {"crops": crops})
    np.testing.assert_allclose(run(content, crops), expected, rtol=1e-4, atol=2e-5)


def test_attention_norms_and_gelu_are_one_op_each_and_stay_so_in_the_runtime(tmp_path):
    content = export_onnx(draw_model(), channels="any", crop=32)
    model = onnx.load_from_string(content)
    written = Counter(node.op_type for node in model.graph.node)
    assert written["Attention"] == written["Gelu"] == DEPTH
    assert written["LayerNormalization"] == 3 * DEPTH + 1  # tokens, q and k; then the last
    assert not written.keys() & {"Softmax", "Erf", "Conv", "Split"}
    assert {opset.domain for opset in model.opset_import} == {""}
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    optimised = onnx.load(tmp_path / "optimised.onnx")
    running = Counter(node.op_type for node in optimised.graph.node)
    assert running["Attention"] == running["BiasGelu"] == DEPTH
    assert not running.keys() & {"Softmax", "Erf"}


@pytest.mark.parametrize("counts", [0, 1, 129, 65535])
def test_a_plane_of_one_count_is_zero_after_standardisation(counts):
    model = draw_model()
    content = export_onnx(model, channels="any", crop=32)
    flat = run(content, np.full((1, 3, 32, 32), counts, np.uint16))
    np.testing.assert_array_equal(flat, run(content, np.zeros((1, 3, 32, 32), np.uint16)))
    assert np.isfinite(flat).all()


def test_extreme_pixels_give_finite_values_in_half_precision_too():
    crops = np.zeros((2, 2, 32, 32), np.uint16)
    crops[0, :, 16, 16] = 65535
    crops[1, :, ::2] = 65535
    for precision in ("fp32", "fp16"):
        content = export_onnx(draw_model(), channels="any", crop=32, precision=precision)
        assert np.isfinite(run(content, crops)).all()


def test_half_precision_halves_the_weights_and_keeps_the_direction():
    model, crops = draw_model(), draw_crops(2, 3)
    full, half = (
        export_onnx(model, channels="any", crop=32, precision=name) for name in ("fp32", "fp16")
    )
    assert len(half) == pytest.approx(len(full) / 2, rel=0.1)
    for one, other in zip(run(full, crops), run(half, crops), strict=True):
        assert one @ other > 0.9999 * np.linalg.norm(one) * np.linalg.norm(other)


def test_the_bytes_are_fixed():
    one, same = (export_onnx(draw_model(), channels="any", crop=32) for _ in range(2))
    assert one == same


def test_a_call_that_does_not_fit_the_encoder_is_refused():
    model = draw_model()
    with pytest.raises(InputError, match=r"channels any and crops of 32 px.*found 6 and 32"):
        export_onnx(model, channels=6, crop=32)
    with pytest.raises(InputError, match=r"expected dtype among uint8, uint16, found 'int32'"):
        export_onnx(model, dtype="int32", channels="any", crop=32)
    with pytest.raises(InputError, match=r"expected precision among fp32, fp16, bf16"):
        export_onnx(model, channels="any", crop=32, precision="int8")


class Transformer(nn.Module):
    """Any torch module: a block of torch's own attention over the tokens of a convolution."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.patches = nn.Conv2d(3, 64, 8, stride=8)
        self.norm = nn.LayerNorm(64)
        self.qkv = nn.Linear(64, 192)
        self.mlp = nn.Sequential(nn.Linear(64, 64), nn.GELU())

    def forward(self, planes):
        tokens = self.patches(planes).flatten(2).transpose(1, 2)
        heads = self.qkv(self.norm(tokens)).unflatten(-1, (3, 4, 16)).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(*heads.unbind(0))
        tokens = tokens + attended.transpose(1, 2).flatten(2)
        return (tokens + self.mlp(tokens)).mean(1)


@pytest.mark.parametrize(
    ("dtype", "precision", "tolerance"), [("uint8", "fp32", 1e-5), ("uint16", "fp16", 5e-3)]
)
def test_any_torch_module_is_traced_with_fused_ops(dtype, precision, tolerance):
    rescale = Rescale(scale=255, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.2])
    model = CropModel(rescale, Transformer()).eval()
    content = export_onnx(model, dtype=dtype, channels=3, crop=32, precision=precision)
    found = Counter(node.op_type for node in onnx.load_from_string(content).graph.node)
    assert found["Attention"] == found["LayerNormalization"] == found["Gelu"] == 1
    for n in (1, 3):
        crops = draw_crops(n, 3, dtype="uint8").astype(dtype)
        expected = embed_in_torch(model, crops)
        np.testing.assert_allclose(run(content, crops), expected, atol=tolerance)
    assert next(model.parameters()).dtype == torch.float32  # the user's module is left as it was
    assert str(Path(torch.__file__).parent).encode() not in content
    assert b"test_export.py" not in content


def test_a_traced_graph_may_take_any_number_of_channels():
    # The family's encoder behind another preprocessing is traced, not written op by op.
    rescale = Rescale(scale=4095, mean=[0.5], std=[0.3])
    model = CropModel(rescale, draw_model(depth=1).encoder)
    content = export_onnx(model, channels="any", crop=32)
    for n, channels in ((1, 1), (3, 5)):
        crops = draw_crops(n, channels)
        np.testing.assert_allclose(run(content, crops), embed_in_torch(model, crops), atol=1e-5)


def test_a_module_that_cannot_be_traced_or_gives_tokens_is_refused():
    narrow = CropModel(Standardise(), nn.Sequential(nn.Flatten(), nn.Linear(7, 8)))
    with pytest.raises(InputError, match=r"can trace with 3 channels and crops of 16 px"):
        export_onnx(narrow, channels=3, crop=16)
    tokens = CropModel(Standardise(), nn.Conv2d(3, 8, 4))
    with pytest.raises(InputError, match=r"embeddings \(n, d\) from Conv2d, found 4 dimensions"):
        export_onnx(tokens, channels=3, crop=16)
