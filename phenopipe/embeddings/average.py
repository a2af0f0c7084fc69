"""Vectors out of tables, and their plain means: crops to fields, crops or fields to wells."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from phenopipe.embeddings.store import embedding_width
from phenopipe.errors import InputError

Vectors = NDArray[np.float32]

# What a row may stand for, from the finest on, and by which columns rows of it are told apart.
UNITS = {
    "crop": ("experiment", "plate", "well", "field", "y", "x"),
    "field": ("experiment", "plate", "well", "field"),
    "well": ("experiment", "plate", "well"),
}


def vectors_of(table: pa.Table) -> Vectors:
    """Give the embeddings as an array (n, d), without a copy where they lie in one piece.

    What is not copied cannot be written to.

    Raises
    ------
    InputError
        If the table has none, or one is null.
    """
    width = embedding_width(table)
    column = table["embedding"]
    if column.null_count:
        raise InputError(
            f"expected a vector in each row, found {column.null_count} of {len(table)} without: "
            "embed the plate again"
        )
    parts: list[Vectors] = [c.flatten().to_numpy(zero_copy_only=False) for c in column.chunks]
    joined = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts])
    return joined.reshape(-1, width)


def finite_vectors(table: pa.Table, *, where: str) -> Vectors:
    """Give the embeddings as an array (n, d) if all are finite.

    Parameters
    ----------
    where
        What the table is, for the message.

    Raises
    ------
    InputError
        If one is null, NaN or infinite; with its wells.
    """
    bad = table["embedding"].is_null().to_numpy(zero_copy_only=False)
    if not bad.any():
        vectors = vectors_of(table)
        bad = ~np.isfinite(vectors).all(axis=1)
        if not bad.any():
            return vectors
    wells = ", ".join(sorted(set(table["well"].filter(pa.array(bad)).to_pylist()))[:5])
    raise InputError(
        f"expected finite embeddings in {where}, found NaN, infinity or null in {bad.sum()} of "
        f"{len(table)} rows (wells {wells}): embed the plate again"
    )


def group_means(
    values: NDArray[np.floating[Any]], codes: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Average the rows of each group in float64; sums run in the order of rows.

    Parameters
    ----------
    values
        Shape (n, d), n at least 1.
    codes
        Each row's group, from 0, shape (n,).

    Returns
    -------
    means
        Shape (groups, d), in the order of codes.
    first
        Index of each group's first row.

    Examples
    --------
    >>> means, first = group_means(np.array([[1.0], [7.0], [2.0]]), np.array([1, 0, 1]))
    >>> means.tolist(), first.tolist()
    ([[7.0], [1.5]], [1, 0])
    """
    order = np.argsort(codes, kind="stable")
    _, starts, counts = np.unique(codes[order], return_index=True, return_counts=True)
    # Rows of wells lie together already: then no copy of the crops is made.
    sorted_values = values if (np.diff(codes) >= 0).all() else values[order]
    sums = np.add.reduceat(sorted_values, starts, axis=0, dtype=np.float64)
    return sums / counts[:, None], order[starts]


def average_embeddings(table: pa.Table, *, per: str) -> pa.Table:
    """Average a table's vectors into fields or wells, in the order in which these come first.

    Parameters
    ----------
    table
        As :func:`phenopipe.embeddings.read_embeddings` gives it, with its key columns.
    per
        ``field`` or ``well``; ``crop`` gives crops back as they are.

    Returns
    -------
    Table
        One row a field or well: the mean of its vectors in float64, as float32. What tells its
        crops apart (y, x, and for wells field) is left out, else it has its first row's columns.

    Raises
    ------
    InputError
        If the rows are coarser already, a key column is not there, or a vector is not finite.
    """
    dropped = _dropped_columns(table, per)
    if not dropped or not len(table):
        return table.drop_columns(dropped)
    keys = table.select(UNITS[per]).to_pandas()
    codes = keys.groupby(list(UNITS[per]), sort=False).ngroup().to_numpy()
    means, first = group_means(finite_vectors(table, where="the table"), codes)
    vectors = pa.FixedSizeListArray.from_arrays(means.astype(np.float32).ravel(), means.shape[1])
    rows = table.drop_columns([*dropped, "embedding"]).take(pa.array(first))
    kept = [name for name in table.column_names if name not in dropped]
    return rows.append_column(table.schema.field("embedding"), vectors).select(kept)


def _dropped_columns(table: pa.Table, per: str) -> list[str]:
    if per not in UNITS:
        raise InputError(f"expected per to be one of {', '.join(UNITS)}, found {per!r}")
    missing = [name for name in UNITS[per] if name not in table.column_names]
    if missing:
        raise InputError(
            f"expected rows that tell {per}s apart, found none of {', '.join(missing)}: ask for a "
            'coarser unit, read these columns too, or embed with embed.per = "crop"'
        )
    return [name for name in UNITS["crop"] if name in table.column_names and name not in UNITS[per]]
