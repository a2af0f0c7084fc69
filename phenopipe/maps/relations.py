"""Relations between perturbations: cosines in blocks, the most alike and the most opposite."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from operator import itemgetter

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from phenopipe.errors import InputError
from phenopipe.maps.null import N_BINS, PairNull, count_cosines, count_pairs
from phenopipe.schema import NEIGHBOURS
from phenopipe.stats import Indices, unit_rows

Vectors = NDArray[np.float32]

# The two ends of a perturbation's ranking, and what turns the second into the first.
SIDES = {"alike": 1, "opposite": -1}
# Cosines in hand at a time, as float32: 16 MB of them.
_CELLS = 1 << 22
# Pairs whose cosines are worked out in float64 at a time.
_PAIRS = 4096
# Products of float32 vectors of length 1 lie within 1.2e-6 of those in float64 (the worst measured,
# at widths of 64 to 4,096): two that differ by up to twice that may stand in the wrong order.
_ROUNDING = np.float32(4e-6)


@dataclass(frozen=True)
class Arranged:
    """Perturbations by kind, genes first, then by name: so ties fall to names.

    Attributes
    ----------
    unit
        Their embeddings at length 1, shape (n, d).
    names
        Shape (n,).
    kinds
        The rows of each kind.
    """

    unit: Vectors
    names: NDArray[np.str_]
    kinds: dict[str, slice]

    def relations(self) -> Iterator[tuple[str, slice, slice]]:
        """Give each relation's name and the rows of its two kinds."""
        for first, second in combinations_with_replacement(self.kinds, 2):
            yield f"{first}-{second}", self.kinds[first], self.kinds[second]


def arrange(
    x: ArrayLike, labels: Sequence[str] | ArrayLike, kinds: Sequence[str] | ArrayLike | None = None
) -> Arranged:
    """Scale embeddings to length 1, and put them in the order of kinds and names.

    Parameters
    ----------
    x
        Embeddings, shape (n, d).
    labels
        Perturbations, shape (n,), each once.
    kinds
        Such as ``gene`` or ``compound``, shape (n,); all of one kind ``perturbation`` if None.

    Raises
    ------
    InputError
        If a row is zero or not finite, a perturbation stands there twice, or numbers differ.

    Examples
    --------
    >>> made = arrange([[0, 2], [3, 0], [1, 0]], ["b", "a", "C"], ["gene", "gene", "compound"])
    >>> made.names.tolist(), [name for name, *_ in made.relations()]
    (['a', 'b', 'C'], ['gene-gene', 'gene-compound', 'compound-compound'])
    """
    names = np.asarray(labels, dtype=np.str_)
    unit = directions(x)
    of_kind = np.asarray(["perturbation"] * len(names) if kinds is None else kinds, dtype=np.str_)
    if not len(unit) == len(names) == len(of_kind):
        raise InputError(
            f"expected a name and a kind for each of {len(unit)} embeddings, found {len(names)} "
            f"names and {len(of_kind)} kinds: give one of each a row"
        )
    found, counts = np.unique(names, return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"expected each perturbation once, found {found[counts.argmax()].item()!r} "
            f"{counts.max()} times: average its rows first"
        )
    order = np.lexsort((names, of_kind, of_kind != "gene"))
    runs = np.unique(of_kind[order], return_index=True, return_counts=True)
    spans = sorted(zip(*(run.tolist() for run in runs), strict=True), key=itemgetter(1))
    kinds_rows = {kind: slice(start, start + length) for kind, start, length in spans}
    return Arranged(unit[order], names[order], kinds_rows)


def directions(x: ArrayLike) -> Vectors:
    """Scale each row to length 1, as float32.

    Raises
    ------
    InputError
        If a row is zero or not finite: it has no direction.

    Examples
    --------
    >>> directions([[3, 4]])
    array([[0.6, 0.8]], dtype=float32)
    """
    unit = unit_rows(x)
    zero = np.flatnonzero(~unit.any(axis=1))
    if zero.size:
        raise InputError(
            f"expected embeddings with a direction, found {zero.size} of {len(unit)} that are all "
            f"zero, the first at row {zero[0]}: leave these out"
        )
    return unit.astype(np.float32)


def cosine_blocks(
    rows: Vectors, columns: Vectors, *, block: int | None = None
) -> Iterator[tuple[int, Vectors]]:
    """Yield the cosines of some rows to all columns at a time: the first row, and (block, n).

    Parameters
    ----------
    rows, columns
        Vectors of length 1 as :func:`directions` gives them, shapes (m, d) and (n, d).
    block
        Rows at a time; as many as give 16 MB if None.

    Examples
    --------
    >>> x = directions([[3, 0], [0, 1]])
    >>> [(start, cosines.tolist()) for start, cosines in cosine_blocks(x, x, block=1)]
    [(0, [[1.0, 0.0]]), (1, [[0.0, 1.0]])]
    """
    size = block or max(1, _CELLS // max(len(columns), 1))
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size] @ columns.T


def pair_cosines(rows: Vectors, columns: Vectors, *, row: Indices, column: Indices) -> Vectors:
    """Work out the cosines of some pairs in float64, the same wherever a pair stands.

    Parameters
    ----------
    rows, columns
        Vectors of length 1, shapes (m, d) and (n, d).
    row, column
        The pairs: places in either, shape (k,).

    Examples
    --------
    >>> x = directions([[1, 0], [1, 1], [0, 1]])
    >>> pair_cosines(x, x, row=np.array([0, 0]), column=np.array([1, 2]))
    array([0.70710677, 0.        ], dtype=float32)
    """
    cosines = np.empty(len(row), dtype=np.float32)
    for k in range(0, len(row), _PAIRS):
        first = rows[row[k : k + _PAIRS]].astype(np.float64)
        second = columns[column[k : k + _PAIRS]].astype(np.float64)
        cosines[k : k + _PAIRS] = np.clip(np.einsum("ij,ij->i", first, second), -1, 1)
    return cosines


def nearest(
    cosines: Vectors, rows: Vectors, columns: Vectors, *, top: int
) -> tuple[Indices, Vectors]:
    """Find the columns with each row's highest cosines, ties in the order of columns.

    What a product of float32 leaves open is settled by :func:`pair_cosines`: so neither the block
    nor the number of threads decides which of two is nearer.

    Parameters
    ----------
    cosines
        Of the rows to the columns, shape (m, n); -inf where a pair does not count.
    top
        How many, at least 1 and at most the pairs that count.

    Returns
    -------
    index, cosine
        Shape (m, top) each, the highest first.

    Examples
    --------
    >>> x = directions([[1, 0], [1, 1], [0, 1]])
    >>> nearest(x[:1] @ x.T, x[:1], x, top=2)[0]
    array([[0, 1]])
    """
    place = cosines.shape[1] - top
    last = np.partition(cosines, place, axis=1)[:, place]
    row, column = np.nonzero(cosines >= (last - _ROUNDING)[:, None])
    exact = pair_cosines(rows, columns, row=row, column=column)
    order = np.lexsort((column, -exact, row))
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    kept = order[rank < top]
    return column[kept].reshape(-1, top), exact[kept].reshape(-1, top)


def top_neighbours(
    x: ArrayLike,
    labels: Sequence[str] | ArrayLike,
    *,
    kinds: Sequence[str] | ArrayLike | None = None,
    top: int,
    block: int | None = None,
) -> pa.Table:
    """Find each perturbation's most alike and most opposite others, with p-value and FDR.

    A relation is between two kinds: genes, compounds, or one and the other. Each has its own
    neighbours and its own null (:class:`phenopipe.maps.null.PairNull`).

    Parameters
    ----------
    x
        Embeddings, shape (n, d), no row zero.
    labels
        Perturbations, shape (n,), each once.
    kinds
        Each one's kind, shape (n,); all of one kind if None.
    top
        Neighbours kept of each relation and side; all where there are fewer.
    block
        Rows at a time; as many as fit 16 MB of cosines if None.

    Returns
    -------
    Table
        schema.NEIGHBOURS, by perturbation, relation, side and rank. Side ``alike``: rank 1 has
        the highest cosine; ``opposite``: the lowest. Ties by name.

    Raises
    ------
    InputError
        As :func:`arrange`.

    Examples
    --------
    >>> table = top_neighbours([[1, 0], [1, 0.1], [0, 1]], ["a", "b", "c"], top=1)
    >>> table.select(["perturbation", "side", "neighbour"]).to_pandas().to_numpy().tolist()[:2]
    [['a', 'alike', 'b'], ['a', 'opposite', 'c']]
    """
    made = arrange(x, labels, kinds)
    tables = [NEIGHBOURS.empty_table()]
    for name, first, second in made.relations():
        ranked, null = _rank_relation(made.unit, first, second, top=top, block=block)
        tables.append(_tabulate(ranked, null, made.names, relation=name))
    by = [(column, "ascending") for column in ("perturbation", "relation", "side", "rank")]
    return pa.concat_tables(tables).sort_by(by)


def _rank_relation(
    unit: Vectors, first: slice, second: slice, *, top: int, block: int | None
) -> tuple[list[pd.DataFrame], PairNull]:
    """Rank the rows of both kinds, and count each pair once on the way."""
    counts = np.zeros(N_BINS, dtype=np.int64)
    ranked = []
    same = first == second
    for start, cosines in cosine_blocks(unit[first], unit[second], block=block):
        counts += count_pairs(cosines, start=start) if same else count_cosines(cosines)
        ranked += _rank_block(cosines, unit, first.start + start, second, top=top)
    if not same:
        for start, cosines in cosine_blocks(unit[second], unit[first], block=block):
            ranked += _rank_block(cosines, unit, second.start + start, first, top=top)
    return ranked, PairNull.of(counts)


def _rank_block(
    cosines: Vectors, unit: Vectors, start: int, columns: slice, *, top: int
) -> list[pd.DataFrame]:
    """Rank both sides of the rows from `start` on; rows and neighbours by their place in `unit`."""
    rows = np.arange(start, start + len(cosines))
    itself = np.flatnonzero((rows >= columns.start) & (rows < columns.stop))
    kept = min(top, cosines.shape[1] - bool(itself.size))
    if kept < 1:
        return []
    frames = []
    for side, sign in SIDES.items():
        turned = sign * cosines
        turned[itself, rows[itself] - columns.start] = -np.inf
        index, found = nearest(turned, sign * unit[rows], unit[columns], top=kept)
        ranked = {
            "perturbation": np.repeat(rows, kept),
            "side": side,
            "rank": np.tile(np.arange(1, kept + 1, dtype=np.int32), len(rows)),
            "neighbour": columns.start + index.ravel(),
            # A sum, so that a cosine of 0 has no sign.
            "cosine": sign * found.ravel() + np.float32(0),
        }
        frames.append(pd.DataFrame(ranked))
    return frames


def _tabulate(
    blocks: list[pd.DataFrame], null: PairNull, names: NDArray[np.str_], *, relation: str
) -> pa.Table:
    if not blocks:
        return NEIGHBOURS.empty_table()
    ranked = pd.concat(blocks)
    p_values, fdr = null.look_up(ranked["cosine"].to_numpy())
    texts = pa.array(names.tolist(), pa.string())
    columns = {
        "perturbation": texts.take(pa.array(ranked["perturbation"].to_numpy())),
        "relation": pa.repeat(relation, len(ranked)),
        "side": pa.array(ranked["side"].tolist(), pa.string()),
        "rank": ranked["rank"].to_numpy(),
        "neighbour": texts.take(pa.array(ranked["neighbour"].to_numpy())),
        "cosine": ranked["cosine"].to_numpy(),
        "p_value": p_values,
        "fdr": fdr,
    }
    return pa.table(columns, schema=NEIGHBOURS)
