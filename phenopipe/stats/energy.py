"""The energy distance between two samples of profiles."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from phenopipe.errors import InputError
from phenopipe.stats.rows import Floats, finite_rows

# Rows whose distances are held at once: bounds memory to this many by the other sample's rows.
_BLOCK_ROWS = 1024


def energy_distance(x: ArrayLike, y: ArrayLike, *, spread: float | None = None) -> float:
    r"""Measure how far two samples lie apart: the energy distance (Székely & Rizzo 2013).

    :math:`2 E|x - y| - E|x - x'| - E|y - y'|` with Euclidean distances and means over all pairs
    of rows, a row with itself among them, as EFAAR_benchmarking has it: 0 for a sample and
    itself, positive otherwise.

    Parameters
    ----------
    x, y
        The two samples, shapes (n, d) and (m, d).
    spread
        ``mean_distance(y, y)`` where it is known: one set of controls against many samples.

    Returns
    -------
    float
        In the unit of the rows.

    Raises
    ------
    InputError
        If a sample has no rows, a value is not finite, or the widths differ.

    Examples
    --------
    >>> energy_distance([[0.0], [0.0]], [[3.0]])
    6.0
    """
    first, second = finite_rows(x), finite_rows(y)
    own = mean_distance(second, second) if spread is None else spread
    return 2 * mean_distance(first, second) - mean_distance(first, first) - own


def mean_distance(x: ArrayLike, y: ArrayLike) -> float:
    """Average the Euclidean distances of all rows of x to all rows of y, in blocks of rows.

    Raises
    ------
    InputError
        If a sample has no rows, a value is not finite, or the widths differ.

    Examples
    --------
    >>> mean_distance([[0.0, 0.0]], [[3.0, 4.0], [0.0, 1.0]])
    3.0
    """
    first, second = finite_rows(x), finite_rows(y)
    if not (len(first) and len(second)) or first.shape[1] != second.shape[1]:
        raise InputError(
            f"expected two samples of one width, each with a row, found shapes {first.shape} and "
            f"{second.shape}"
        )
    sums = [
        _sum_distances(first[start : start + _BLOCK_ROWS], second)
        for start in range(0, len(first), _BLOCK_ROWS)
    ]
    return float(np.sum(sums) / (len(first) * len(second)))


def _sum_distances(block: Floats, rows: Floats) -> float:
    return float(cdist(block, rows).sum())


def mean_distances(x: ArrayLike, y: ArrayLike) -> Floats:
    r"""Average each row's Euclidean distances to all rows of y, by one product of matrices.

    :math:`|x - y|^2 = |x|^2 + |y|^2 - 2 x y`, after the mean of y was taken from both: many times
    as fast as :func:`mean_distance`. Where two rows are equal, rounding leaves a distance of some
    1e-8 of their lengths instead of 0; others are right to 1e-12 or so.

    Returns
    -------
    ndarray, shape (n,)

    Examples
    --------
    >>> mean_distances([[0.0], [2.0]], [[1.0], [3.0]])
    array([2., 1.])
    """
    first, second = finite_rows(x), finite_rows(y)
    centre = second.mean(axis=0)
    first, second = first - centre, second - centre
    squares = (second**2).sum(axis=1)
    means = [np.empty(0)]
    for start in range(0, len(first), _BLOCK_ROWS):
        block = first[start : start + _BLOCK_ROWS]
        apart = (block**2).sum(axis=1)[:, None] + squares - 2 * block @ second.T
        means.append(np.sqrt(apart.clip(0)).mean(axis=1))
    return np.concatenate(means)
