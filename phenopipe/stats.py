"""Statistics that maps and benchmarks share: cosines of pairs, rank tests, resampling."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from phenopipe.errors import InputError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_BLOCK_ROWS = 512


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
    return brunner_munzel_sorted(np.sort(_floats(within)), np.sort(_floats(between)))


def brunner_munzel_sorted(within: Floats, between: Floats) -> RankTest:
    """Run :func:`brunner_munzel` on samples that are sorted already."""
    if not (within.size and between.size):
        return RankTest(np.nan, np.nan, np.nan)
    first, second = placements(within, between), placements(between, within)
    probability = float(first.mean())
    if min(within.size, between.size) < 2:
        return RankTest(np.nan, probability, np.nan)
    error = np.sqrt(first.var(ddof=1) / first.size + second.var(ddof=1) / second.size)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = float(np.divide(probability - 0.5, error))
    return RankTest(statistic, probability, float(ndtr(-statistic)))


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


def unit_rows(x: ArrayLike) -> Floats:
    """Scale each row to length 1, so that products of rows are cosines; zero rows stay zero.

    Raises
    ------
    InputError
        If the array is not two-dimensional or holds a value that is not finite.

    Examples
    --------
    >>> unit_rows([[3.0, 4.0], [0.0, 0.0]])
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    rows = finite_rows(x)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def finite_rows(x: ArrayLike) -> Floats:
    """Return the rows in float64, shape (n, d), if all are finite.

    Raises
    ------
    InputError
        If the array is not two-dimensional or holds a value that is not finite.

    Examples
    --------
    >>> finite_rows([[1, 2]])
    array([[1., 2.]])
    """
    rows = np.asarray(x, dtype=np.float64)
    if rows.ndim != 2:
        raise InputError(f"expected embeddings of shape (n, d), found {rows.shape}")
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise InputError(
            f"expected finite embeddings, found NaN or infinity in {bad.size} of {len(rows)} "
            f"rows, the first at row {bad[0]}: leave these out, or embed them again"
        )
    return rows


def cosine_pairs(x: ArrayLike) -> Floats:
    """Compute the cosine of each pair of rows once, in the order of the upper triangle.

    Parameters
    ----------
    x
        Embeddings, shape (n, d).

    Returns
    -------
    ndarray of float64, shape (n * (n - 1) / 2,)
        Pairs (0, 1), (0, 2), …, (1, 2), …; :func:`pair_index` finds one. Built in blocks of
        rows: no (n, n) matrix is held.

    Examples
    --------
    >>> cosine_pairs([[1.0, 0.0], [0.0, 2.0], [0.0, 3.0]])
    array([0., 0., 1.])
    """
    unit = unit_rows(x)
    n = len(unit)
    pairs = np.empty(n * (n - 1) // 2)
    end = 0
    for start in range(0, n, _BLOCK_ROWS):
        block = unit[start : start + _BLOCK_ROWS] @ unit[start:].T
        values = block[_above_diagonal(*block.shape)]
        pairs[end : end + values.size] = values
        end += values.size
    return pairs


def _above_diagonal(rows: int, columns: int) -> NDArray[np.bool_]:
    return np.arange(columns) > np.arange(rows)[:, None]


def pair_index(first: Indices, second: Indices, n: int) -> Indices:
    """Find where pairs of rows stand in :func:`cosine_pairs` of n rows, whichever comes first.

    Examples
    --------
    >>> pair_index(np.array([0, 2]), np.array([1, 1]), n=3)
    array([0, 2])
    """
    low, high = np.minimum(first, second), np.maximum(first, second)
    index: Indices = low * n - low * (low + 1) // 2 + high - low - 1
    return index


def group_codes(labels: Sequence[object] | ArrayLike) -> tuple[Indices, list[str]]:
    """Give each label its group's number, in the order of names; -1 where empty or missing.

    Examples
    --------
    >>> group_codes(["2q", "1p", "", None, "2q"])
    (array([ 1,  0, -1, -1,  1]), ['1p', '2q'])
    """
    values = pd.Series(np.asarray(labels, dtype=object))
    codes, names = pd.factorize(values.where(values != "", None), sort=True)
    return codes.astype(np.int64), [str(name) for name in names]


class GroupCosines(NamedTuple):
    """Cosines of one group's rows: to one another, (k, k), and to the other groups', (k, m)."""

    rows: Indices
    others: Indices
    within: Floats
    between: Floats

    @property
    def within_pairs(self) -> Floats:
        """Each pair inside the group once."""
        return self.within[_above_diagonal(*self.within.shape)]


def group_cosines(unit: Floats, codes: Indices) -> Iterator[GroupCosines]:
    """Yield each group's cosines in turn; rows with a negative code belong to none.

    Parameters
    ----------
    unit
        Rows of length 1, shape (n, d).
    codes
        Each row's group, 0 … g - 1, or -1.
    """
    for code in range(int(codes.max(initial=-1)) + 1):
        rows, others = np.flatnonzero(codes == code), np.flatnonzero((codes != code) & (codes >= 0))
        yield GroupCosines(rows, others, unit[rows] @ unit[rows].T, unit[rows] @ unit[others].T)


def compare_groups(x: ArrayLike, groups: Sequence[object] | ArrayLike) -> pd.DataFrame:
    """Compare cosines within groups with cosines between groups, per group and over all.

    Parameters
    ----------
    x
        Embeddings, shape (n, d).
    groups
        Each row's group, shape (n,); rows with an empty or missing label are left out.

    Returns
    -------
    DataFrame
        One row a group, by name, and the row ``genome`` for all groups together, in which each
        pair counts once. Columns ``statistic``, ``probability`` (within > between, half the
        ties), one-sided ``p_value`` (see :func:`brunner_munzel`), ``n_within``, ``n_between``.

    Raises
    ------
    InputError
        If there is not one group a row.

    Examples
    --------
    >>> compare_groups([[1.0, 0.1], [1.0, 0.0], [0.1, 1.0], [0.0, 1.0]], list("aabb")).probability
    a         1.0
    b         1.0
    genome    1.0
    Name: probability, dtype: float64
    """
    unit, codes, names = labelled_rows(x, groups)
    tests: list[tuple[RankTest, int, int]] = []
    all_within, all_between = sorted_pairs(unit, codes)
    for group in group_cosines(unit, codes):
        within, between = np.sort(group.within_pairs), np.sort(group.between, axis=None)
        tests.append((brunner_munzel_sorted(within, between), within.size, between.size))
    whole = brunner_munzel_sorted(all_within, all_between)
    tests.append((whole, all_within.size, all_between.size))
    table = pd.DataFrame([test for test, _, _ in tests], index=[*names, "genome"])
    return table.assign(n_within=[n for _, n, _ in tests], n_between=[m for _, _, m in tests])


def labelled_rows(
    x: ArrayLike, groups: Sequence[object] | ArrayLike
) -> tuple[Floats, Indices, list[str]]:
    """Give unit rows, each row's group and the groups' names.

    Raises
    ------
    InputError
        If there is not one group a row.
    """
    unit = unit_rows(x)
    codes, names = group_codes(groups)
    if len(unit) != len(codes):
        raise InputError(f"expected one arm a row, found {len(codes)} for {len(unit)} rows")
    return unit, codes, names


def sorted_pairs(unit: Floats, codes: Indices) -> tuple[Floats, Floats]:
    """Sort the cosines of all pairs within groups, and of all pairs between them, each once."""
    within, between = [np.empty(0)], [np.empty(0)]
    for code, group in enumerate(group_cosines(unit, codes)):
        within.append(group.within_pairs)
        between.append(group.between[:, codes[group.others] > code].ravel())
    return np.sort(np.concatenate(within)), np.sort(np.concatenate(between))


def bootstrap_counts(n: int, *, n_bootstrap: int, seed: int) -> Floats:
    """Draw how often each of n items stands in each resample with replacement.

    A pair's weight in a resample is the product of its two items' counts: so perturbations are
    resampled, not pairs, which are not independent (Davison & Hinkley 1997, section 3.8).

    Returns
    -------
    ndarray of float64, shape (n_bootstrap, n)
        Each row sums to n.

    Examples
    --------
    >>> bootstrap_counts(4, n_bootstrap=2, seed=0).sum(axis=1)
    array([4., 4.])
    """
    draws = np.random.default_rng(seed).integers(0, n, size=(n_bootstrap, n))
    counts = [np.bincount(draw, minlength=n) for draw in draws]
    return np.array(counts, dtype=np.float64).reshape(n_bootstrap, n)


def percentile_interval(values: ArrayLike, *, level: float = 0.95) -> tuple[float, float]:
    """Give the central interval that holds a share of the values; NaN are left out.

    Examples
    --------
    >>> percentile_interval(np.arange(101), level=0.5)
    (25.0, 75.0)
    """
    finite = _floats(values)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return np.nan, np.nan
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64).ravel()


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of rows; those of two sets of rows add up to those of both.

    Merged by the formula of Chan, Golub & LeVeque (1983): no sum of squares is formed, so a mean
    far from zero costs no digits, and memory does not grow with rows.

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
        """Take the moments of rows, shape (n, d), n at least 1."""
        rows = np.asarray(x, dtype=np.float64)
        mean = rows.mean(axis=0)
        centred = rows - mean
        return cls(len(rows), mean, centred.T @ centred)

    def __add__(self, other: Self) -> Self:
        count = self.count + other.count
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.count / count)
        between = np.outer(shift, shift) * (self.count * other.count / count)
        return type(self)(count, mean, self.scatter + other.scatter + between)

    def covariance(self, *, ddof: int) -> Floats:
        """Give the covariance matrix, shape (d, d), over count less ddof."""
        return self.scatter / (self.count - ddof)

    def deviations(self) -> Floats:
        """Give each column's standard deviation (ddof 0); 0 where it does not vary.

        What rounding leaves of a constant column (1e-10 of its mean) counts as no variation.
        """
        deviations = np.sqrt(np.diagonal(self.scatter) / self.count)
        return np.where(deviations > 1e-10 * np.abs(self.mean), deviations, 0.0)
