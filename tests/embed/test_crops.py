import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from phenopipe.embed import crop_field, crop_origins
from phenopipe.errors import InputError

grids = st.fixed_dictionaries(
    {"height": st.integers(8, 90), "width": st.integers(8, 90), "crop": st.integers(1, 8)}
)
# Fields that may be smaller than a crop, which only padding allows.
any_grids = st.fixed_dictionaries(
    {"height": st.integers(1, 60), "width": st.integers(1, 60), "crop": st.integers(1, 70)}
)
strides = st.integers(1, 12)
edges = st.sampled_from(["centre", "shift", "pad"])


def count_views(height, width, origins, crop):
    """Count how many crops see each pixel."""
    seen = np.zeros((height, width), int)
    for y, x in origins:
        seen[y : y + crop, x : x + crop] += 1
    return seen


@pytest.mark.parametrize("edge", ["centre", "shift", "pad"])
def test_a_field_of_2048_px_has_64_crops_of_256_px(edge):
    origins = crop_origins(2048, 2048, crop=256, stride=256, edge=edge)
    assert origins.dtype == np.int32
    assert origins.tolist() == [[y, x] for y in range(0, 2048, 256) for x in range(0, 2048, 256)]


@given(grid=grids, stride=strides)
def test_as_many_crops_as_fit_all_inside_in_reading_order(grid, stride):
    origins = crop_origins(**grid, stride=stride)
    height, width, crop = grid["height"], grid["width"], grid["crop"]
    assert len(origins) == ((height - crop) // stride + 1) * ((width - crop) // stride + 1)
    assert origins.min() >= 0
    assert (origins + crop <= [height, width]).all()
    assert origins.tolist() == sorted(origins.tolist())


@given(grid=grids)
def test_crops_a_side_apart_never_overlap(grid):
    origins = crop_origins(**grid, stride=grid["crop"])
    assert count_views(grid["height"], grid["width"], origins, grid["crop"]).max() == 1


@given(grid=grids, stride=strides)
def test_the_margins_are_even(grid, stride):
    origins = crop_origins(**grid, stride=stride)
    near = origins.min(axis=0)
    far = np.array([grid["height"], grid["width"]]) - (origins.max(axis=0) + grid["crop"])
    assert set((far - near).tolist()) <= {0, 1}


@given(grid=grids, stride=strides)
def test_shifted_crops_see_all_pixels_and_lie_inside(grid, stride):
    height, width, crop = grid["height"], grid["width"], grid["crop"]
    origins = crop_origins(**grid, stride=stride, edge="shift")
    assert origins.min() == 0
    assert (origins.max(axis=0) + crop == [height, width]).all()
    places = list(map(tuple, origins.tolist()))
    assert places == sorted(set(places))
    if stride <= crop:
        assert count_views(height, width, origins, crop).min() == 1


@given(grid=any_grids, stride=strides)
def test_padded_crops_see_all_pixels_and_none_is_needless(grid, stride):
    height, width, crop = grid["height"], grid["width"], grid["crop"]
    origins = crop_origins(**grid, stride=stride, edge="pad")
    assert (origins % stride == 0).all()
    assert (origins < [height, width]).all()
    if stride <= crop:
        assert count_views(height, width, origins, crop).min() >= 1
    # Without the last row or column of crops, some pixels would not be seen.
    last = origins.max(axis=0)
    assert ((last == 0) | (last - stride + crop < [height, width])).all()


@given(grid=grids, stride=strides)
def test_where_the_grid_fits_the_edge_does_not_matter(grid, stride):
    crop = grid["crop"]
    height, width = (crop + stride * (grid[side] // stride) for side in ("height", "width"))
    centre, shift, pad = (
        crop_origins(height, width, crop=crop, stride=stride, edge=edge).tolist()
        for edge in ("centre", "shift", "pad")
    )
    assert centre == shift
    # A padded grid with gaps ends where no pixel of the field is left to start at.
    assert stride > crop or centre == pad


@settings(deadline=None)
@given(grid=grids, stride=strides, edge=edges)
def test_each_crop_is_the_slice_at_its_origin(grid, stride, edge):
    height, width, crop = grid["height"], grid["width"], grid["crop"]
    field = np.arange(2 * height * width, dtype=np.uint16).reshape(2, height, width)
    origins = crop_origins(**grid, stride=stride, edge=edge)
    crops = crop_field(field, origins, crop=crop)
    assert (crops.shape, crops.dtype) == ((len(origins), 2, crop, crop), field.dtype)
    reflected = np.pad(field, [(0, 0), (0, crop), (0, crop)], mode="reflect")
    slices = sliding_window_view(reflected, (crop, crop), axis=(1, 2))
    np.testing.assert_array_equal(crops, slices[:, origins[:, 0], origins[:, 1]].swapaxes(0, 1))


def test_a_field_smaller_than_a_crop_is_refused_unless_padded():
    with pytest.raises(
        InputError, match=r"at least 96 x 96 pixels, found 80 x 200: set embed\.crop to 80"
    ):
        crop_origins(80, 200, crop=96, stride=96, edge="shift")
    assert crop_origins(80, 200, crop=96, stride=96, edge="pad").tolist() == [
        [0, 0],
        [0, 96],
        [0, 192],
    ]
