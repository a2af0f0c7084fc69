import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from phenopipe.pyramid import halve


@settings(deadline=None)
@given(arrays.arrays("uint16", st.tuples(st.integers(1, 200), st.integers(1, 9))))
def test_halving_is_the_rounded_mean_of_each_square(pixels):
    padded = np.pad(pixels, [(0, size % 2) for size in pixels.shape], mode="edge").astype(float)
    squares = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2)
    np.testing.assert_array_equal(halve(pixels), np.floor(squares.mean(axis=(1, 3)) + 0.5))
