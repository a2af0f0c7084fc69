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
# Types whose column `gene` names what was perturbed; a compound's gene is its target.
GENE_TYPES = ("crispr", "sirna", "orf", "control")
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

# One row a perturbation, relation, side and rank. `relation`: the pair's two kinds, genes first
# ("gene-compound"); `side`: "alike", rank 1 has the highest cosine, or "opposite", the lowest.
NEIGHBOURS = pa.schema(
    {
        "perturbation": pa.string(),
        "relation": pa.string(),
        "side": pa.string(),
        "rank": pa.int32(),
        "neighbour": pa.string(),
        "cosine": pa.float32(),
        "p_value": pa.float64(),
        "fdr": pa.float64(),
    }
)

_DOSE_CURVE = {
    "ec50_um": pa.float64(),
    "ec50_low": pa.float64(),
    "ec50_high": pa.float64(),
    "hill": pa.float64(),
    "curve_why": pa.string(),
}
_TREATMENT = {
    "perturbation": pa.string(),
    "kind": pa.string(),
    "gene": pa.string(),
    "compound": pa.string(),
    "concentration_um": pa.float64(),
    "n_wells": pa.int64(),
    "n_plates": pa.int64(),
}

# One row a perturbation and dose. `matched_by`: whether its controls are of its plates or of its
# experiments; `effect`: how far its mean lies from theirs, 1 being as far as single controls do;
# `why`: why it was not tested, or empty. The dose curve is the compound's, in each of its rows.
HITS = pa.schema(
    {
        **_TREATMENT,
        "matched_by": pa.string(),
        "energy_distance": pa.float64(),
        "effect": pa.float64(),
        "effect_low": pa.float64(),
        "effect_high": pa.float64(),
        "p_value": pa.float64(),
        "fdr": pa.float64(),
        "why": pa.string(),
        **_DOSE_CURVE,
    }
)

# One row a design, compound and dose. `reversal`: 0 diseased, 1 healthy; `side_effect`: distance
# from the disease's axis, 1 being as far as single controls lie; `distance`: what is left to
# health, 1 being the disease's own; `cosine`: of the compound's effect with the way to health.
RESCUE = pa.schema(
    {
        "design": pa.string(),
        "rank": pa.int32(),
        **_TREATMENT,
        **{
            f"{score}{end}": pa.float64()
            for score in ("reversal", "side_effect", "distance")
            for end in ("", "_low", "_high")
        },
        "cosine": pa.float64(),
        "p_value": pa.float64(),
        "fdr": pa.float64(),
        "why": pa.string(),
        **_DOSE_CURVE,
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

# One row a score of two maps, on the perturbations that both hold. `p_value`: of the differences
# in the same resamples; `p_signs`: of random flips of the units' signs, null where there are none.
AGAINST = pa.schema(
    {
        "metric": pa.string(),
        "source": pa.string(),
        "correction": pa.string(),
        "value": pa.float64(),
        "other": pa.float64(),
        "difference": pa.float64(),
        "low": pa.float64(),
        "high": pa.float64(),
        "p_value": pa.float64(),
        "p_signs": pa.float64(),
        "n": pa.int64(),
        "n_other": pa.int64(),
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


def wells_schema(width: int) -> pa.Schema:
    """Build the schema of a map's aligned wells: key, platemap, label, vector.

    Text is never null: empty where nothing is known. `label` is the map's perturbation, empty for
    negative controls.

    Parameters
    ----------
    width
        The aligned vectors' number of values k.

    Examples
    --------
    >>> wells_schema(128).names[:3], wells_schema(128).names[-2:]
    (['experiment', 'plate', 'well'], ['label', 'embedding'])
    """
    key = dict.fromkeys(("experiment", "plate", "well"), pa.string())
    vector = {"label": pa.string(), "embedding": pa.list_(pa.float32(), width)}
    return pa.schema({**key, **PLATEMAP_COLUMNS, **vector})


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
        "kind": ("perturbation",),
        "compound": ("perturbation",),
        "concentration_um": ("perturbation",),
        "agreement": ("perturbation",),
    }
    for name, dims in wanted.items():
        found = dataset[name].dims if name in dataset else None
        if found != dims:
            raise InputError(f"expected {name} {dims} in {where}, found {found}")
    return dataset
