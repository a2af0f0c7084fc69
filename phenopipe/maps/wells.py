"""One plate's wells: the means of their crops, and which of them belong into a map."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from phenopipe.config import MapConfig
from phenopipe.embeddings import UNITS, group_means, vectors_of
from phenopipe.embeddings.agreement import StoredPlate
from phenopipe.embeddings.store import read_plate
from phenopipe.errors import InputError
from phenopipe.genome.expression import parse_levels
from phenopipe.lake import Lake, qc_table
from phenopipe.plates import PlateKey
from phenopipe.schema import PLATEMAP_COLUMNS, QC, check_table

# What a map reads of a plate, where the plate has it.
COLUMNS = (*UNITS["well"], *(c for c in PLATEMAP_COLUMNS if c != "well"), "zfpkm", "embedding")

UNKNOWN = "wells without a platemap row"
EMPTY = "empty wells"
NAMELESS = "wells without a perturbation's name"
DOUBTED = "wells with a worse QC verdict"
SPARSE = "wells with too few cells"
BROKEN = "wells with a vector that is not finite"
NEGATIVE = "negative control wells"

# The verdicts that a well may have, by the worst that is allowed.
_ALLOWED = {"warn": ("pass", "warn"), "pass": ("pass",)}


@dataclass(frozen=True)
class PlateWells:
    """What one plate gives to a map.

    Attributes
    ----------
    table
        One row a well, sorted: key, platemap, `zfpkm` where it is carried, and the mean vector.
    left_out
        How many wells of the plate are not in it, by what they are.
    """

    table: pa.Table
    left_out: Mapping[str, int]


def read_plate_wells(
    plate: StoredPlate, *, lake: Lake, schema: pa.Schema, config: MapConfig
) -> PlateWells:
    """Read one plate's embeddings, average them to wells, and leave out what is no use to a map.

    Parameters
    ----------
    schema
        The columns in which all plates can be read, out of `COLUMNS`.
    config
        Which wells are left out: `well_verdict`, `min_cells`.

    Raises
    ------
    InputError
        If the plate cannot be read, its `zfpkm` is no number, or its QC is asked for and not there.
    """
    wells = average_wells(read_plate(lake, plate, schema), where=plate.thing.path)
    rows = wells.drop_columns(["embedding"]).to_pandas()
    reasons = judge_wells(rows, _read_qc(lake, plate, config), config)
    kept = wells.filter(pa.array(reasons == "")).combine_chunks()
    return PlateWells(kept, Counter(reason for reason in reasons.tolist() if reason))


def average_wells(table: pa.Table, *, where: str) -> pa.Table:
    """Average one plate's crops, or its fields, into wells: in float64, kept as float32.

    A well that has a vector with NaN, infinity or null in it gets one that is not finite: what
    is left of it would be another well's mean.

    Parameters
    ----------
    table
        One row a crop or field, with `COLUMNS`.
    where
        What the table is, for messages.

    Returns
    -------
    Table
        One row a well, sorted by well: text is never null, and `zfpkm` is a number or null.
    """
    order = table.select(["well"]).to_pandas()["well"]
    codes = order.groupby(order, sort=True).ngroup().to_numpy()
    values = _vectors_or_nan(table)
    with np.errstate(invalid="ignore"):
        means, first = group_means(values, codes) if len(codes) else (values, codes)
    rows = table.drop_columns(["embedding"]).take(pa.array(first, pa.int64()))
    return _give_types(rows, where=where).append_column(
        pa.field("embedding", pa.list_(pa.float32(), values.shape[1])),
        pa.FixedSizeListArray.from_arrays(means.astype(np.float32).ravel(), values.shape[1]),
    )


def _vectors_or_nan(table: pa.Table) -> NDArray[np.float32]:
    missing = table["embedding"].is_null().to_numpy(zero_copy_only=False)
    found = vectors_of(table.filter(pa.array(~missing)) if missing.any() else table)
    if not missing.any():
        return found
    vectors = np.full((len(table), found.shape[1]), np.nan, dtype=np.float32)
    vectors[~missing] = found
    return vectors


def _give_types(rows: pa.Table, *, where: str) -> pa.Table:
    columns = {}
    for name in rows.column_names:
        kind = PLATEMAP_COLUMNS.get(name, pa.string())
        if name == "zfpkm":
            columns[name] = pa.array(
                parse_levels(rows[name].to_pandas(), what="zfpkm", where=where)
            )
        elif pa.types.is_string(kind):
            columns[name] = rows[name].cast(kind).fill_null("")
        else:
            columns[name] = rows[name].cast(kind)
    return pa.table(columns)


def judge_wells(
    rows: pd.DataFrame, qc: pd.DataFrame | None, config: MapConfig
) -> NDArray[np.object_]:
    """Say of each well why it is left out of a map; nothing where it is kept.

    Parameters
    ----------
    rows
        One row a well, with the platemap's columns.
    qc
        One row a well, by its name: `well_verdict` and `cells`; None where neither is asked for.

    Examples
    --------
    >>> rows = pd.DataFrame({"well": ["A01", "A02"], "perturbation": ["TP53_1", ""]})
    >>> rows = rows.reindex(columns=list(PLATEMAP_COLUMNS), fill_value="")
    >>> judge_wells(rows, None, MapConfig()).tolist()
    ['', 'wells without a platemap row']
    """
    text = rows[[name for name in PLATEMAP_COLUMNS if name not in ("well", "concentration_um")]]
    negative = text["control_type"] == "negative"
    found = {
        UNKNOWN: (text == "").all(axis=1),
        EMPTY: ~negative & (text["perturbation_type"] == "empty"),
        NAMELESS: ~negative & (text[["perturbation", "gene"]] == "").all(axis=1),
    }
    if qc is not None:
        known = qc.reindex(rows["well"].to_numpy())
        allowed = _ALLOWED.get(config.well_verdict)
        if allowed:
            found[DOUBTED] = ~known["well_verdict"].isin(allowed)
        if config.min_cells:
            found[SPARSE] = ~(known["cells"] >= config.min_cells)
    masks = [mask.to_numpy(dtype=bool) for mask in found.values()]
    reasons: NDArray[np.object_] = np.select(masks, list(found), default="").astype(object)
    return reasons


def _read_qc(lake: Lake, plate: StoredPlate, config: MapConfig) -> pd.DataFrame | None:
    """Read the verdict and the number of cells of each well; None where no filter asks for them."""
    if not needs_qc(config):
        return None
    thing = qc_table(plate_key(plate))
    lake.require(thing, remedy=_QC_REMEDY)
    with lake.fetched(thing) as path:
        table = check_table(pq.read_table(path), QC, where=thing.path)
    frame = table.select(["well", "well_verdict", "cells"]).to_pandas()
    by_well = frame.groupby("well")
    # Cells are counted in one channel of each field; null in the others.
    cells = by_well["cells"].sum(min_count=1)
    if config.min_cells and cells.isna().all():
        raise InputError(
            f"expected numbers of cells in {thing}, found none: no channel of the plate is known "
            "to show nuclei; name it with `phenopipe ingest --channels`, or leave out min_cells"
        )
    return pd.DataFrame({"well_verdict": by_well["well_verdict"].first(), "cells": cells})


_QC_REMEDY = (
    'run `phenopipe ingest` on the plate, or leave out min_cells and set well_verdict = "any"'
)


def needs_qc(config: MapConfig) -> bool:
    """Tell whether a map's filters ask for the plates' QC tables."""
    return config.min_cells is not None or config.well_verdict in _ALLOWED


def plate_key(plate: StoredPlate) -> PlateKey:
    """Name the plate whose embeddings these are."""
    *_, experiment, file = plate.thing.path.split("/")
    return PlateKey(experiment, file.removesuffix(".parquet"))


def qc_inputs(lake: Lake, plates: tuple[StoredPlate, ...], config: MapConfig) -> dict[str, str]:
    """Give the keys of the QC tables that a map's filters read, by path."""
    if not needs_qc(config):
        return {}
    things = [qc_table(plate_key(plate)) for plate in plates]
    return {thing.path: lake.require(thing, remedy=_QC_REMEDY).key for thing in things}


def describe_left_out(left_out: Mapping[str, int], config: MapConfig) -> list[dict[str, str | int]]:
    """Say what was left out, how many, and why; in a fixed order, without what was not."""
    reasons = {
        UNKNOWN: "what was done to them is not known",
        EMPTY: "nothing was done to them",
        NAMELESS: "perturbation and gene are empty",
        DOUBTED: f"their QC verdict is worse than {config.well_verdict!r}, or not known",
        SPARSE: f"fewer than {config.min_cells} cells were counted, or none were",
        BROKEN: "a crop's vector has NaN or infinity in it, or is missing",
        NEGATIVE: "they are the reference of alignment",
    }
    return [
        {"what": what, "count": left_out[what], "why": why}
        for what, why in reasons.items()
        if left_out.get(what)
    ]
