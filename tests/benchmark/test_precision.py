from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from phenopipe.benchmark.precision import (
    average_precision,
    expected_average_precision,
    random_average_precisions,
)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(0, 30), st.integers(0, 99))
def test_it_is_sklearns_average_precision(k, m, seed):
    rng = np.random.default_rng(seed)
    positive, negative = rng.normal(size=(3, k)), rng.normal(size=(3, m))
    relevant = np.repeat([1, 0], [k, m])
    expected = [
        average_precision_score(relevant, np.concatenate(pair))
        for pair in zip(positive, negative, strict=True)
    ]
    np.testing.assert_allclose(average_precision(positive, negative), expected)


def test_of_equally_similar_ones_the_positive_comes_first():
    assert average_precision(np.array([[0.5]]), np.array([[0.5, 0.5]])) == [1.0]


@pytest.mark.parametrize(("k", "m"), [(1, 0), (1, 4), (2, 3), (3, 3)])
def test_chance_is_the_mean_over_all_rankings(k, m):
    rankings = set(permutations([1] * k + [0] * m))
    found = []
    for ranking in rankings:
        hits = np.flatnonzero(ranking) + 1
        found.append(np.mean(np.arange(1, k + 1) / hits))
    assert expected_average_precision(k, m) == pytest.approx(np.mean(found))


def test_random_rankings_scatter_around_chance():
    drawn = random_average_precisions(3, 40, n=20_000, seed=0)
    error = drawn.std() / np.sqrt(len(drawn))
    assert drawn.mean() == pytest.approx(expected_average_precision(3, 40), abs=4 * error)
    np.testing.assert_array_equal(drawn, random_average_precisions(3, 40, n=20_000, seed=0))
