from itertools import combinations
from math import comb

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from phenopipe.hits.permute import draw_labels, permutation_p


@given(
    layout=st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 9)).map(lambda p: (p[0] + p[1], p[1])),
        min_size=1,
        max_size=4,
    ).map(tuple)
)
def test_labels_stay_within_their_stratum_and_keep_their_number(layout):
    (drawn,) = draw_labels(layout, n_permutations=50, seed=1)
    starts = np.cumsum([0, *(wells for wells, _ in layout)])
    for labels in drawn:
        assert len(set(labels.tolist())) == len(labels)
        counts, _ = np.histogram(labels, bins=starts) if len(labels) else ([0] * len(layout), 0)
        # np.histogram closes its last bin: no label may be as large as all wells.
        assert labels.max(initial=-1) < starts[-1]
        assert list(counts) == [labelled for _, labelled in layout]


def test_each_subset_is_as_likely():
    drawn = np.concatenate(list(draw_labels(((6, 3),), n_permutations=20_000, seed=2)))
    names = {subset: place for place, subset in enumerate(combinations(range(6), 3))}
    counts = np.bincount([names[tuple(sorted(row))] for row in drawn.tolist()])
    assert len(counts) == comb(6, 3)
    assert chisquare(counts).pvalue > 0.001


def test_draws_do_not_depend_on_what_was_drawn_before():
    first = list(draw_labels(((9, 2),), n_permutations=900, seed=0))
    list(draw_labels(((7, 3),), n_permutations=900, seed=0))
    for one, other in zip(first, draw_labels(((9, 2),), n_permutations=900, seed=0), strict=True):
        np.testing.assert_array_equal(one, other)


def test_p_counts_the_observed_labels_among_the_permutations():
    assert permutation_p(3.0, [np.zeros(99)]) == 1 / 100
    assert permutation_p(3.0, [np.array([3.0, 1.0, 4.0, 0.0])]) == 3 / 5


def test_p_is_uniform_under_the_null_though_draws_stop_early():
    random = np.random.default_rng(0)
    p_values = [
        permutation_p(random.normal(), (random.normal(size=100) for _ in range(20)))
        for _ in range(2000)
    ]
    assert kstest(p_values, "uniform").pvalue > 0.001


def test_no_more_is_drawn_once_the_p_value_is_known():
    asked = []

    def null():
        for part in range(100):
            asked.append(part)
            yield np.ones(100)

    assert permutation_p(1.0, null()) == 1.0
    assert asked == [0]
