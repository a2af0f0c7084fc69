"""What resampled genes and shuffled arms make of proximity bias, at any number of genes.

An interval needs a thousand resamples, and each of 17,000 genes would rank 144 million pairs. So
pairs are ranked once, into classes of nearly equal size in which they tie; what follows counts
classes. Cosines are computed again where they are needed, block by block: no matrix of all pairs
is held.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phenopipe.stats import (
    Floats,
    Indices,
    bootstrap_counts,
    cosine_pairs,
    finite_rows,
    run_threads,
    unit_rows,
)

# Two pairs in one of the classes count as a tie. That moves a probability by less than 1e-5.
_CLASSES = 1024
# Classes are looked up in cells of this width, by the cosine itself: much quicker than a search.
_CELLS = 1 << 20
# Genes whose pairs, two million, set the bounds of the classes.
_BOUNDING_GENES = 2048
_BLOCK_PAIRS = 1 << 22

Classes = NDArray[np.int16]


class RankedPairs:
    """The pairs of n genes in classes by the rank of their cosine.

    Parameters
    ----------
    embeddings
        One row a gene, shape (n, d).

    Attributes
    ----------
    counts
        How many of each gene's pairs stand in each class, shape (n, 1024).

    Examples
    --------
    >>> ranked = RankedPairs(np.random.default_rng(0).normal(size=(30, 4)))
    >>> ranked.counts.sum() / 2, ranked.count_within(np.arange(10)).sum()
    (np.float32(435.0), np.float64(45.0))
    """

    def __init__(self, embeddings: ArrayLike) -> None:
        unit = unit_rows(finite_rows(embeddings))
        self._table = _class_table(unit)
        self._unit = unit.astype(np.float32)
        blocks = run_threads(self._count_rows, self.blocks(np.arange(len(unit))))
        none = np.empty((0, _CLASSES), dtype=np.float32)
        self.counts: NDArray[np.float32] = np.concatenate([none, *blocks])

    def blocks(self, rows: Indices) -> Iterator[Indices]:
        """Split rows so that their cosines to all genes fit in a block."""
        step = max(1, _BLOCK_PAIRS // max(1, len(self._unit)))
        for start in range(0, len(rows), step):
            yield rows[start : start + step]

    def classes(self, rows: Indices, columns: Indices | slice = slice(None)) -> Classes:
        """Give the class of each row's cosine to each column's gene, itself not excepted."""
        cosines = self._unit[rows] @ self._unit[columns].T
        cosines += 1
        cosines *= _CELLS / 2
        return self._table[cosines.astype(np.int32)]

    def count_within(self, rows: Indices) -> Floats:
        """Count the pairs among some genes in each class, shape (1024,), each pair once."""
        square = self.classes(rows, rows)
        twice = np.bincount(square.ravel(), minlength=_CLASSES)
        return (twice - np.bincount(square.diagonal(), minlength=_CLASSES)) / 2

    def _count_rows(self, rows: Indices) -> NDArray[np.float32]:
        classes = self.classes(rows)
        counts = np.empty((len(rows), _CLASSES), dtype=np.float32)
        for position, row in enumerate(rows):
            counts[position] = np.bincount(classes[position], minlength=_CLASSES)
            counts[position, classes[position, row]] -= 1
        return counts


def _class_table(unit: Floats) -> Classes:
    """Give the class of each cell; rounding can carry a cosine of 1 into a cell above the last."""
    some = unit[:: max(1, len(unit) // _BOUNDING_GENES)]
    pairs = np.sort(cosine_pairs(some))
    bounds = (
        pairs[np.linspace(0, len(pairs) - 1, _CLASSES - 1).astype(np.int64)]
        if len(pairs)
        else pairs
    )
    middles = (np.arange(_CELLS + 2) + 0.5) * (2 / _CELLS) - 1
    return np.searchsorted(bounds, middles).astype(np.int16)


def bootstrap_proximity(
    ranked: RankedPairs, codes: Indices, *, n_bootstrap: int, seed: int
) -> Floats:
    r"""Resample genes with replacement and measure P(within > between) in each resample.

    A pair weighs the product :math:`w_i w_j` of its genes' counts. With the weighted
    distributions :math:`F^*` of the pairs within and :math:`G^*` of those between, the
    probability :math:`\theta = \int G\,dF` of a resample is taken as
    :math:`\int G\,dF^* + \int (1 - F)\,dG^* - \theta`, without the product of the two
    deviations, which is of second order. So pairs are ranked once, and a resample is a quadratic
    form in w: n_bootstrap n² multiplications in matrix products, four times.

    Parameters
    ----------
    ranked
        The pairs of n genes.
    codes
        Each gene's arm, 0 … g - 1, shape (n,).

    Returns
    -------
    ndarray, shape (n_bootstrap, g + 1)
        Per arm, and last the genome; NaN where a resample holds no pair.
    """
    counts = bootstrap_counts(len(codes), n_bootstrap=n_bootstrap, seed=seed).astype(np.float32)
    within, between = _count_arms(ranked, codes)
    whole = within.sum(axis=0), between.sum(axis=0)
    sums = np.zeros((4, n_bootstrap))
    columns = []
    for code in range(len(within)):
        of_arm, of_whole = _weigh(
            ranked, codes == code, counts, [(within[code], between[code]), whole]
        )
        columns.append(_first_order(of_arm, within[code], between[code]))
        sums += of_whole
    return np.stack([*columns, _first_order(sums, *whole)], axis=1)


def _count_arms(ranked: RankedPairs, codes: Indices) -> tuple[Floats, Floats]:
    """Count in classes the pairs within each arm, and those of its genes to others, (g, 1024)."""
    arms = np.arange(codes.max(initial=-1) + 1)
    within = np.array([ranked.count_within(np.flatnonzero(codes == arm)) for arm in arms])
    within = within.reshape(-1, _CLASSES)
    of_arms = (codes == arms[:, None]).astype(np.float32) @ ranked.counts
    # In the counts of an arm's genes a pair within stands twice, once from each gene.
    return within, of_arms - 2 * within


def _weigh(
    ranked: RankedPairs,
    member: NDArray[np.bool_],
    counts: NDArray[np.float32],
    samples: list[tuple[Floats, Floats]],
) -> list[Floats]:
    """Sum weights and weighted placements of an arm's pairs among each of the samples.

    Returns
    -------
    list of ndarray, each of shape (4, n_bootstrap)
        One a sample: of the pairs within, the weighted placements and the weights; of those
        between, the same.
    """
    own, others = np.flatnonzero(member), np.flatnonzero(~member)
    inner, outer = counts[:, own], counts[:, others]
    size, squares = inner.sum(axis=1, dtype=np.float64), (inner.astype(np.float64) ** 2).sum(axis=1)
    weights = size**2 - squares, size * outer.sum(axis=1, dtype=np.float64)
    tables = [(_placed(between), 1 - _placed(within)) for within, between in samples]
    sums = [np.stack([0 * size, weights[0], 0 * size, weights[1]]) for _ in samples]
    for rows in ranked.blocks(own):
        classes = ranked.classes(rows)
        to_own, to_others, itself = classes[:, own], classes[:, others], np.searchsorted(own, rows)
        for found, (above, beaten) in zip(sums, tables, strict=True):
            placed = above[to_own]
            placed[np.arange(len(rows)), itself] = 0
            found[0] += _weighted(inner @ placed.T, counts[:, rows])
            found[2] += _weighted(outer @ beaten[to_others].T, counts[:, rows])
    return sums


def _weighted(sums: NDArray[np.float32], counts: NDArray[np.float32]) -> Floats:
    weighted: Floats = np.einsum("br,br->b", sums, counts, dtype=np.float64)
    return weighted


def _placed(counts: Floats) -> NDArray[np.float32]:
    """Give each class's placement: the share of pairs in classes below, and half its own."""
    with np.errstate(invalid="ignore"):
        placed: Floats = (np.cumsum(counts) - counts / 2) / counts.sum()
    return placed.astype(np.float32)


def _first_order(sums: Floats, within: Floats, between: Floats) -> Floats:
    above, weight_within, beaten, weight_between = sums
    mean = _probability(within[None], between[None])[0]
    with np.errstate(invalid="ignore"):
        first_order: Floats = above / weight_within + beaten / weight_between - mean
    return first_order.clip(0, 1)


def _probability(within: Floats, between: Floats) -> Floats:
    below = np.cumsum(between, axis=1) - between / 2
    with np.errstate(invalid="ignore"):
        share: Floats = (within * below).sum(axis=1) / (within.sum(axis=1) * between.sum(axis=1))
    return share


def shuffle_proximity(ranked: RankedPairs, codes: Indices, *, n_shuffles: int, seed: int) -> Floats:
    """Measure P(within > between) with the arms' labels shuffled over the genes.

    The cosines stay, and so do their ranks; each gene's counts of ranks, summed over an arm, less
    those of the pairs within, are those of the pairs between: the Mann-Whitney identity without a
    sort, and only the pairs within an arm are looked at again.

    Parameters
    ----------
    ranked
        The pairs of n genes.
    codes
        Each gene's arm, 0 … g - 1, shape (n,).

    Returns
    -------
    ndarray, shape (n_shuffles, g + 1)
        Per arm, and last the genome; NaN where there is no pair.
    """
    rng = np.random.default_rng(seed)

    def measure(shuffled: Indices) -> Floats:
        within, between = _count_arms(ranked, shuffled)
        total = within.sum(axis=0), between.sum(axis=0)
        return _probability(np.vstack([within, total[0]]), np.vstack([between, total[1]]))

    found = run_threads(measure, [rng.permutation(codes) for _ in range(n_shuffles)])
    return np.array(found).reshape(n_shuffles, -1)
