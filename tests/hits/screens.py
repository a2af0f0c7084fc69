"""Aligned wells with known effects, published as a map's: what the tests of hits read."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr

from phenopipe.lake import Recipe, map_part
from phenopipe.profiles import read_wells
from phenopipe.schema import PLATEMAP_COLUMNS, wells_schema

NEGATIVE = {"perturbation": "NTC", "perturbation_type": "control", "control_type": "negative"}


def knock_out(gene, **more):
    crispr = {"perturbation": f"{gene}_g1", "perturbation_type": "crispr", "gene": gene}
    return {**crispr, "label": gene, **more}


def compound(name, dose=None, **more):
    told = {"perturbation": name, "perturbation_type": "compound", "compound": name}
    label = name if dose is None else f"{name} ({dose:g} uM)"
    return {**told, "concentration_um": dose, "label": label, **more}


def draw_wells(treatments, *, width=16, plates=4, experiments=2, plate_effect=1.0, seed=0):
    """Draw each treatment once a plate: unit noise, and a shift that a plate's wells share.

    `treatments`: pairs of what a platemap says and the effect, shape (width,) or a number for all.
    """
    random = np.random.default_rng(seed)
    rows, values = [], []
    for plate in range(plates):
        shift = plate_effect * random.normal(size=width)
        for well, (treatment, effect) in enumerate(treatments):
            place = {"experiment": f"E{plate * experiments // plates + 1}", "plate": f"P{plate}"}
            rows.append(place | {"well": f"W{well:04d}"} | treatment)
            values.append(effect + shift + random.normal(size=width))
    return pd.DataFrame(rows), np.array(values)


def make_table(rows, values):
    texts = ["experiment", "plate", "well", "label", *PLATEMAP_COLUMNS]
    texts.remove("concentration_um")
    frame = rows.reindex(columns=[*dict.fromkeys(texts), "concentration_um"])
    columns = {name: frame[name].astype(object).fillna("").tolist() for name in texts}
    doses = [None if pd.isna(dose) else float(dose) for dose in frame["concentration_um"]]
    width = values.shape[1]
    flat = pa.array(values.astype(np.float32).ravel())
    vectors = pa.FixedSizeListArray.from_arrays(flat, width)
    schema = wells_schema(width)
    columns |= {"concentration_um": doses, "embedding": vectors}
    return pa.table([columns[name] for name in schema.names], schema=schema)


def write_wells(path, rows, values):
    """Write a row group a plate, sorted as a map's wells are."""
    order = rows.reset_index(drop=True).sort_values(["experiment", "plate", "well"]).index
    rows, values = rows.iloc[order], values[order]
    plates = rows["experiment"] + "/" + rows["plate"]
    with pq.ParquetWriter(path, wells_schema(values.shape[1])) as file:
        for plate in plates.unique():
            here = (plates == plate).to_numpy()
            file.write_table(make_table(rows[here], values[here]))


def publish_map(lake, rows, values, *, name="m", arm_shifts=None):
    """Publish wells and the map of their labels; `arm_shifts`: what was corrected, by gene."""
    wells, map_zarr = map_part(name, "wells.parquet"), map_part(name, "map.zarr")
    recipe = Recipe("map", 1, {}, {"values": float(values.sum()), "shifts": bool(arm_shifts)})
    started = datetime(2026, 1, 1, tzinfo=UTC)
    with lake.writing(wells, map_zarr):
        with lake.draft(wells) as path:
            write_wells(path, rows, values)
        with lake.draft(map_zarr) as path:
            _draw_map(rows, values, arm_shifts or {}).to_zarr(
                path, zarr_format=3, consolidated=False
            )
        for thing in (wells, map_zarr):
            lake.publish(thing, recipe, counts={}, started=started)


def _draw_map(rows, values, arm_shifts):
    labels = sorted({label for label in rows["label"].fillna("") if label})
    genes = [label if label in set(rows.get("gene", [])) else "" for label in labels]
    raw = np.array([values[(rows["label"] == label).to_numpy()].mean(axis=0) for label in labels])
    shifts = np.array([arm_shifts.get(gene, np.zeros(values.shape[1])) for gene in genes])
    n, dims = len(labels), ("perturbation", "feature")
    text = np.array([""] * n, dtype=object)
    return xr.Dataset(
        {
            "embedding": (dims, raw - shifts),
            "embedding_uncorrected": (dims, raw),
            "gene": ("perturbation", np.array(genes, dtype=object)),
            "arm": ("perturbation", text),
            "unexpressed": ("perturbation", np.zeros(n, dtype=bool)),
            "kind": ("perturbation", text),
            "compound": ("perturbation", text),
            "concentration_um": ("perturbation", np.full(n, np.nan)),
            "agreement": ("perturbation", np.full(n, np.nan)),
        },
        coords={"perturbation": np.array(labels, dtype=object)},
    )


def open_drawn(path, rows, values):
    """Write wells and open them."""
    write_wells(path, rows, values)
    return read_wells(path, where=path.name)
