import numpy as np
import pandas as pd
import pytest

from phenopipe.errors import InputError
from phenopipe.stats import find_rows, finite_rows, float_rows, to_numpy


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int8, np.float64),
        (object, np.float64),
    ],
)
def test_floats_stay_as_wide_as_they_are_and_all_else_is_float64(given, found):
    assert float_rows(np.ones((2, 3), given)).dtype == found
    assert finite_rows(np.ones((2, 3), given)).dtype == np.float64


def test_rows_that_are_floats_already_are_not_copied():
    x = np.ones((4, 2), np.float32)
    assert float_rows(x) is x


def test_a_table_of_features_is_taken_as_rows():
    table = pd.DataFrame({"area": [1, 2], "texture": [0.5, 0.25]})
    np.testing.assert_array_equal(float_rows(table), [[1, 0.5], [2, 0.25]])


def test_rows_too_large_to_be_added_up_are_finite_all_the_same():
    x = np.full((2, 4), 3e38, np.float32)
    np.testing.assert_array_equal(float_rows(x), x)


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_hole_is_named_by_its_row(hole, dtype):
    x = np.ones((5, 3), dtype)
    x[3, 1] = x[4, 2] = hole
    with pytest.raises(InputError, match="NaN or infinity in 2 of 5 rows, the first at row 3"):
        float_rows(x)
    x[3] = [np.inf, -np.inf, 1]  # the sum is NaN, not infinite
    with pytest.raises(InputError, match="in 2 of 5 rows"):
        float_rows(x)


def test_tensors_stay_tensors_until_they_are_asked_for():
    torch = pytest.importorskip("torch")
    rows = float_rows(torch.ones((2, 3), dtype=torch.float16))
    assert isinstance(rows, torch.Tensor)
    assert rows.dtype == torch.float32
    np.testing.assert_array_equal(to_numpy(rows), np.ones((2, 3)))
    with pytest.raises(InputError, match="in 1 of 2 rows, the first at row 1"):
        float_rows(torch.tensor([[1.0], [torch.nan]]))


@pytest.mark.parametrize("index", [[2, 3, 4], [4, 3, 2], [0, 2], [1], []])
def test_rows_are_found_in_order_or_out_of_it(index):
    x = np.arange(12.0).reshape(6, 2)
    numbers = np.array(index, dtype=np.int64)
    np.testing.assert_array_equal(x[find_rows(numbers, x)], x[numbers])
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(x)
    np.testing.assert_array_equal(tensor[find_rows(numbers, tensor)].numpy(), x[numbers])
