"""Moments of rows, which add up."""

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Self

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike

from phenopipe.errors import InputError
from phenopipe.stats.arrays import float_rows, to_numpy
from phenopipe.stats.rows import Floats

# Rows that are turned to float64 at a time: float32 input is never held twice.
_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of rows; those of two sets of rows add up to those of both.

    Merged by the formula of Chan, Golub & LeVeque (1983): no sum of squares is formed, so a mean
    far from zero costs no digits, and memory does not grow with rows. Held in NumPy's float64,
    from whatever library and device the rows came.

    Attributes
    ----------
    count
        Number of rows.
    mean
        Shape (d,).
    scatter
        Sum of the outer products of the rows less their mean, shape (d, d).

    Examples
    --------
    >>> moments = Moments.of([[1.0, 0.0], [3.0, 0.0]]) + Moments.of([[5.0, 3.0]])
    >>> moments.count, moments.mean, moments.covariance(ddof=0)[0, 0] * 3
    (3, array([3., 1.]), np.float64(8.0))
    """

    count: int
    mean: Floats
    scatter: Floats

    @classmethod
    def of(cls, x: ArrayLike) -> Self:
        """Take the moments of rows, shape (n, d), n at least 1; of NumPy, torch or CuPy.

        Raises
        ------
        InputError
            If there is no row, or a value is not finite.
        """
        rows = float_rows(x)
        if not len(rows):
            raise InputError("expected 1 row or more to take moments of, found none")
        starts = range(0, len(rows), _BLOCK_ROWS)
        return reduce(add, (cls._of_block(rows[start : start + _BLOCK_ROWS]) for start in starts))

    @classmethod
    def _of_block(cls, rows: Any) -> Self:
        xp = array_namespace(rows)
        block = xp.astype(rows, xp.float64, copy=False)
        mean = xp.mean(block, axis=0)
        centred = block - mean
        return cls(len(block), to_numpy(mean), to_numpy(centred.T @ centred))

    def __add__(self, other: Self) -> Self:
        if self.mean.shape != other.mean.shape:
            raise InputError(
                f"expected moments of {self.mean.size} features to add, found {other.mean.size}"
            )
        count = self.count + other.count
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.count / count)
        between = np.outer(shift, shift * (self.count * other.count / count))
        between += self.scatter
        between += other.scatter
        return type(self)(count, mean, between)

    def covariance(self, *, ddof: int) -> Floats:
        """Give the covariance matrix, shape (d, d), over count less ddof."""
        return self.scatter / (self.count - ddof)

    def deviations(self) -> Floats:
        """Give each column's standard deviation (ddof 0); 0 where it does not vary.

        What rounding leaves of a constant column (1e-10 of its mean) counts as no variation.
        """
        deviations = np.sqrt(np.diagonal(self.scatter) / self.count)
        return np.where(deviations > 1e-10 * np.abs(self.mean), deviations, 0.0)
