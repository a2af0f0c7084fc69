import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phenopipe.benchmark import tails
from phenopipe.benchmark.tails import extreme_pairs
from phenopipe.errors import InputError
from phenopipe.stats import cosine_pairs

thresholds = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted).filter(lambda t: t[0] < t[1])


def flag_by_sorting(x, limits):
    """Rank each pair among all of them, as EFAAR_benchmarking's compute_recall does."""
    null = cosine_pairs(x)
    ranked = np.sort(null)
    right = np.searchsorted(ranked, null, side="right") / len(null)
    left = np.searchsorted(ranked, null, side="left") / len(null)
    return (right <= limits[0]) | (left >= limits[1])


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 30), st.integers(1, 3), st.integers(0, 99), thresholds)
def test_the_tails_are_those_of_sorted_cosines(n, levels, seed, limits):
    # Few levels give many pairs the same cosine.
    x = np.random.default_rng(seed).integers(-levels, levels + 1, size=(n, 3))
    np.testing.assert_array_equal(extreme_pairs(x, tuple(limits)), flag_by_sorting(x, limits))


@pytest.mark.parametrize("limits", [(0.05, 0.95), (0.1, 0.9), (0.0, 1.0), (0.001, 0.002)])
def test_a_sample_of_pairs_changes_nothing(monkeypatch, limits):
    x = np.random.default_rng(0).normal(size=(150, 5))
    monkeypatch.setattr(tails, "_SAMPLED_PAIRS", 1000)
    monkeypatch.setattr(tails, "_BLOCK_ROWS", 16)
    np.testing.assert_array_equal(extreme_pairs(x, limits), flag_by_sorting(x, limits))


def test_an_unlucky_sample_changes_nothing(monkeypatch):
    x = np.random.default_rng(0).normal(size=(60, 5))
    wrong = np.array([[0.9, 0.95], [-0.95, -0.9]])
    monkeypatch.setattr(tails, "_bracket", lambda *_: wrong)
    limits = (0.05, 0.95)
    np.testing.assert_array_equal(extreme_pairs(x, limits), flag_by_sorting(x, limits))


def test_brackets_are_narrow_where_pairs_are_many():
    unit = np.random.default_rng(0).normal(size=(2000, 8))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    n = 2000 * 1999 // 2
    null = np.sort(cosine_pairs(unit))
    brackets = tails._bracket(unit, tails._ranks(0.05, 0.95, n), n)
    held = [np.mean((null >= low) & (null <= high)) for low, high in brackets]
    assert max(held) < 0.01


@pytest.mark.parametrize("limits", [(0.95, 0.05), (-0.1, 0.9), (0.5, 0.5), (0.1, 1.1)])
def test_thresholds_that_are_none(limits):
    with pytest.raises(InputError, match="expected thresholds 0 <= low < high <= 1"):
        extreme_pairs(np.eye(3), limits)


def test_one_perturbation_has_no_pairs():
    assert extreme_pairs([[1.0, 0.0]]).shape == (0,)
