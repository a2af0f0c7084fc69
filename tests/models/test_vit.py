import math
import runpy
import sys

import numpy as np
import pytest
import torch

from phenopipe.errors import InputError
from phenopipe.models import crop_model
from phenopipe.models.crop_model import Rescale, Standardise
from phenopipe.models.vit import VitEncoder, build_vit, draw_weights, sincos_positions

SMALL = {"width": 128, "depth": 2, "heads": 2, "patch": 8, "crop": 32}


def draw_encoder(seed=1, **changes):
    encoder = VitEncoder(**{**SMALL, "channels": "any", **changes})
    draw_weights(encoder, seed=seed)
    return encoder.eval()


def draw_planes(n=3, channels=4, side=32, seed=2):
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(seed))


def test_positions_are_those_of_the_formula():
    positions = sincos_positions(4, 16)[0].numpy()
    np.testing.assert_array_equal(positions[0], 0)
    for row in range(4):
        for column in range(4):
            waves = [
                function(place / 10000 ** (i / 4))
                for place in (row, column)
                for function in (math.sin, math.cos)
                for i in range(4)
            ]
            np.testing.assert_allclose(positions[1 + 4 * row + column], waves, atol=1e-6)


def test_channels_in_another_order_give_the_same_pooled_embedding():
    encoder, planes = draw_encoder(), draw_planes()
    torch.testing.assert_close(encoder(planes[:, [2, 0, 3, 1]]), encoder(planes))


def test_channelwise_output_is_in_the_order_of_the_channels_and_its_mean_is_pooled():
    encoder, planes = draw_encoder(output="channelwise"), draw_planes()
    apart = encoder(planes).unflatten(1, (4, -1))
    shuffled = encoder(planes[:, [2, 0, 3, 1]]).unflatten(1, (4, -1))
    torch.testing.assert_close(shuffled, apart[:, [2, 0, 3, 1]])
    torch.testing.assert_close(draw_encoder(output="pooled")(planes), apart.mean(1))


def test_a_crop_does_not_depend_on_its_neighbours_in_the_batch():
    encoder, planes = draw_encoder(channels=4), draw_planes()
    alone = torch.cat([encoder(plane[None]) for plane in planes])
    torch.testing.assert_close(encoder(planes), alone)


def test_a_patch_is_embedded_where_it_lies():
    encoder, planes = draw_encoder(depth=0, channels=1), draw_planes(n=1, channels=1)
    token = encoder.patch_embed(planes)[0, 0, 4 * 2 + 3]
    patch = planes[0, 0, 16:24, 24:32]
    kernel = encoder.patch_embed.proj
    torch.testing.assert_close(token, (kernel.weight[:, 0] * patch).sum((1, 2)) + kernel.bias)


@pytest.mark.parametrize(
    ("size", "channels", "millions"), [("small", 6, 22), ("base", "any", 85), ("large", 6, 303)]
)
def test_sizes_have_the_weights_of_the_vision_transformers_of_that_name(size, channels, millions):
    with torch.device("meta"):
        model = build_vit(size, channels=channels)
    count = sum(weight.numel() for weight in model.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.02)


def test_a_seed_fixes_the_weights():
    one, same, other = (build_vit(crop=32, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["encoder.cls_token"], other["encoder.cls_token"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "huge"}, "a size among small, base, large, found 'huge'"),
        ({"patch": 14}, "patches of 14 and crops of 256"),
        ({"crop": 250}, "patches of 16 and crops of 250"),
        ({"output": "tokens"}, "output pooled or channelwise, found 'tokens'"),
        ({"output": "channelwise", "channels": 6}, "channels any for channelwise output, found 6"),
    ],
)
def test_what_does_not_fit_together_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        build_vit(**options)


def test_crops_of_another_size_or_number_of_channels_are_refused():
    encoder = draw_encoder(channels=4)
    with pytest.raises(InputError, match=r"crops of 32 x 32 px, found \(24, 32\)"):
        encoder(torch.zeros(1, 4, 24, 32))
    with pytest.raises(InputError, match="expected 4 channels, found 5"):
        encoder(torch.zeros(1, 5, 32, 32))


def test_standardised_counts_are_those_of_torch_instance_norm():
    counts = torch.randint(0, 256, (2, 3, 48, 48)).float()
    expected = torch.nn.functional.instance_norm(counts / 255, eps=1e-5)
    torch.testing.assert_close(Standardise()(counts), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("counts", [0, 1, 129, 4095, 65535])
def test_a_plane_of_one_count_becomes_zero(counts):
    assert not Standardise()(torch.full((1, 2, 250, 250), float(counts))).any()


def test_a_constant_factor_and_offset_are_undone():
    # An 8-bit image, and the same one from a 16-bit camera with an offset.
    dim = torch.randint(20, 200, (1, 1, 64, 64)).float()
    torch.testing.assert_close(
        Standardise()(dim * 256 + 500), Standardise()(dim), rtol=1e-3, atol=1e-4
    )


def test_a_missing_torch_is_named_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"pip install 'phenopipe\[train\]'"):
        runpy.run_path(crop_model.__file__)


def test_rescaled_counts_are_those_of_the_formula():
    counts = torch.randint(0, 4096, (2, 3, 16, 16)).float()
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    found = Rescale(scale=4095, mean=mean, std=std)(counts)
    for channel in range(3):
        expected = (counts[:, channel] / 4095 - mean[channel]) / std[channel]
        torch.testing.assert_close(found[:, channel], expected, rtol=1e-5, atol=1e-6)
