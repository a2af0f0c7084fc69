import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phenopipe.embed import crop_field, crop_origins
from phenopipe.errors import InputError

grids = st.fixed_dictionaries(
    {"height": st.integers(8, 90), "width": st.integers(8, 90), "crop": st.integers(1, 8)}
)
strides = st.integers(1, 12)


def test_a_field_of_2048_px_has_64_crops_of_256_px():
    origins = crop_origins(2048, 2048, crop=256, stride=256)
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
    covered = np.zeros((grid["height"], grid["width"]), int)
    crop = grid["crop"]
    for y, x in crop_origins(**grid, stride=crop):
        covered[y : y + crop, x : x + crop] += 1
    assert covered.max() == 1


@given(grid=grids, stride=strides)
def test_the_margins_are_even(grid, stride):
    origins = crop_origins(**grid, stride=stride)
    near = origins.min(axis=0)
    far = np.array([grid["height"], grid["width"]]) - (origins.max(axis=0) + grid["crop"])
    assert set((far - near).tolist()) <= {0, 1}


@given(grid=grids, stride=strides)
def test_crops_are_the_fields_pixels(grid, stride):
    height, width, crop = grid["height"], grid["width"], grid["crop"]
    field = np.arange(2 * height * width, dtype=np.uint16).reshape(2, height, width)
    origins = crop_origins(**grid, stride=stride)
    crops = crop_field(field, origins, crop=crop)
    assert crops.shape == (len(origins), 2, crop, crop)
    first = origins @ [width, 1]
    np.testing.assert_array_equal(crops[:, 0, 0, 0], first)
    np.testing.assert_array_equal(
        crops[:, 1, -1, -1], field[1].ravel()[first + (crop - 1) * (width + 1)]
    )


def test_a_field_smaller_than_a_crop_is_refused():
    with pytest.raises(
        InputError, match=r"at least 96 x 96 pixels, found 80 x 200: set embed\.crop"
    ):
        crop_origins(80, 200, crop=96, stride=96)
