import csv
import zlib

import numpy as np
import pytest
import torch
from onnxruntime import InferenceSession
from safetensors.numpy import save_file

from phenopipe.errors import InputError
from phenopipe.models.export import export_onnx
from phenopipe.models.openphenom import load_openphenom
from phenopipe.models.vit import sincos_positions

PREFIX = "encoder.vit_backbone."


def draw_weight(name, shape):
    """Draw as the README beside the reference says."""
    rng = np.random.default_rng([1, zlib.crc32(name.encode())])
    weight = rng.standard_normal(shape).astype("float32") * np.float32(0.02)
    if name.endswith("norm.weight"):
        return weight + np.float32(1)
    return weight + np.float32(0.5) if name.endswith("gamma") else weight


def draw_crops(channels):
    rng = np.random.default_rng([1, channels])
    crops = rng.integers(0, 256, (3, channels, 256, 256), dtype="uint8")
    crops[:, 0] //= 4
    return crops


@pytest.fixture(scope="module")
def tensors(shared):
    with shared("openphenom/tensors.csv").open() as file:
        shapes = {
            row["name"]: tuple(map(int, row["shape"].split("x"))) for row in csv.DictReader(file)
        }
    drawn = {name: draw_weight(name, shape) for name, shape in shapes.items()}
    positions = sincos_positions(16, 384).numpy()
    patches = np.tile(positions[:, 1:], (1, 11, 1))
    return {**drawn, PREFIX + "pos_embed": np.concatenate([positions[:, :1], patches], axis=1)}


@pytest.fixture(scope="module")
def checkpoint(tensors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("openphenom")
    decoder = {"decoder.norm.weight": np.ones(512, np.float32)}
    save_file(tensors | decoder, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def reference(shared):
    return np.load(shared("openphenom/reference.npz"))


@pytest.mark.parametrize("channels", [6, 5])
def test_torch_gives_the_reference(checkpoint, reference, channels):
    crops = torch.from_numpy(draw_crops(channels)[:1].astype("float32"))
    with torch.inference_mode():
        found = load_openphenom(checkpoint)(crops).numpy()
    np.testing.assert_allclose(found, reference[f"pooled_{channels}"][:1], atol=1e-4)


def test_onnx_gives_the_reference_of_six_and_five_channels_from_one_graph(checkpoint, reference):
    model = load_openphenom(checkpoint, output="channelwise")
    content = export_onnx(model, dtype="uint8", channels="any", crop=256)
    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    for channels, n in ((6, 2), (5, 1)):
        (found,) = session.run(None, {"crops": draw_crops(channels)[:n]})
        np.testing.assert_allclose(found, reference[f"channelwise_{channels}"][:n], atol=1e-4)
        pooled = found.reshape(n, channels, 384).mean(1)
        np.testing.assert_allclose(pooled, reference[f"pooled_{channels}"][:n], atol=1e-4)


def test_the_file_itself_can_be_named(checkpoint):
    model = load_openphenom(checkpoint / "model.safetensors", output="channelwise")
    assert model.encoder.output == "channelwise"


def test_a_missing_or_damaged_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected model\.safetensors in .*, found none"):
        load_openphenom(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10 no tensors")
    with pytest.raises(InputError, match=r"expected a safetensors file in .* download it again"):
        load_openphenom(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("norm.bias", None, r"found no encoder\.vit_backbone\.norm\.bias"),
        ("blocks.3.mlp_bias", np.zeros(7, np.float32), r"of shape \(1536,\) in .*, found \(7,\)"),
        ("pos_embed", np.arange(513 * 384, dtype=np.float32).reshape(1, 513, 384), "that repeat"),
        ("pos_embed", np.zeros((1, 300, 384), np.float32), "that repeat for each channel"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(tensors, tmp_path, name, change, message):
    changed = {key: value for key, value in tensors.items() if key != PREFIX + name}
    if change is not None:
        changed[PREFIX + name] = change
    save_file(changed, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=message):
        load_openphenom(tmp_path)
