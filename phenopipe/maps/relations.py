"""Relations between perturbations: cosines in blocks, nearest neighbours and how sure they are."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from phenopipe.errors import InputError
from phenopipe.schema import NEIGHBOURS
from phenopipe.stats import Floats, Indices, unit_rows

_BLOCK_ROWS = 512
# Cosines are counted in this many bins over [-1, 1].
_BINS = 1 << 20
# Quartiles of a normal distribution are this many standard deviations apart.
_QUARTILES_APART = 1.3489795003921634


def cosine_blocks(
    x: ArrayLike, *, block: int = _BLOCK_ROWS
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the cosines of a block of rows to all rows: its first row, and (block, n) float32.

    Raises
    ------
    InputError
        If a row is zero or not finite: it has no direction.

    Examples
    --------
    >>> [(start, cosines.tolist()) for start, cosines in cosine_blocks([[3, 0], [0, 1]], block=1)]
    [(0, [[1.0, 0.0]]), (1, [[0.0, 1.0]])]
    """
    unit = unit_rows(x)
    zero = np.flatnonzero(~unit.any(axis=1))
    if zero.size:
        raise InputError(
            f"expected embeddings with a direction, found {zero.size} of {len(unit)} that are all "
            f"zero, the first at row {zero[0]}: leave these out"
        )
    for start in range(0, len(unit), block):
        cosines = np.clip(unit[start : start + block] @ unit.T, -1, 1)
        yield start, cosines.astype(np.float32)


def top_neighbours(
    x: ArrayLike, labels: Sequence[str] | ArrayLike, *, top: int, block: int = _BLOCK_ROWS
) -> pa.Table:
    r"""Find each perturbation's most similar others, with a p-value and an FDR for each pair.

    The null is the map's own (Efron 2004, "Large-scale simultaneous hypothesis testing: the
    choice of a null hypothesis"): most pairs are unrelated, so the centre of all pairs shows how
    unrelated ones vary. With :math:`z = \operatorname{artanh}(\cos)`, which is close to normal,
    its median :math:`m` and :math:`s = (q_{75} - q_{25}) / 1.349` over all pairs, the two-sided
    p-value is :math:`2 \Phi(-|z - m| / s)`. The FDR is Benjamini & Hochberg's (1995) over all
    pairs. (A pair's rank among the same pairs would be a p-value under which no pair stands out.)

    Parameters
    ----------
    x
        Embeddings, shape (n, d), no row zero.
    labels
        Perturbations, shape (n,).
    top
        Neighbours kept for each, at most n - 1.

    Returns
    -------
    Table
        schema.NEIGHBOURS, by perturbation and rank; rank 1 is the largest cosine, ties by name.
        Cosines are counted in bins of 2e-6 for the p-value and FDR. Holds block x n cosines, not
        n x n.

    Examples
    --------
    >>> table = top_neighbours([[1, 0], [1, 0.1], [0, 1]], ["a", "b", "c"], top=1)
    >>> table["neighbour"].to_pylist()
    ['b', 'a', 'b']
    """
    names = np.asarray(labels).astype(np.str_)
    order = np.argsort(names, kind="stable")
    counts = np.zeros(_BINS, dtype=np.int64)
    neighbours, cosines = [], []
    kept = min(top, len(names) - 1)
    for start, block_cosines in cosine_blocks(np.asarray(x)[order], block=block):
        counts += _count_pairs(block_cosines, start)
        nearest = _rank_block(block_cosines, start)[:, :kept]
        neighbours.append(nearest)
        cosines.append(np.take_along_axis(block_cosines, nearest, axis=1))
    found = np.concatenate(cosines).ravel() if cosines else np.empty(0, np.float32)
    index = np.concatenate(neighbours).ravel() if neighbours else np.empty(0, np.int64)
    p_values, fdr = _significance(counts)
    bins = _bin_of(found)
    columns = {
        "perturbation": np.repeat(names[order], max(kept, 0)),
        "rank": np.tile(np.arange(1, kept + 1, dtype=np.int32), len(names)),
        "neighbour": names[order][index],
        "cosine": found,
        "p_value": p_values[bins],
        "fdr": fdr[bins],
    }
    return pa.table(columns, schema=NEIGHBOURS)


def _bin_of(cosines: NDArray[np.float32]) -> Indices:
    places = ((cosines.astype(np.float64) + 1) * (_BINS / 2)).astype(np.int64)
    return np.minimum(places, _BINS - 1)


def _count_pairs(cosines: NDArray[np.float32], start: int) -> Indices:
    """Count the block's pairs above the diagonal, by bin."""
    above = np.arange(cosines.shape[1]) > (start + np.arange(len(cosines)))[:, None]
    return np.bincount(_bin_of(cosines[above]), minlength=_BINS)


def _rank_block(cosines: NDArray[np.float32], start: int) -> Indices:
    """Order all others by falling cosine; a stable sort keeps ties in the order of names."""
    ranked = -cosines
    rows = np.arange(len(cosines))
    ranked[rows, start + rows] = np.inf
    return np.argsort(ranked, axis=1, kind="stable")


def _significance(counts: Indices) -> tuple[Floats, Floats]:
    """Give p-value and Benjamini-Hochberg FDR for each bin of cosines; 1 where no pairs vary."""
    p_values = _null_p_values(counts)
    pairs = counts.sum()
    order = np.argsort(p_values, kind="stable")
    # Bins of one p-value are tied: all their pairs count as reached.
    reached = np.cumsum(counts[order])
    last = np.searchsorted(p_values[order], p_values[order], side="right") - 1
    raw = p_values[order] * pairs / np.maximum(reached[last], 1)
    fdr = np.empty_like(raw)
    fdr[order] = np.minimum(np.minimum.accumulate(np.where(reached > 0, raw, 1)[::-1])[::-1], 1)
    return p_values, fdr


def _null_p_values(counts: Indices) -> Floats:
    z = np.arctanh((np.arange(_BINS) + 0.5) * (2 / _BINS) - 1)
    reached = np.cumsum(counts)
    low, middle, high = np.searchsorted(reached, reached[-1] * np.array([0.25, 0.5, 0.75]))
    spread = (z[high] - z[low]) / _QUARTILES_APART
    if spread <= 0 or not reached[-1]:
        return np.ones(_BINS)
    p_values: Floats = 2 * ndtr(-np.abs(z - z[middle]) / spread)
    return p_values
