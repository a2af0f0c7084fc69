import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import brunnermunzel
from statsmodels.stats.nonparametric import rank_compare_2indep

from phenopipe.stats import RankCounts, brunner_munzel

# Few distinct values, so that most samples have ties.
samples = st.lists(st.integers(0, 6), min_size=2, max_size=30)


@settings(deadline=None)
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


@pytest.mark.parametrize("decimals", [3, 16])  # many ties, and none
def test_large_samples_keep_their_digits(decimals):
    rng = np.random.default_rng(decimals)
    within = rng.normal(0.02, 0.3, size=60_000).round(decimals)
    between = rng.normal(0, 0.2, size=400_000).round(decimals)
    ours = brunner_munzel(within, between)
    peer = rank_compare_2indep(within, between, use_t=False)
    assert ours.probability == pytest.approx(peer.prob1, rel=1e-13)
    assert ours.statistic == pytest.approx(peer.statistic, rel=1e-9)
    p_value = peer.test_prob_superior(alternative="larger").pvalue
    assert 0 < p_value < 1e-9
    assert ours.p_value == pytest.approx(p_value, rel=1e-9)


@settings(deadline=None)
@given(samples, st.lists(samples, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_blocks_in_any_order_are_the_whole_to_the_last_bit(within, blocks, random):
    counts = RankCounts(within)
    for block in random.sample([*blocks, []], len(blocks) + 1):
        counts.add(block)
    whole = brunner_munzel(within, np.concatenate(blocks))
    assert repr(counts.test()) == repr(whole)


@settings(deadline=None)
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
