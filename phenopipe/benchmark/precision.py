"""Average precision: how early the right ones come in a ranking, and what chance gives."""

import numpy as np
from numpy.typing import NDArray

from phenopipe.stats import Floats

# Numbers shuffled at once for the null: bounds memory to this many bytes.
_SHUFFLED_AT_ONCE = 1 << 24


def average_precision(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> Floats:
    r"""Give the average precision of each query's ranking, shape (q,).

    The positive that comes k-th among the k-th and the :math:`b_k` negatives above it has the
    precision :math:`k / (k + b_k)`; the average precision is their mean (copairs, Kalinin et al.
    2025). Where a positive and a negative are equally similar the positive comes first.

    Parameters
    ----------
    positive, negative
        Similarities of each query to those that belong to it and to those that do not, shapes
        (q, k) with k at least 1, and (q, m).

    Examples
    --------
    >>> average_precision(np.array([[0.9, 0.3]]), np.array([[0.5, 0.1]]))
    array([0.83333333])
    """
    return precision_among(positive, np.sort(negative, axis=1))


def precision_among(positive: NDArray[np.floating], rising: NDArray[np.floating]) -> Floats:
    """Do as :func:`average_precision`, where each row of negatives is sorted already.

    A negative that does not count for a query is -inf.
    """
    falling = -np.sort(-positive, axis=1)
    not_above = [
        np.searchsorted(row, values, side="right")
        for row, values in zip(rising, falling, strict=True)
    ]
    above = rising.shape[1] - np.array(not_above).reshape(falling.shape)
    hits = np.arange(1, falling.shape[1] + 1)
    means: Floats = (hits / (hits + above)).mean(axis=1)
    return means


def expected_average_precision(positives: int, negatives: int) -> float:
    r"""Give the mean average precision of all rankings of k positives and m negatives.

    :math:`\frac{1}{n}\left(\frac{k - 1}{n - 1}(n - H_n) + H_n\right)` with n = k + m and the
    harmonic number :math:`H_n` (Bestgen 2015, "Exact expected average precision of the random
    baseline for system evaluation").

    Examples
    --------
    >>> expected_average_precision(1, 1)  # first or second: (1 + 1/2) / 2
    0.75
    """
    n = positives + negatives
    if n == 1:
        return 1.0
    harmonic = float((1 / np.arange(1, n + 1)).sum())
    return ((positives - 1) / (n - 1) * (n - harmonic) + harmonic) / n


def random_average_precisions(positives: int, negatives: int, *, n: int, seed: int) -> Floats:
    """Draw the average precisions of n random rankings of k positives and m negatives.

    Examples
    --------
    >>> drawn = random_average_precisions(1, 1, n=1000, seed=0)
    >>> np.unique(drawn)
    array([0.5, 1. ])
    """
    total = positives + negatives
    rng = np.random.default_rng([seed, positives, negatives])
    hits = np.arange(1, positives + 1)
    drawn, block = [np.empty(0)], max(1, _SHUFFLED_AT_ONCE // total)
    for start in range(0, n, block):
        listed = np.zeros((min(block, n - start), total), dtype=np.bool_)
        listed[:, :positives] = True
        places = np.nonzero(rng.permuted(listed, axis=1))[1].reshape(-1, positives) + 1
        drawn.append((hits / places).mean(axis=1))
    return np.concatenate(drawn)
