"""Small screens of embeddings, drawn and published, and the whole chain in memory beside them."""

from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from phenopipe.lake import Recipe, embeddings, qc_table
from phenopipe.plates import PlateKey, Well
from phenopipe.profiles import read_wells
from phenopipe.schema import PLATEMAP_COLUMNS, QC, embeddings_schema, wells_schema

PLATES = [PlateKey(experiment, plate) for experiment in ("E1", "E2") for plate in ("P1", "P2")]
NEGATIVE = {"perturbation": "NTC", "perturbation_type": "control", "control_type": "negative"}


def crispr(gene, guide, **more):
    return {"perturbation": f"{gene}_{guide}", "perturbation_type": "crispr", "gene": gene,
            "guide": f"{gene}_{guide}", **more}  # fmt: skip


def compound(name, dose=None, **more):
    return {"perturbation": name, "perturbation_type": "compound", "compound": name,
            "concentration_um": dose, **more}  # fmt: skip


def place_wells(n):
    return [str(Well(index // 12, index % 12)) for index in range(n)]


def put_wells(lake, key, treatments, x, *, crops=1, model="classical", names=None):
    """Publish a plate of one row a crop; x: (wells * crops, d). Gives what was published."""
    blank = dict.fromkeys(PLATEMAP_COLUMNS, "") | {"concentration_um": None, "zfpkm": None}
    rows = [
        blank | treatment
        | {"experiment": key.experiment, "plate": key.plate, "well": well,
           "field": 1, "y": 0, "x": 64 * crop}
        for well, treatment in zip(place_wells(len(treatments)), treatments, strict=True)
        for crop in range(crops)
    ]  # fmt: skip
    schema = embeddings_schema(x.shape[1], {"zfpkm": pa.float64()})
    if names:
        schema = schema.with_metadata({"model": model, "feature_names": names})
    vectors = [None if row is None else np.asarray(row, np.float32).tolist() for row in list(x)]
    rows = [row | {"embedding": vector} for row, vector in zip(rows, vectors, strict=True)]
    put_table(lake, key, pa.Table.from_pylist(rows, schema=schema), model=model)
    return pd.DataFrame(rows)


def put_table(lake, key, table, *, model="classical"):
    thing = embeddings(model, key)
    with lake.writing(thing):
        with lake.draft(thing) as path:
            pq.write_table(table, path)
        recipe = Recipe("embed", 1, {}, {"plate": str(key)}, "ab" * 32)
        lake.publish(thing, recipe, counts={}, started=datetime(2026, 1, 1, tzinfo=UTC))


def put_qc(lake, key, wells):
    """Publish a QC table: wells as a dict of well to (verdict, cells in each of two fields)."""
    blank = dict.fromkeys(QC.names) | {"experiment": key.experiment, "plate": key.plate}
    rows = [
        blank | {"well": well, "field": field, "channel": channel, "well_verdict": verdict,
                 "cells": cells if channel == "DNA" else None}
        for well, (verdict, counts) in wells.items()
        for field, cells in enumerate(counts, start=1)
        for channel in ("DNA", "ER")
    ]  # fmt: skip
    thing = qc_table(key)
    with lake.writing(thing):
        with lake.draft(thing) as path:
            pq.write_table(pa.Table.from_pylist(rows, schema=QC), path)
        recipe = Recipe("ingest", 1, {}, {"plate": str(key), "wells": str(wells)})
        lake.publish(thing, recipe, counts={}, started=datetime(2026, 1, 1, tzinfo=UTC))


@contextmanager
def opened_wells(folder, rows, x, *, plates=1):
    """Open aligned wells as the stage writes them: dicts of what is known, and (n, k) vectors."""
    blank = dict.fromkeys(wells_schema(1).names, "") | {"concentration_um": None}
    table = pa.Table.from_pylist(
        [blank | row | {"embedding": vector} for row, vector in zip(rows, x.tolist(), strict=True)],
        schema=wells_schema(x.shape[1]),
    )
    path = folder / "wells.parquet"
    with pq.ParquetWriter(path, table.schema) as writer:
        for part in np.array_split(np.arange(len(rows)), plates):
            writer.write_table(table.take(pa.array(part)))
    with read_wells(path, where="here") as wells:
        yield wells
