import numpy as np
import pandas as pd
import pytest

from phenopipe.errors import InputError
from phenopipe.maps.controls import batch_rows, control_moments


def test_rows_are_split_by_batch_in_the_order_of_names():
    labels = np.array(["b", "a", "c", "a", "b"])
    found = batch_rows(labels, 5)
    assert list(found) == ["a", "b", "c"]
    for name, index in found.items():
        np.testing.assert_array_equal(index, np.flatnonzero(labels == name))
    assert batch_rows([], 0) == {}


@pytest.mark.parametrize(
    "labels", [pd.Series(["a", "b"], index=[7, 7]), pd.Categorical(["a", "b"])]
)
def test_labels_go_by_position_whatever_holds_them(labels):
    assert list(batch_rows(labels, 2)) == ["a", "b"]


def test_batches_may_have_numbers_for_names():
    assert list(batch_rows([10, 9, 10], 3)) == ["10", "9"]


@pytest.mark.parametrize("hole", [None, np.nan, pd.NA])
def test_a_missing_label_is_no_batch_of_its_own(hole):
    with pytest.raises(InputError, match="found none for 1 of 3 rows, the first at row 1"):
        batch_rows(["a", hole, "a"], 3)


def test_labels_that_read_alike_are_not_taken_for_one():
    with pytest.raises(InputError, match="found '1' as text and as something else"):
        batch_rows(np.array(["1", 1, "2"], dtype=object), 3)


def test_wells_that_stand_there_twice_count_twice():
    x = np.array([[1.0], [1.0], [4.0]])
    moments = control_moments(x, control=[True, True, True])[""]
    assert (moments.count, moments.mean[0]) == (3, 2)


def test_bad_flags_and_labels_are_named():
    x = np.arange(6.0).reshape(3, 2)
    with pytest.raises(InputError, match=r"one control flag a row, found \(2,\) for 3 rows"):
        control_moments(x, control=[True, False])
    with pytest.raises(InputError, match="one batch label a row"):
        control_moments(x, batch=["a"], control=[True, True, False])
    with pytest.raises(InputError, match="found 'negative': compare control_type"):
        control_moments(x, control=["negative", "", ""])
    with pytest.raises(InputError, match="as control flags, found nan"):
        control_moments(x, control=[1.0, np.nan, 0.0])
    with pytest.raises(InputError, match="found none in ''"):
        control_moments(x, control=[False, False, False])
