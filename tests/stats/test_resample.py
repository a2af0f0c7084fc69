import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from phenopipe.stats.resample import (
    bootstrap_blocks,
    bootstrap_counts,
    bootstrap_means,
    difference_p_value,
    null_p_values,
    percentile_interval,
    share_above,
    sign_flip_p_value,
)


def test_a_resample_draws_each_item_once_on_average():
    counts = bootstrap_counts(50, n_bootstrap=2000, seed=1)
    assert (counts.sum(axis=1) == 50).all()
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.1)
    np.testing.assert_allclose(counts.var(axis=0), 1 - 1 / 50, atol=0.15)  # multinomial
    np.testing.assert_array_equal(counts, bootstrap_counts(50, n_bootstrap=2000, seed=1))


def test_resamples_drawn_in_blocks_are_those_drawn_at_once():
    draws = np.random.default_rng(3).integers(0, 7, size=(120, 7))
    expected = np.array([np.bincount(draw, minlength=7) for draw in draws])
    blocks = list(bootstrap_blocks(7, n_bootstrap=120, seed=3))
    assert [len(block) for block in blocks] == [50, 50, 20]
    np.testing.assert_array_equal(np.concatenate(blocks), expected)


@pytest.mark.parametrize("width", [1, 2])
def test_means_over_resamples_are_those_of_the_items_drawn(width):
    rng = np.random.default_rng(0)
    members, values = rng.integers(0, 9, size=(30, width)), rng.normal(size=30)
    found = bootstrap_means(values, members, n=9, n_bootstrap=60, seed=5)
    counts = bootstrap_counts(9, n_bootstrap=60, seed=5)
    for mean, count in zip(found, counts, strict=True):
        weights = count[members].prod(axis=1)
        assert mean == pytest.approx(np.average(values, weights=weights))


def test_means_over_resamples_cover_as_a_t_interval_does():
    values = np.random.default_rng(0).normal(size=200)
    found = bootstrap_means(values, np.arange(200)[:, None], n=200, n_bootstrap=2000, seed=0)
    assert found.std() == pytest.approx(values.std() / np.sqrt(200), rel=0.05)


def test_a_resample_without_any_item_is_nan():
    found = bootstrap_means([1.0], np.array([[0]]), n=3, n_bootstrap=100, seed=0)
    share = (2 / 3) ** 3  # of resamples that miss the item
    assert np.isnan(found).mean() == pytest.approx(share, abs=0.15)
    assert np.isnan(bootstrap_means([], np.empty((0, 1), int), n=3, n_bootstrap=5, seed=0)).all()


def test_an_interval_leaves_out_what_is_not_known():
    assert percentile_interval([np.nan, 1.0, np.nan, 3.0], level=0.5) == (1.5, 2.5)
    assert np.isnan(percentile_interval([np.nan])).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1), st.lists(st.integers(-3, 3), min_size=1))
def test_shares_and_p_values_count_the_null(values, null):
    at_least = [sum(drawn >= value for drawn in null) for value in values]
    above = [sum(drawn > value for drawn in null) for value in values]
    np.testing.assert_allclose(share_above(values, null), np.array(at_least) / len(null))
    np.testing.assert_allclose(share_above(values, null, ties="below"), np.array(above) / len(null))
    np.testing.assert_allclose(
        null_p_values(values, [*null, np.nan]), (1 + np.array(at_least)) / (1 + len(null))
    )


def test_no_null_gives_no_p_value():
    assert np.isnan(share_above([1.0], [np.nan])).all()
    assert np.isnan(null_p_values([1.0], [])).all()


def test_a_difference_is_sure_where_zero_lies_outside_its_resamples():
    drawn = np.random.default_rng(0).normal(3, 1, size=9999)
    assert difference_p_value(drawn) == pytest.approx(0.0027, abs=0.001)  # 2 * P(z > 3)
    assert difference_p_value(-drawn) == difference_p_value(drawn)
    assert difference_p_value(np.zeros(10)) == 1
    assert np.isnan(difference_p_value([np.nan]))


def test_sign_flips_agree_with_scipy():
    differences = np.random.default_rng(2).normal(0.4, 1, size=25)
    expected = permutation_test(
        (differences, np.zeros(25)),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        rng=0,
    ).pvalue
    assert sign_flip_p_value(differences, n_flips=20_000, seed=1) == pytest.approx(
        expected, abs=0.006
    )
    assert sign_flip_p_value(np.zeros(5), n_flips=100, seed=0) == 1
    assert np.isnan(sign_flip_p_value([], n_flips=100, seed=0))
