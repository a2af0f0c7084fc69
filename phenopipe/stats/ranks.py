"""The Brunner-Munzel test: whether one sample tends to be larger than another."""

import math
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from phenopipe.stats.rows import Floats


class RankTest(NamedTuple):
    """A Brunner-Munzel test: P(first > second) with half the ties, and its one-sided p-value."""

    statistic: float
    probability: float
    p_value: float


def brunner_munzel(within: ArrayLike, between: ArrayLike) -> RankTest:
    r"""Test whether values of the first sample tend to be the larger (Brunner & Munzel 2000).

    With the placements :math:`u_i` of the n values among the m, and :math:`v_j` of the m among
    the n, the probability is the mean of :math:`u` and the statistic is
    :math:`(\bar u - 1/2) / \sqrt{s_u^2/n + s_v^2/m}`, taken as normal. Variances have ddof 1.

    Parameters
    ----------
    within, between
        The two samples, shapes (n,) and (m,).

    Returns
    -------
    RankTest
        ``statistic``, ``probability`` and the one-sided ``p_value`` (alternative: first is
        greater). All are NaN where a sample is empty; statistic and p-value are NaN where a
        sample has one value, and the statistic is infinite where the samples do not overlap.

    Examples
    --------
    >>> test = brunner_munzel([0.2, 0.5, 0.9], [0.1, 0.3, 0.4, 0.6])
    >>> round(test.statistic, 4), round(test.probability, 4), round(test.p_value, 4)
    (0.6433, 0.6667, 0.26)
    """
    counts = RankCounts(within)
    counts.add(between)
    return counts.test()


class RankCounts:
    """How many values of a second sample lie below, and at, each value of a first one.

    The Brunner-Munzel test needs nothing else, and these counts add up: blocks of the second
    sample may come in any order and from several threads, and the test is that of all of them
    at once, to the last bit, since counts are integers. Memory grows with the first sample only.

    Parameters
    ----------
    first
        The first sample, shape (n,).

    Examples
    --------
    >>> counts = RankCounts([0.2, 0.5, 0.9])
    >>> for block in ([0.4, 0.1], [0.6, 0.3]):
    ...     counts.add(block)
    >>> counts.test() == brunner_munzel([0.2, 0.5, 0.9], [0.1, 0.3, 0.4, 0.6])
    True
    """

    def __init__(self, first: ArrayLike) -> None:
        values = np.asarray(first, dtype=np.float64)
        self._levels, self._weights = np.unique(values, return_counts=True)
        self._below = np.zeros(len(self._levels), dtype=np.int64)
        self._at = np.zeros(len(self._levels), dtype=np.int64)
        self._lock = Lock()
        self.n_first, self.n_second = values.size, 0

    def add(self, second: ArrayLike) -> None:
        """Count a block of the second sample, of any shape; needs no order."""
        block = np.sort(np.asarray(second, dtype=np.float64), axis=None)
        if not block.size:
            return
        below = np.searchsorted(block, self._levels)
        # Ties are rare among cosines: only where one stands is a second search worth its time.
        tied = np.flatnonzero(block[np.minimum(below, block.size - 1)] == self._levels)
        at = np.searchsorted(block, self._levels[tied], side="right") - below[tied]
        with self._lock:
            self._below += below
            self._at[tied] += at
            self.n_second += block.size

    def test(self) -> RankTest:
        """Run the test of :func:`brunner_munzel` on all that was counted."""
        n, m = self.n_first, self.n_second
        if not (n and m):
            return RankTest(np.nan, np.nan, np.nan)
        # 2nm (P - 1/2), in integers: P - 1/2 is small, and a difference of floats would cost
        # its last digits.
        excess = int(self._weights @ (2 * self._below + self._at)) - n * m
        probability = 0.5 + excess / (2 * n * m)
        if min(n, m) < 2:
            return RankTest(np.nan, probability, np.nan)
        first, second = self._first_scatter() / (n - 1), self._second_scatter() / (m - 1)
        error = math.sqrt(first / n + second / m)
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = float(np.divide(excess / (2 * n * m), error))
        return RankTest(statistic, probability, float(ndtr(-statistic)))

    def _first_scatter(self) -> float:
        """Sum the squared deviations of the first sample's placements among the second."""
        placed = (2 * self._below + self._at) / (2 * self.n_second)
        return _scatter(placed, self._weights)

    def _second_scatter(self) -> float:
        """Sum those of the second's: its values at a level share one, as do those in a gap."""
        reached = np.concatenate([[0], np.cumsum(self._weights)])
        ends = np.append(self._below, self.n_second)
        in_gap = ends - np.concatenate([[0], self._below + self._at])
        at_level = (reached[:-1] + self._weights / 2) / self.n_first
        return _scatter(
            np.concatenate([reached / self.n_first, at_level]), np.concatenate([in_gap, self._at])
        )


def _scatter(values: Floats, weights: NDArray[np.int64]) -> float:
    mean = (values @ weights) / weights.sum()
    return float(weights @ (values - mean) ** 2)


def placements(values: Floats, among: Floats) -> Floats:
    """Give for each value the share of a sorted sample that lies below it, plus half the ties.

    Examples
    --------
    >>> placements(np.array([0.0, 2.0, 9.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    array([0.   , 0.375, 1.   ])
    """
    below = np.searchsorted(among, values, side="left")
    not_above = np.searchsorted(among, values, side="right")
    return (below + not_above) / (2 * among.size)
