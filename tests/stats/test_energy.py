import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import energy_distance as energy_distance_1d

from phenopipe.errors import InputError
from phenopipe.stats import energy
from phenopipe.stats.energy import energy_distance, mean_distance, mean_distances


def draw(n, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 9))
def test_one_column_gives_the_square_of_scipys_energy_distance(n, m, seed):
    x, y = draw(n, 1, seed), draw(m, 1, seed + 10)
    expected = energy_distance_1d(x.ravel(), y.ravel()) ** 2
    assert energy_distance(x, y) == pytest.approx(expected, abs=1e-12)


def test_the_distance_of_a_sample_to_itself_is_zero_and_both_ways_are_one():
    x, y = draw(30), draw(20, seed=1) + 1
    assert energy_distance(x, x) == pytest.approx(0, abs=1e-12)
    assert energy_distance(x, y) == pytest.approx(energy_distance(y, x))
    assert energy_distance(x, y) > 0


def test_blocks_of_rows_give_what_the_whole_gives(monkeypatch):
    x, y = draw(50), draw(33, seed=1)
    whole = mean_distance(x, y)
    monkeypatch.setattr(energy, "_BLOCK_ROWS", 7)
    assert mean_distance(x, y) == pytest.approx(whole, rel=1e-12)
    known = energy_distance(x, y, spread=mean_distance(y, y))
    assert known == energy_distance(x, y)


@pytest.mark.parametrize("other", [np.zeros((0, 3)), np.zeros((2, 4))])
def test_samples_that_cannot_be_compared(other):
    with pytest.raises(InputError, match="two samples of one width, each with a row"):
        energy_distance(draw(5), other)


def test_one_product_gives_the_distances_of_each_row():
    x, y = draw(40) + 100, draw(25, seed=1) + 100
    expected = [mean_distance([row], y) for row in x]
    np.testing.assert_allclose(mean_distances(x, y), expected, rtol=1e-10)
