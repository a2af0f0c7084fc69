r"""Lengths and angles of mean profiles without the noise of few wells, and their intervals.

The mean of n noisy vectors is too long: its squared length exceeds the true one by the vectors'
variance over n, which in hundreds of dimensions is most of it. The mean of the products of
*different* wells, :math:`\sum_{i \ne j} x_i \cdot x_j / n(n-1)`, has no such excess, as their
noises are independent (Walther et al. 2016, "Reliability of dissimilarity measures for
multi-voxel pattern analysis"). Two wells that were centred on the same controls still share the
error of these controls' mean; its squared length is known, and is taken off.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, t

from phenopipe.stats import Floats, Indices, bootstrap_counts, percentile_interval


class Sample(NamedTuple):
    """Wells less their controls' mean, shape (n, k), and each one's stratum."""

    rows: Floats
    strata: Indices


class Estimate(NamedTuple):
    """A value and its bootstrap draws, shape (n_bootstrap,)."""

    value: float
    draws: Floats


def resample_weights(n: int, *, n_bootstrap: int, seed: list[int]) -> Floats:
    """Draw the weights of n wells in each resample, shape (n_bootstrap, n); rows add up to 1.

    Deviations from 1 / n are widened by sqrt(n / (n - 1)): the spread of the resampled means is
    then that of the mean, not too small by that factor (Hesterberg 2015, "What teachers should
    know about the bootstrap", narrowness bias).

    Examples
    --------
    >>> resample_weights(4, n_bootstrap=3, seed=[0]).sum(axis=1)
    array([1., 1., 1.])
    """
    narrow = int(np.random.default_rng(seed).integers(2**31))
    counts = bootstrap_counts(n, n_bootstrap=n_bootstrap, seed=narrow)
    weights: Floats = (1 + (counts - 1) * np.sqrt(n / max(n - 1, 1))) / n
    return weights


def shares(strata: Indices, n_strata: int) -> Floats:
    """Give the share of the wells that lie in each stratum, shape (n_strata,)."""
    return np.bincount(strata, minlength=n_strata) / len(strata)


def squared_length(sample: Sample, *, noise: Floats, weights: Floats) -> Estimate:
    """Estimate the squared length of the wells' true mean; it may come out below zero.

    Parameters
    ----------
    sample
        At least two wells.
    noise
        Squared error of each stratum's centre, shape (s,).
    weights
        From :func:`resample_weights`.

    Examples
    --------
    >>> wells = Sample(np.array([[3.0, 1.0], [3.0, -1.0]]), np.array([0, 0]))
    >>> squared_length(wells, noise=np.zeros(1), weights=np.full((1, 2), 0.5)).value
    8.0
    """
    n = len(sample.rows)
    centre = sample.rows.mean(axis=0)
    mean = float(centre @ centre)
    excess = float(((sample.rows - centre) ** 2).sum()) / (n * (n - 1))
    same = np.bincount(sample.strata, minlength=len(noise))
    shared = float((same * (same - 1)) @ noise) / (n * (n - 1))
    # A resample is the mean of noisy wells once more: the excess is in it twice.
    draws = _lengths_of_means(sample.rows, weights) - 2 * excess - shared
    return Estimate(mean - excess - shared, draws)


def _lengths_of_means(rows: Floats, weights: Floats) -> Floats:
    """Give the squared lengths of weighted means; few wells' products are all that it takes."""
    if len(rows) < rows.shape[1]:
        products: Floats = np.einsum("bn,bn->b", weights @ (rows @ rows.T), weights)
        return products
    lengths: Floats = ((weights @ rows) ** 2).sum(axis=1)
    return lengths


def product(
    sample: Sample, other: Floats, other_draws: Floats, *, shared: Floats, weights: Floats
) -> Estimate:
    """Estimate the product of the true means of two sets of different wells.

    Parameters
    ----------
    other, other_draws
        The other set's mean, shape (k,), and its resamples, (n_bootstrap, k).
    shared
        What a well of each stratum shares with the other set: `noise` times :func:`shares`.
    """
    common = float(shared[sample.strata].mean())
    draws = np.einsum("bn,bn->b", weights, other_draws @ sample.rows.T)
    return Estimate(float(sample.rows.mean(axis=0) @ other) - common, draws - common)


def interval(draws: ArrayLike, value: float, *, n: int) -> tuple[float, float]:
    """Give the 95% interval of a statistic of n wells from its bootstrap draws.

    Percentiles, drawn away from the value by Student's t over the normal quantile: of few wells
    the spread itself is hardly known (Hesterberg 2015, expanded percentile interval).

    Examples
    --------
    >>> low, high = interval(np.linspace(-1, 1, 201), 0.0, n=5)
    >>> round(low, 2), round(high, 2)
    (-1.35, 1.35)
    """
    low, high = percentile_interval(draws)
    stretch = float(t.ppf(0.975, max(n - 1, 1)) / norm.ppf(0.975))
    return value + (low - value) * stretch, value + (high - value) * stretch


def positive_root(values: ArrayLike) -> Floats:
    """Take square roots; what noise has put below zero is no length at all: 0."""
    return np.sqrt(np.maximum(np.asarray(values, dtype=np.float64), 0))
