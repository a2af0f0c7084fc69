import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from phenopipe.errors import InputError
from phenopipe.ingest.illumination import correct_illumination, read_illumination

SIDES = (3, 4)


def test_a_function_as_cellprofiler_saves_it(tmp_path):
    function = np.random.default_rng(0).uniform(1, 3, (6, 8))
    np.save(tmp_path / "dna.npy", function)
    found = read_illumination(tmp_path / "dna.npy")
    np.testing.assert_array_equal(found, function.astype("float32"), strict=True)


@pytest.mark.parametrize(
    "function",
    [
        np.zeros((3, 4)),
        -np.ones((3, 4)),
        np.full((3, 4), np.nan),
        np.full((3, 4), np.inf),
        np.ones(3),
        np.ones((2, 3, 4)),
        np.ones((0, 4)),
        np.array([["a"]]),
        np.ones((3, 4), bool),
        np.ones((3, 4), complex),
    ],
)
def test_what_is_no_function_is_refused(tmp_path, function):
    np.save(tmp_path / "dna.npy", function)
    with pytest.raises(InputError, match="numbers above zero of shape"):
        read_illumination(tmp_path / "dna.npy")


def test_pickles_are_not_opened(tmp_path):
    np.save(tmp_path / "dna.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(InputError, match="expected an illumination function"):
        read_illumination(tmp_path / "dna.npy")


def header(text):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"II*\x00",
        b"PK\x03\x04",
        header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999, 999999999)}\n"),
        header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4)}\n") + bytes(8),
        header(b"{'descr': '<f8', 'fortran_order': False, 'shape': 'big'}\n"),
        header(b"__import__('os')\n"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "dna.npy").write_bytes(content)
    with pytest.raises(InputError, match="expected an illumination function"):
        read_illumination(tmp_path / "dna.npy")


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match=r"dna.npy"):
        read_illumination(tmp_path / "dna.npy")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@given(st.data())
def test_the_division_is_rounded_once_and_cut_at_the_top(dtype, data):
    plane = data.draw(arrays.arrays(dtype, SIDES))
    function = data.draw(arrays.arrays("float32", SIDES, elements=st.floats(0.125, 8, width=32)))
    found = correct_illumination(plane, function)
    top = np.iinfo(dtype).max
    exact = np.minimum(plane.astype("float64") / function.astype("float64"), top)
    assert found.dtype == plane.dtype
    # Single precision has 24 bits: a quotient near a half may round to either side.
    assert np.abs(found - exact).max() <= 0.5 + top * 2.0**-24


def test_a_flat_function_changes_nothing():
    plane = np.arange(12, dtype="uint16").reshape(SIDES) * 5000
    found = correct_illumination(plane, np.ones(SIDES, "float32"))
    np.testing.assert_array_equal(found, plane, strict=True)


def test_another_shape_is_refused():
    with pytest.raises(InputError, match=r"of the image's \(3, 4\), found \(4, 3\)"):
        correct_illumination(np.ones(SIDES, "uint8"), np.ones((4, 3), "float32"))
