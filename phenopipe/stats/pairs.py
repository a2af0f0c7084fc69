"""Cosines of pairs of rows: all of them, and those within groups compared with those between.

Of n rows there are n (n - 1) / 2 pairs: 144 million for 17,000 genes, of which some millions lie
within a group. Only those are held; the others pass by in blocks, each of them sorted and counted
(:class:`phenopipe.stats.ranks.RankCounts`), in threads.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phenopipe.stats.ranks import RankCounts, RankTest, brunner_munzel
from phenopipe.stats.rows import Floats, Indices, labelled_rows, unit_rows
from phenopipe.stats.threads import run_threads

_BLOCK_ROWS = 512
# Cosines of a block that a thread sorts: 64 MiB. Each block costs one search of all values within
# groups, so larger blocks are quicker; a thread holds some three times this.
_BLOCK_PAIRS = 1 << 23


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
    return _pairs(unit_rows(x))


def _pairs(unit: Floats) -> Floats:
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


def compare_groups(x: ArrayLike, groups: Sequence[object] | ArrayLike) -> pd.DataFrame:
    """Compare cosines within groups with cosines between groups, per group and over all.

    Each test is of all pairs, none is sampled, and as exact as if all were ranked at once. Memory
    grows with the pairs within groups and with a block of pairs a thread.

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
        ties), one-sided ``p_value`` (see :func:`phenopipe.stats.brunner_munzel`), ``n_within``,
        ``n_between``.

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
    sorted_rows = _sort_rows(x, groups)
    unit = sorted_rows.unit
    within = [_pairs(unit[group]) for group in sorted_rows.groups]
    of_group = [RankCounts(pairs) for pairs in within]
    genome = RankCounts(np.concatenate([np.empty(0), *within]))
    del within

    def count(block: _Block) -> None:
        earlier = unit[block.rows] @ unit[: block.group.start].T
        later = unit[block.rows] @ unit[block.group.stop :].T
        genome.add(later)  # a pair is among the later ones of one group only, so it counts once
        of_group[block.code].add(np.concatenate([earlier, later], axis=1))

    run_threads(count, _blocks(sorted_rows))
    every = [*of_group, genome]
    table = pd.DataFrame(
        [counts.test() for counts in every],
        index=[*sorted_rows.names, "genome"],
        columns=RankTest._fields,
    )
    return table.assign(
        n_within=[counts.n_first for counts in every],
        n_between=[counts.n_second for counts in every],
    )


def compare_rows(x: ArrayLike, groups: Sequence[object] | ArrayLike) -> pd.DataFrame:
    """Compare each row's cosines to its own group with those to the other groups.

    Parameters
    ----------
    x
        Embeddings, shape (n, d).
    groups
        Each row's group, shape (n,).

    Returns
    -------
    DataFrame
        One row a row of x, in its order: ``group``, and as :func:`compare_groups`. A row without
        a group, or alone in it, has NaN and no pairs.

    Raises
    ------
    InputError
        If there is not one group a row.

    Examples
    --------
    >>> x = [[1.0, 0.1], [1.0, 0.0], [0.2, 1.0], [0.0, 1.0], [1.0, 0.2]]
    >>> compare_rows(x, list("aabbb")).probability.tolist()
    [0.6666666666666666, 1.0, 1.0, 1.0, 0.0]
    """
    sorted_rows = _sort_rows(x, groups)
    unit, n = sorted_rows.unit, len(sorted_rows.unit)

    def compare(block: _Block) -> list[tuple[object, ...]]:
        cosines = unit[block.rows] @ unit.T
        own = np.arange(block.group.start, block.group.stop)
        is_between = np.ones(n, dtype=bool)
        is_between[own] = False
        found: list[tuple[object, ...]] = []
        for row, values in zip(range(block.rows.start, block.rows.stop), cosines, strict=True):
            within = values[own[own != row]]
            test = brunner_munzel(within, values[is_between])
            name = sorted_rows.names[block.code]
            found.append((name, *test, len(within), n - len(own)))
        return found

    rows = [row for block in run_threads(compare, _blocks(sorted_rows)) for row in block]
    columns = ["group", *RankTest._fields, "n_within", "n_between"]
    table = pd.DataFrame(rows, columns=columns, index=sorted_rows.order)
    table = table.reindex(range(sorted_rows.n_given)).fillna(
        {"group": "", "n_within": 0, "n_between": 0}
    )
    tests = dict.fromkeys(RankTest._fields, np.float64)
    return table.astype({**tests, "n_within": np.int64, "n_between": np.int64})


class _SortedRows(NamedTuple):
    """Unit rows that have a group, group after group, and where each stood."""

    unit: Floats
    order: Indices
    groups: list[slice]
    names: list[str]
    n_given: int


class _Block(NamedTuple):
    """Some rows of a group."""

    code: int
    group: slice
    rows: slice


def _sort_rows(x: ArrayLike, groups: Sequence[object] | ArrayLike) -> _SortedRows:
    unit, codes, names = labelled_rows(x, groups)
    order = np.argsort(codes, kind="stable")[np.count_nonzero(codes < 0) :]
    ends = [0, *np.cumsum(np.bincount(codes[order], minlength=len(names))).tolist()]
    slices = [slice(*ends_of) for ends_of in pairwise(ends)]
    return _SortedRows(unit[order], order, slices, names, len(codes))


def _blocks(rows: _SortedRows) -> Iterator[_Block]:
    step = max(1, _BLOCK_PAIRS // max(1, len(rows.unit)))
    for code, group in enumerate(rows.groups):
        for start in range(group.start, group.stop, step):
            yield _Block(code, group, slice(start, min(start + step, group.stop)))
