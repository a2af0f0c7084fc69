import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import brunnermunzel
from statsmodels.stats.nonparametric import rank_compare_2indep

from phenopipe.errors import InputError
from phenopipe.stats import (
    bootstrap_counts,
    brunner_munzel,
    compare_groups,
    cosine_pairs,
    pair_index,
    percentile_interval,
)

# Few distinct values, so that most samples have ties.
samples = st.lists(st.integers(0, 6), min_size=2, max_size=30)


@given(samples, samples)
def test_brunner_munzel_is_that_of_statsmodels_and_scipy(within, between):
    ours = brunner_munzel(within, between)
    with np.errstate(all="ignore"):
        peer = rank_compare_2indep(within, between, use_t=False)
        options = {"alternative": "less", "distribution": "normal"}
        other = brunnermunzel(between, within, **options)
        p_value = peer.test_prob_superior(alternative="larger").pvalue
    assert ours.probability == pytest.approx(peer.prob1, rel=1e-12)
    assert ours.statistic == pytest.approx(peer.statistic, rel=1e-9, abs=1e-12, nan_ok=True)
    assert ours.p_value == pytest.approx(p_value, rel=1e-9, nan_ok=True)
    assert ours.p_value == pytest.approx(other.pvalue, rel=1e-9, nan_ok=True)


@given(samples, samples)
def test_swapping_the_samples_turns_the_probability_round(within, between):
    one, other = brunner_munzel(within, between), brunner_munzel(between, within)
    assert one.probability + other.probability == pytest.approx(1)
    assert one.statistic == pytest.approx(-other.statistic, nan_ok=True)


def test_samples_too_small_for_a_test():
    assert np.isnan(brunner_munzel([], [1, 2])).all()
    statistic, probability, p_value = brunner_munzel([1.5], [1, 2])
    assert (np.isnan(statistic), probability, np.isnan(p_value)) == (True, 0.5, True)


def test_samples_that_do_not_overlap():
    assert brunner_munzel([5, 6, 7], [1, 2]) == (np.inf, 1.0, 0.0)


@pytest.mark.parametrize("n", [0, 1, 2, 513, 700])
def test_cosines_of_pairs_are_those_of_scipy_in_its_order(n):
    x = np.random.default_rng(n).normal(size=(n, 4))
    expected = 1 - pdist(x, "cosine") if n > 1 else np.empty(0)
    np.testing.assert_allclose(cosine_pairs(x), expected, atol=1e-12)


def test_pair_index_numbers_the_upper_triangle():
    first, second = np.triu_indices(9, 1)
    np.testing.assert_array_equal(pair_index(first, second, 9), np.arange(36))
    np.testing.assert_array_equal(pair_index(second, first, 9), np.arange(36))


def test_a_row_that_is_not_finite_is_named():
    with pytest.raises(InputError, match="in 1 of 3 rows, the first at row 2"):
        cosine_pairs([[1.0, 0.0], [0.0, 1.0], [np.nan, 1.0]])


def test_groups_are_compared_as_by_listing_their_pairs():
    rng = np.random.default_rng(0)
    x, groups = rng.normal(size=(30, 6)), np.array(list("aaabbbbbcc") * 3)
    cosine = 1 - pdist(x, "cosine")
    one, other = (groups[side] for side in np.triu_indices(30, 1))
    for name, row in compare_groups(x, groups).iterrows():
        of_group = (one == name) | (other == name) if name != "genome" else np.True_
        expected = rank_compare_2indep(
            cosine[(one == other) & of_group], cosine[(one != other) & of_group], use_t=False
        )
        assert (row.n_within, row.n_between) == (expected.nobs_1, expected.nobs_2)
        assert row.probability == pytest.approx(expected.prob1, rel=1e-12)
        assert row.statistic == pytest.approx(expected.statistic, rel=1e-9)


def test_a_resample_draws_each_item_once_on_average():
    counts = bootstrap_counts(50, n_bootstrap=2000, seed=1)
    assert (counts.sum(axis=1) == 50).all()
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.1)
    np.testing.assert_allclose(counts.var(axis=0), 1 - 1 / 50, atol=0.15)  # multinomial
    np.testing.assert_array_equal(counts, bootstrap_counts(50, n_bootstrap=2000, seed=1))


def test_an_interval_leaves_out_what_is_not_known():
    assert percentile_interval([np.nan, 1.0, np.nan, 3.0], level=0.5) == (1.5, 2.5)
    assert np.isnan(percentile_interval([np.nan])).all()
