"""All pairs of a map whose relation stands out, as the edges of a graph."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from phenopipe.errors import InputError
from phenopipe.maps.null import N_BINS, PairNull, count_cosines, count_pairs
from phenopipe.maps.relations import Arranged, Vectors, arrange, cosine_blocks, pair_cosines
from phenopipe.stats import Indices

# One row a pair, each once: of two genes by name, of a gene and a compound the gene first.
EDGES = pa.schema(
    {
        "perturbation": pa.string(),
        "neighbour": pa.string(),
        "relation": pa.string(),
        "cosine": pa.float32(),
        "p_value": pa.float64(),
        "fdr": pa.float64(),
    }
)


def find_edges(
    x: ArrayLike,
    labels: Sequence[str] | ArrayLike,
    *,
    kinds: Sequence[str] | ArrayLike | None = None,
    max_fdr: float = 0.05,
    block: int | None = None,
) -> Iterator[pa.Table]:
    """Yield the pairs with an FDR of at most this, alike and opposite, a block at a time.

    The null and the FDR are those of :func:`phenopipe.maps.relations.top_neighbours`. Cosines are
    worked out twice, to count them and to pick: all pairs of a genome do not fit in memory.

    Parameters
    ----------
    x, labels, kinds
        As of :func:`phenopipe.maps.relations.top_neighbours`.
    max_fdr
        False discovery rate, over 0 and at most 1, of each relation.
    block
        Rows at a time; as many as fit 16 MB of cosines if None.

    Yields
    ------
    Table
        EDGES, by relation, then by perturbation and neighbour.

    Raises
    ------
    InputError
        If the rate is none, or as :func:`phenopipe.maps.relations.arrange`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(100, 40))
    >>> x[1] = -x[0]
    >>> pairs = pa.concat_tables(find_edges(x, [f"G{i:02d}" for i in range(100)]))
    >>> pairs.select(["perturbation", "neighbour", "cosine"]).to_pylist()
    [{'perturbation': 'G00', 'neighbour': 'G01', 'cosine': -1.0}]
    """
    if not 0 < max_fdr <= 1:
        raise InputError(f"expected a false discovery rate over 0 and at most 1, found {max_fdr}")
    made = arrange(x, labels, kinds)
    texts = pa.array(made.names.tolist(), pa.string())
    for relation, first, second in made.relations():
        null = PairNull.of(_count(made.unit, first, second, block))
        for rows, columns in _pick(made, first, second, null.tails(max_fdr), block):
            cosines = pair_cosines(made.unit, made.unit, row=rows, column=columns)
            p_values, fdr = null.look_up(cosines)
            sure = np.flatnonzero(fdr <= max_fdr)
            edges = {
                "perturbation": texts.take(pa.array(rows[sure])),
                "neighbour": texts.take(pa.array(columns[sure])),
                "relation": pa.repeat(relation, len(sure)),
                "cosine": cosines[sure],
                "p_value": p_values[sure],
                "fdr": fdr[sure],
            }
            yield pa.table(edges, schema=EDGES)


def _count(unit: Vectors, first: slice, second: slice, block: int | None) -> Indices:
    counts = np.zeros(N_BINS, dtype=np.int64)
    for start, cosines in cosine_blocks(unit[first], unit[second], block=block):
        counts += count_pairs(cosines, start=start) if first == second else count_cosines(cosines)
    return counts


def _pick(
    made: Arranged, first: slice, second: slice, tails: tuple[float, float], block: int | None
) -> Iterator[tuple[Indices, Indices]]:
    """Give the places of a block's pairs in the tails, each pair once."""
    for start, cosines in cosine_blocks(made.unit[first], made.unit[second], block=block):
        outside = (cosines <= tails[0]) | (cosines >= tails[1])
        if first == second:
            outside = np.triu(outside, start + 1)
        rows, columns = np.nonzero(outside)
        yield first.start + start + rows, second.start + columns
