import numpy as np
import pytest
from scipy.stats import t

from phenopipe.hits.lengths import (
    Sample,
    interval,
    positive_root,
    product,
    resample_weights,
    shares,
    squared_length,
)

WIDTH, TRUE = 64, np.zeros(64)
TRUE[:4] = 1.5  # a squared length of 9


def draw_sample(random, n, *, controls=20, strata=2, mean=TRUE):
    """Wells less the mean of their stratum's controls, and the noise of those means."""
    codes = np.arange(n) % strata
    centres = random.normal(size=(strata, WIDTH)) / np.sqrt(controls)
    rows = mean + random.normal(size=(n, WIDTH)) - centres[codes]
    return Sample(rows, codes), np.full(strata, WIDTH / controls), centres


def test_a_squared_length_is_that_of_the_true_mean_on_average():
    random = np.random.default_rng(0)
    found, naive = [], []
    for trial in range(400):
        sample, noise, _ = draw_sample(random, 6)
        weights = resample_weights(6, n_bootstrap=100, seed=[trial])
        found.append(squared_length(sample, noise=noise, weights=weights).value)
        naive.append((sample.rows.mean(axis=0) ** 2).sum())
    error = np.std(found) / np.sqrt(400)
    assert abs(np.mean(found) - 9) < 4 * error
    assert np.mean(naive) > 18  # what would be reported otherwise: twice as much


def test_it_is_the_mean_product_of_different_wells():
    rows = np.random.default_rng(1).normal(size=(5, 7))
    found = squared_length(
        Sample(rows, np.zeros(5, int)), noise=np.zeros(1), weights=np.full((1, 5), 0.2)
    )
    products = [rows[i] @ rows[j] for i in range(5) for j in range(5) if i != j]
    np.testing.assert_allclose(found.value, np.mean(products))


def test_draws_lie_about_the_value():
    sample, noise, _ = draw_sample(np.random.default_rng(2), 8)
    weights = resample_weights(8, n_bootstrap=20_000, seed=[0])
    found = squared_length(sample, noise=noise, weights=weights)
    np.testing.assert_allclose(found.draws.mean(), found.value, atol=0.2)


def test_a_product_of_two_means_is_the_true_one_on_average():
    random = np.random.default_rng(3)
    other_mean, found = np.roll(TRUE, 2), []
    for trial in range(400):
        sample, noise, centres = draw_sample(random, 5)
        codes = np.arange(12) % 2
        others = other_mean + random.normal(size=(12, WIDTH)) - centres[codes]
        other = others.mean(axis=0)
        weights = resample_weights(5, n_bootstrap=100, seed=[trial])
        shared = noise * shares(codes, 2)
        draws = np.repeat(other[None], 100, axis=0)
        found.append(product(sample, other, draws, shared=shared, weights=weights).value)
    assert abs(np.mean(found) - TRUE @ other_mean) < 4 * np.std(found) / np.sqrt(400)


@pytest.mark.parametrize("n", [3, 6, 20])
def test_intervals_of_a_length_cover_the_true_one(n):
    random, covered = np.random.default_rng(n), []
    for trial in range(300):
        sample, noise, _ = draw_sample(random, n)
        weights = resample_weights(n, n_bootstrap=400, seed=[trial])
        found = squared_length(sample, noise=noise, weights=weights)
        low, high = interval(found.draws, found.value, n=n)
        covered.append(low <= 9 <= high)
    assert np.mean(covered) > 0.92


def test_an_interval_of_a_mean_is_students():
    values = np.random.default_rng(4).normal(size=5)
    weights = resample_weights(5, n_bootstrap=100_000, seed=[1])
    low, high = interval(weights @ values, values.mean(), n=5)
    wanted = t.interval(0.95, 4, values.mean(), values.std(ddof=1) / np.sqrt(5))
    # Five values resampled are not quite normal: their tails are short.
    np.testing.assert_allclose((low, high), wanted, atol=0.25 * np.ptp(wanted))
    assert high - low > 0.85 * np.ptp(wanted)


def test_what_noise_puts_below_zero_is_no_length():
    assert positive_root([-4.0, 0.0, 9.0]).tolist() == [0.0, 0.0, 3.0]
