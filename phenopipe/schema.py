"""What each stage publishes: columns, dtypes and dims, and the checks on the way in."""

import pyarrow as pa
import xarray as xr

from phenopipe.config import Per
from phenopipe.errors import InputError

# The key of a row, in the order in which rows are sorted: of a field, or of a crop.
FIELD_KEYS = ("experiment", "plate", "well", "field")
CROP_KEYS = (*FIELD_KEYS, "y", "x")

# What was done to a well, in every spelling brought to one (design: platemap).
PLATEMAP_COLUMNS = {
    "well": pa.string(),
    "perturbation": pa.string(),
    "perturbation_type": pa.string(),
    "gene": pa.string(),
    "guide": pa.string(),
    "compound": pa.string(),
    "smiles": pa.string(),
    "concentration_um": pa.float64(),
    "control_type": pa.string(),
}
PERTURBATION_TYPES = ("crispr", "sirna", "orf", "compound", "control", "empty")
CONTROL_TYPES = ("negative", "positive", "")
# What a platemap's cells say, in lower case, where there is nothing to say.
NAMES_FOR_NOTHING = {"", "na", "n/a", "nan", "none", "null"}

_FIELD_COLUMNS = {
    "experiment": pa.string(),
    "plate": pa.string(),
    "well": pa.string(),
    "field": pa.int32(),
}

# One row a source file. `verdict`: "ok", "ignored", "missing", the fault's name or the name of
# the QC failure; `destination`: the array's path in the plate image, empty where none.
LEDGER = pa.schema(
    {
        "path": pa.string(),
        "size": pa.int64(),
        "digest": pa.string(),
        "verdict": pa.string(),
        "reason": pa.string(),
        "well": pa.string(),
        "field": pa.int32(),
        "channel": pa.string(),
        "z": pa.int32(),
        "t": pa.int32(),
        "destination": pa.string(),
    }
)

# One row a field and channel; `verdict` and `reason` are the field's. `cells` is known in the
# channel that shows nuclei.
QC = pa.schema(
    {
        **_FIELD_COLUMNS,
        "channel": pa.string(),
        "mean": pa.float32(),
        "background": pa.float32(),
        "foreground": pa.float32(),
        "saturated": pa.float32(),
        "focus": pa.float32(),
        "spectrum_slope": pa.float32(),
        "detail": pa.float32(),
        "cells": pa.int32(),
        "verdict": pa.string(),
        "reason": pa.string(),
        "well_verdict": pa.string(),
        "well_reason": pa.string(),
        "plate_verdict": pa.string(),
        "plate_reason": pa.string(),
    }
)

# One row a channel and measure of a plate. Of the edge, the rows and the columns: effect size, p
# and FDR; null where there are too few wells to test.
PLATE_EFFECTS = pa.schema(
    {
        "experiment": pa.string(),
        "plate": pa.string(),
        "channel": pa.string(),
        "measure": pa.string(),
        "wells": pa.int32(),
        **{
            f"{where}_{what}": pa.float64()
            for where in ("edge", "row", "column")
            for what in ("effect", "p_value", "fdr")
        },
        "verdict": pa.string(),
        "reason": pa.string(),
    }
)

# One row a plate, channel and measure of an experiment. `deviation`: robust deviations of the
# plate's median from the batch's; null where there are too few plates to judge.
DRIFT = pa.schema(
    {
        "experiment": pa.string(),
        "plate": pa.string(),
        "channel": pa.string(),
        "measure": pa.string(),
        "median": pa.float64(),
        "batch_median": pa.float64(),
        "deviation": pa.float64(),
        "verdict": pa.string(),
        "reason": pa.string(),
    }
)

NEIGHBOURS = pa.schema(
    {
        "perturbation": pa.string(),
        "rank": pa.int32(),
        "neighbour": pa.string(),
        "cosine": pa.float32(),
        "p_value": pa.float64(),
        "fdr": pa.float64(),
    }
)

# One row a metric. `correction`: the map's embedding that was scored ("none" or "arms").
BENCHMARK = pa.schema(
    {
        "metric": pa.string(),
        "source": pa.string(),
        "correction": pa.string(),
        "value": pa.float64(),
        "low": pa.float64(),
        "high": pa.float64(),
        "null": pa.float64(),
        "null_low": pa.float64(),
        "null_high": pa.float64(),
        "p_value": pa.float64(),
        "n": pa.int64(),
        "parameters": pa.string(),
        "annotation_digest": pa.string(),
    }
)


def embeddings_schema(
    width: int, carried: dict[str, pa.DataType] | None = None, *, per: Per = "crop"
) -> pa.Schema:
    """Build the schema of one plate's embeddings: key, platemap, carried columns, vector.

    Parameters
    ----------
    width
        The model's output width d.
    carried
        Further columns of the platemap, by name.
    per
        What a row is: a ``field`` has no y and x.

    Examples
    --------
    >>> embeddings_schema(384).field("embedding").type
    FixedSizeListType(fixed_size_list<item: float>[384])
    """
    platemap = {name: kind for name, kind in PLATEMAP_COLUMNS.items() if name != "well"}
    vector = {"embedding": pa.list_(pa.float32(), width)}
    crop = {"y": pa.int32(), "x": pa.int32()} if per == "crop" else {}
    return pa.schema({**_FIELD_COLUMNS, **crop, **platemap, **(carried or {}), **vector})


def check_table(table: pa.Table, schema: pa.Schema, *, where: str) -> pa.Table:
    """Return the table if it has every column of the schema with its type.

    Raises
    ------
    InputError
        Naming the first column that is missing or of another type.
    """
    for column in schema:
        if column.name not in table.column_names:
            found = ", ".join(table.column_names)
            raise InputError(f"expected a column {column.name} in {where}, found {found}")
        kind = table.schema.field(column.name).type
        if kind != column.type:
            raise InputError(f"expected {column.name}: {column.type} in {where}, found {kind}")
    return table


def check_embeddings(table: pa.Table, *, where: str) -> pa.Table:
    """Return the table if it holds embeddings: key columns, platemap and one vector a row.

    A row is a crop where the table has a column y or x, and a field where it has neither.

    Raises
    ------
    InputError
        Naming what is missing.
    """
    vector = table.schema.field("embedding").type if "embedding" in table.column_names else None
    if vector is None or not pa.types.is_fixed_size_list(vector):
        raise InputError(f"expected embedding: fixed_size_list<float32>[d] in {where}")
    per: Per = "crop" if {"y", "x"} & {*table.column_names} else "field"
    return check_table(table, embeddings_schema(vector.list_size, per=per), where=where)


def check_map(dataset: xr.Dataset, *, where: str) -> xr.Dataset:
    """Return the dataset if it is a map: ``embedding (perturbation, feature)`` and its metadata.

    Raises
    ------
    InputError
        Naming the variable that is missing or has other dims.
    """
    wanted = {
        "embedding": ("perturbation", "feature"),
        "embedding_uncorrected": ("perturbation", "feature"),
        "gene": ("perturbation",),
        "arm": ("perturbation",),
        "unexpressed": ("perturbation",),
    }
    for name, dims in wanted.items():
        found = dataset[name].dims if name in dataset else None
        if found != dims:
            raise InputError(f"expected {name} {dims} in {where}, found {found}")
    return dataset
