import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from phenopipe.config import IngestConfig
from phenopipe.embed.rescale import Scale, find_scale, read_pixel_size, rescale_planes
from phenopipe.errors import InputError
from phenopipe.ingest.index import PlateIndex
from phenopipe.ingest.plate_image import Acquisition, make_template
from phenopipe.pyramid import halve

zooms = st.floats(0.3, 3.5)
fields = arrays.arrays(
    st.sampled_from(["uint8", "uint16"]),
    st.tuples(st.integers(1, 3), st.integers(4, 40), st.integers(4, 40)),
)


def draw_field(shape=(2, 61, 47), dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def weigh_triangle(length, zoom):
    """Make the matrix of Heckbert's triangle filter from its formula, in float64."""
    reach = max(1.0, 1 / zoom)
    centres = (np.arange(max(1, math.floor(length * zoom + 1e-6))) + 0.5) / zoom
    away = np.abs(np.arange(length) + 0.5 - centres[:, None]) / reach
    weights = np.maximum(0.0, 1.0 - away)
    return weights / weights.sum(axis=1, keepdims=True)


def describe_image(*, levels=2, **size):
    """Have ingest describe a field's image."""
    index = PlateIndex(Path(), "imagexpress", "", "P", (), {"1": "DNA"}, (8, 12), **size)
    template = make_template(
        Acquisition("", ("1",), n_t=1, n_z=1),
        plane=(64, 64),
        dtype="uint16",
        index=index,
        windows={},
        config=IngestConfig(levels=levels),
    )
    return json.loads(template.image_json)["attributes"]


@pytest.mark.parametrize("zoom", [0.31, 0.5, 0.65, 0.9, 1.3, 2.0, 3.7])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_zoom_is_the_triangle_filter_of_the_formula(zoom, dtype):
    field = draw_field(dtype=dtype)
    rows, columns = (weigh_triangle(length, zoom) for length in field.shape[1:])
    exact = rows @ field.astype(np.float64) @ columns.T
    found = rescale_planes(field, Scale(zoom=zoom))
    assert (found.dtype, found.shape) == (field.dtype, exact.shape)
    # Half a count by rounding; Pillow keeps the border of what it resamples in float32.
    assert np.abs(found - exact).max() <= 0.5 + 2e-6 * np.iinfo(dtype).max


@pytest.mark.parametrize("zoom", [0.25, 0.5, 0.75, 1.5, 2.0])
def test_a_zoom_is_torchs_antialiased_interpolation(zoom):
    torch = pytest.importorskip("torch")
    field = draw_field((2, 64, 48))
    size = [int(side * zoom) for side in field.shape[1:]]
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(field.astype(np.float32))[None],
        size=size,
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )[0].numpy()
    # Half a count by rounding; torch weighs in float32.
    assert np.abs(rescale_planes(field, Scale(zoom=zoom)) - expected).max() <= 0.5 + 4e-6 * 65535


@settings(deadline=None)
@given(field=fields, zoom=zooms)
def test_no_value_leaves_the_range_of_the_plane(field, zoom):
    found = rescale_planes(field, Scale(zoom=zoom))
    assert found.dtype == field.dtype
    for before, after in zip(field, found, strict=True):
        assert before.min() <= after.min()
        assert after.max() <= before.max()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_saturated_plane_stays_saturated(dtype):
    top = np.iinfo(dtype).max
    field = np.full((1, 50, 50), top, dtype)
    for zoom in (0.37, 0.77, 1.9):
        assert (rescale_planes(field, Scale(zoom=zoom)) == top).all()


def test_what_is_too_fine_for_the_pixels_is_averaged_and_never_aliases():
    stripes = np.tile(np.array([0, 1000], np.uint16), (1, 96, 48))
    inner = rescale_planes(stripes, Scale(zoom=0.4))[:, 2:-2, 2:-2]
    assert np.abs(inner.astype(int) - 500).max() <= 40


@pytest.mark.parametrize("scale", [Scale(zoom=0.6), Scale(zoom=1.7), Scale(0, 1), Scale(0, 1, 0.8)])
def test_things_stay_in_their_place(scale):
    """A ramp keeps its slope, and its place: a value is where the centre of its pixel is."""
    ramp = np.tile((np.arange(120) * 100 + 50).astype(np.uint16), (1, 120, 1))
    found = rescale_planes(ramp, scale)[0, 5:-5, 5:-5]
    centres = (np.arange(5, 5 + found.shape[1]) + 0.5) * scale.pixel
    assert np.abs(found - centres * 100).max() <= 10  # a tenth of a pixel


@settings(deadline=None)
@given(field=fields, zoom=st.floats(0.51, 1), halvings=st.integers(0, 2))
def test_a_level_of_the_plate_gives_what_level_0_gives(field, zoom, halvings):
    level = field
    for _ in range(halvings):
        level = halve(level)
    np.testing.assert_array_equal(
        rescale_planes(level, Scale(level=halvings, zoom=zoom)),
        rescale_planes(field, Scale(halvings=halvings, zoom=zoom)),
    )


@given(pixel_um=st.floats(0.05, 2.5), levels=st.integers(1, 5))
def test_the_pixels_come_out_as_wanted_and_as_little_as_may_be_is_read(pixel_um, levels):
    scale = find_scale(pixel_um, wanted_um=0.65, levels=levels, where="P")
    assert scale.pixel * pixel_um == pytest.approx(0.65, rel=0.0101)
    assert scale.level < levels
    assert scale.halvings == 0 or scale.level == levels - 1
    # Never coarser than wanted on the way, but for the 1% that count as equal.
    assert pixel_um * 2 ** (scale.level + scale.halvings) <= max(0.65 * 1.01, pixel_um)
    assert scale.zoom > 0.5


@pytest.mark.parametrize("pixel_um", [0.6501, 0.656, 0.6440, 0.3225, 0.65])
def test_sizes_within_one_percent_are_left_alone(pixel_um):
    scale = find_scale(pixel_um, wanted_um=0.65, levels=2, where="P")
    assert (scale.zoom, scale.halvings) == (1.0, 0)
    field = draw_field()
    assert rescale_planes(field, scale) is field


def test_pixels_far_too_coarse_are_refused():
    with pytest.raises(InputError, match=r"0\.65 um, or at most 4 times that, in P, found 325 um"):
        find_scale(325, wanted_um=0.65, where="P")


def test_the_size_that_ingest_writes_is_read():
    assert read_pixel_size(describe_image(pixel_size_um=0.325, levels=3)) == (0.325, 3)


def test_a_plate_that_does_not_tell_its_size_has_none():
    assert read_pixel_size(describe_image()) == (None, 2)
    assert read_pixel_size({}) == (None, 1)
