import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from phenopipe.errors import InputError
from phenopipe.lake import Lake
from phenopipe.models import publish_model
from phenopipe.models.convert import convert_factory, convert_module, import_module
from phenopipe.models.crop_model import CropModel, Standardise
from phenopipe.models.vit import VitEncoder, draw_weights

ENTRIES = {
    "name": "tiny",
    "version": "1",
    "dtype": "uint16",
    "channels": 2,
    "crop": 16,
    "licence": "MIT",
}


def no_crops(_):
    return {}


class Channelwise(nn.Module):
    def forward(self, crops):
        return torch.cat([crops.mean((2, 3)), crops.amax((2, 3))], dim=1)


def draw_vit():
    encoder = VitEncoder(width=128, depth=2, heads=2, patch=8, crop=32, channels="any")
    draw_weights(encoder, seed=1)
    return CropModel(Standardise(), encoder)


def convert(module, *, real=no_crops, **changes):
    return convert_module(module, ENTRIES | changes, real=real, where="card.json")


def publish(tmp_path, made):
    return publish_model(Lake(tmp_path), made.content, made.card, references=made.references)


def test_any_module_of_crops_becomes_a_model(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 4, 4, stride=4), nn.GELU(), nn.Flatten(), nn.Linear(64, 5))
    crops = np.random.default_rng(0).integers(0, 4000, (3, 2, 16, 16), np.uint16)
    made = convert(CropModel(Standardise(), module), real=lambda _: {"plate": crops})
    card = publish(tmp_path, made)
    assert card.output_width == 5
    assert min(card.parity["cosine_random_2"], card.parity["cosine_plate"]) > 0.99999
    with torch.inference_mode():
        expected = CropModel(Standardise(), module)(torch.from_numpy(crops.astype("float32")))
    assert np.array_equal(made.references[1].embeddings, expected.numpy())


def test_a_vision_transformer_of_any_channels_becomes_a_model(tmp_path):
    card = publish(tmp_path, convert(draw_vit(), channels="any", max_channels=4, crop=32))
    assert card.output_width == 128
    assert {name for name in card.parity if "cosine" in name} == {
        "cosine_random_1",
        "cosine_random_3",
        "cosine_random_4",
    }


def test_the_width_a_channel_is_found():
    made = convert(Channelwise(), channels="any", max_channels=4)
    assert (made.card.output_width, made.card.channel_width) == (None, 2)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_module_is_converted_to_another_precision(tmp_path, precision):
    made = convert(draw_vit(), channels="any", crop=32, precision=precision)
    assert 0.999 < publish(tmp_path, made).parity["cosine_random_3"] < 1


def test_a_module_whose_counts_would_overflow_half_floats_keeps_them(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.InstanceNorm2d(2), nn.Flatten(), nn.Linear(512, 8), nn.Linear(8, 8))
    card = publish(tmp_path, convert(module, precision="fp16"))
    assert card.parity["cosine_random_2"] > 0.9999


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        (nn.Conv2d(2, 3, 3), {}, r"embeddings \(n, d\) from the module .* \(8, 3, 14, 14\)"),
        (nn.Flatten(), {"channels": 0}, "found channels"),
        (nn.Linear(3, 3), {}, "expected a module that takes crops"),
        (nn.Flatten(), {"licence": None}, "found licence"),
        (nn.Flatten(), {"dtype": "float32"}, "found dtype"),
    ],
)
def test_a_module_that_is_no_model_of_crops_is_refused(module, changes, message):
    with pytest.raises(InputError, match=message):
        convert(module, **changes)


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def tiny():\n    return torch.nn.Flatten()\n"
        "def number():\n    return 5\n"
        "def broken():\n    raise RuntimeError('no weights here')\n"
    )
    (tmp_path / "card.json").write_text(json.dumps(ENTRIES))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("mine", None)


def test_a_factory_is_found(package):
    assert isinstance(import_module("mine:tiny"), nn.Flatten)
    made = convert_factory("mine:tiny", package / "card.json", real=no_crops, version="2")
    assert (made.card.name, made.card.version, made.card.output_width) == ("tiny", "2", 512)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere:tiny", "at nowhere:tiny, found ModuleNotFoundError"),
        ("mine:other", "at mine:other, found AttributeError"),
        ("mine:broken", "found RuntimeError: no weights here"),
        ("mine:number", "a torch module from mine:number, found int"),
    ],
)
def test_what_is_no_factory_is_refused(package, source, message):
    with pytest.raises(InputError, match=message):
        convert_factory(source, package / "card.json", real=no_crops)


def test_a_card_that_is_not_there_is_refused(package):
    with pytest.raises(InputError, match="expected a card at"):
        convert_factory("mine:tiny", package / "none.json", real=no_crops)
