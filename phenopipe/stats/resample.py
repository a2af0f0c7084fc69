"""Resampling: bootstrap over perturbations, nulls and their p-values, paired differences."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from phenopipe.stats.rows import Floats, Indices

# Whether a null as large as a value counts as above it.
Ties = Literal["above", "below"]

# Resamples, or flips, drawn at once: bounds memory to this many numbers an item.
_BLOCK = 50


def bootstrap_blocks(n: int, *, n_bootstrap: int, seed: int) -> Iterator[Floats]:
    """Draw how often each of n items stands in each resample with replacement, 50 at a time.

    A pair's weight in a resample is the product of its two items' counts: so perturbations are
    resampled, not pairs, which are not independent (Davison & Hinkley 1997, section 3.8).

    Yields
    ------
    ndarray of float64, shape (at most 50, n)
        Each row sums to n.

    Examples
    --------
    >>> [block.sum(axis=1) for block in bootstrap_blocks(4, n_bootstrap=2, seed=0)]
    [array([4., 4.])]
    """
    rng = np.random.default_rng(seed)
    for start in range(0, n_bootstrap, _BLOCK):
        rows = min(_BLOCK, n_bootstrap - start)
        draws = rng.integers(0, n, size=(rows, n)) + np.arange(rows)[:, None] * n
        yield np.bincount(draws.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def bootstrap_counts(n: int, *, n_bootstrap: int, seed: int) -> Floats:
    """Draw all of :func:`bootstrap_blocks` at once, shape (n_bootstrap, n).

    Examples
    --------
    >>> bootstrap_counts(4, n_bootstrap=2, seed=0).sum(axis=1)
    array([4., 4.])
    """
    blocks = bootstrap_blocks(n, n_bootstrap=n_bootstrap, seed=seed)
    return np.concatenate([np.empty((0, n)), *blocks])


def bootstrap_means(
    values: ArrayLike, members: Indices, *, n: int, n_bootstrap: int, seed: int
) -> Floats:
    """Average values over resamples of the items that they belong to.

    Parameters
    ----------
    values
        Shape (m,): one a perturbation, or one a pair of them.
    members
        Which items each value belongs to, 0 … n - 1, shape (m, 1) or (m, 2).
    n
        Items that are resampled; two calls with the same n and seed draw the same resamples.
    n_bootstrap, seed
        Resamples, and their seed.

    Returns
    -------
    ndarray, shape (n_bootstrap,)
        NaN where a resample holds none of the values.

    Examples
    --------
    >>> bootstrap_means([2.0, 2.0], np.array([[0], [1]]), n=2, n_bootstrap=3, seed=0)
    array([2., 2., 2.])
    """
    numbers = np.asarray(values, dtype=np.float64)
    means = [np.empty(0)]
    for counts in bootstrap_blocks(n, n_bootstrap=n_bootstrap, seed=seed):
        weights = np.ones((len(counts), len(numbers)))
        for column in members.T:
            weights *= counts[:, column]
        with np.errstate(invalid="ignore"):  # a resample may hold none of the items
            means.append(weights @ numbers / weights.sum(axis=1))
    return np.concatenate(means)


def percentile_interval(values: ArrayLike, *, level: float = 0.95) -> tuple[float, float]:
    """Give the central interval that holds a share of the values; NaN are left out.

    Examples
    --------
    >>> percentile_interval(np.arange(101), level=0.5)
    (25.0, 75.0)
    """
    finite = np.asarray(values, dtype=np.float64).ravel()
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return np.nan, np.nan
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def share_above(values: ArrayLike, null: ArrayLike, *, ties: Ties = "above") -> Floats:
    """Give for each value the share of a null that lies above it; NaN stays NaN.

    Parameters
    ----------
    values, null
        Shapes (m,) and (n,); NaN in the null are left out.
    ties
        Whether a null as large as the value counts as above it.

    Examples
    --------
    >>> share_above([0.0, 2.0, np.nan], [1.0, 2.0, 3.0, 4.0])
    array([1.  , 0.75,  nan])
    """
    numbers, sample = np.asarray(values, np.float64), np.asarray(null, np.float64)
    sample = np.sort(sample[np.isfinite(sample)])
    if not sample.size:
        return np.full(numbers.shape, np.nan)
    side: Literal["left", "right"] = "left" if ties == "above" else "right"
    shares: Floats = 1 - np.searchsorted(sample, numbers, side=side) / sample.size
    return np.where(np.isnan(numbers), np.nan, shares)


def null_p_values(values: ArrayLike, null: ArrayLike) -> Floats:
    """Give the one-sided p-value of each value from draws of the null: (1 + reached) / (1 + n).

    The value itself counts as a draw, so that n draws never give 0 (Phipson & Smyth 2010).

    Examples
    --------
    >>> null_p_values([9.0], np.arange(9))
    array([0.1])
    """
    n = int(np.isfinite(np.asarray(null, np.float64)).sum())
    p_values: Floats = (1 + np.round(share_above(values, null) * n)) / (1 + n)
    return p_values


def difference_p_value(differences: ArrayLike) -> float:
    """Give the two-sided p-value that resampled differences stand on both sides of 0.

    Twice the smaller share at or beyond 0, the observation counted in; the same question as
    whether 0 lies in the percentile interval. NaN where no difference is known.

    Examples
    --------
    >>> difference_p_value(np.arange(1, 20))
    0.1
    """
    drawn = np.asarray(differences, dtype=np.float64)
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return np.nan
    below, above = (1 + (drawn <= 0).sum()), (1 + (drawn >= 0).sum())
    return float(min(1.0, 2 * min(below, above) / (1 + drawn.size)))


def sign_flip_p_value(differences: ArrayLike, *, n_flips: int, seed: int) -> float:
    """Test whether paired differences centre on 0 by flipping their signs at random (Fisher).

    Parameters
    ----------
    differences
        One an independent unit, shape (m,).
    n_flips, seed
        Random flips of all signs, and their seed.

    Returns
    -------
    float
        Two-sided; 1 where nothing differs, NaN without units.

    Examples
    --------
    >>> sign_flip_p_value([1.0, 2.0, 1.5, 0.5, 1.0, 2.0, 1.0, 3.0], n_flips=999, seed=0) < 0.02
    True
    """
    units = np.asarray(differences, dtype=np.float64)
    if not units.size:
        return np.nan
    rng, size = np.random.default_rng(seed), np.abs(units).sum()
    # Sums that differ by rounding alone are the same.
    observed, reached = abs(units.sum()) - 1e-12 * size, 0
    for start in range(0, n_flips, _BLOCK):
        drawn = rng.integers(0, 2, size=(min(_BLOCK, n_flips - start), units.size), dtype=np.int8)
        reached += int((np.abs((2.0 * drawn - 1) @ units) >= observed).sum())
    return (1 + reached) / (1 + n_flips)
