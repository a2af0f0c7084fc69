"""A small published lake: 6 arms x 25 genes, two 384-well plates, some of it planted bad."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
from scipy.stats import mannwhitneyu

from phenopipe import schema
from phenopipe.lake import Lake, Recipe, Thing, embeddings, ledger, map_part, qc_table
from phenopipe.plates import PlateKey, Well

PLATES = (PlateKey("SCREEN-1", "Plate1"), PlateKey("SCREEN-2", "Plate1"))
ARMS = ("1p", "1q", "2q", "10p", "17q", "Xq")
CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito", "BF")
N_FIELDS = 2
HOSTILE = '<img src=x onerror="alert(1)">'
STARTED = datetime(2026, 1, 1, tzinfo=UTC)

# (plate, well, field, channel or None for all, verdict, reason)
BAD = [
    (PLATES[0], "C05", 1, "ER", "truncated", "expected 8192 bytes, found 4000"),
    (PLATES[0], "C05", 2, "ER", "truncated", "expected 8192 bytes, found 12"),
    (PLATES[0], "K11", 1, "Mito", "missing", "no file of w5"),
    (PLATES[1], "D09", 2, None, "out_of_focus", "focus 9.1 deviations below the plate"),
    (PLATES[1], "H20", 1, None, "saturated", "41% of pixels at the maximum in DNA"),
]
UNREAD = ("truncated", "missing")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return build_lake(tmp_path / "lake")


@pytest.fixture(scope="session")
def shared_lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake for tests that change nothing but the report."""
    return build_lake(tmp_path_factory.mktemp("report") / "lake")


@pytest.fixture
def make_lake(tmp_path: Path) -> Callable[[str], Lake]:
    return lambda name: build_lake(tmp_path / name)


def build_lake(root: Path) -> Lake:
    lake = Lake(root)
    sources = {}
    for number, key in enumerate(PLATES):
        random = np.random.default_rng(number)
        put_table(lake, qc_table(key), draw_qc(key, random), schema.QC)
        put_table(lake, ledger(key), draw_ledger(key), schema.LEDGER)
        read = {qc_table(key).path: lake.manifest(qc_table(key)).key}
        thing = embeddings("classical", key)
        put_table(lake, thing, draw_embeddings(key), schema.embeddings_schema(2), inputs=read)
        sources[thing.path] = lake.manifest(thing).key
    dataset = draw_map()
    put_map(lake, dataset, sources)
    made = {map_part("demo", "map.zarr").path: lake.manifest(map_part("demo", "map.zarr")).key}
    scored = {"n_bootstrap": 1000, "seed": 0}
    things = {"neighbours": rank_neighbours(dataset), "benchmark": score(dataset)}
    for name, frame in things.items():
        thing = map_part("demo", f"{name}.parquet")
        put_table(lake, thing, frame, getattr(schema, name.upper()), inputs=made, **scored)
    return lake


def put_table(lake: Lake, thing: Thing, frame, kind, *, inputs=None, **parameters) -> None:
    with lake.writing(thing):
        table = pa.Table.from_pandas(frame, schema=kind, preserve_index=False)
        with lake.draft(thing) as path:
            pq.write_table(table, path)
        recipe = Recipe(thing.kind, 1, inputs or {}, parameters)
        lake.publish(thing, recipe, counts={"crops": len(frame)}, started=STARTED)


def put_map(lake: Lake, dataset: xr.Dataset, sources: dict[str, str]) -> None:
    thing = map_part("demo", "map.zarr")
    with lake.writing(thing):
        with lake.draft(thing) as path:
            dataset.to_zarr(path, zarr_format=3, consolidated=False)
        recipe = Recipe("map", 1, sources, {"align": "tvn", "correct": "arms"}, "ab" * 32)
        lake.publish(thing, recipe, counts={"perturbations": 150}, started=STARTED)


def plate_wells() -> list[str]:
    """All but the last two columns."""
    return [str(Well(row, column)) for row, column in product(range(16), range(22))]


def find_bad(key: PlateKey, well: str, field: int):
    return next((bad for bad in BAD if bad[:3] == (key, well, field)), None)


def draw_qc(key: PlateKey, random: np.random.Generator) -> pd.DataFrame:
    rows = []
    for well, field in product(plate_wells(), range(1, N_FIELDS + 1)):
        bad = find_bad(key, well, field)
        if bad and bad[4] in UNREAD:
            continue
        place = Well.parse(well)
        edge = place.row in (0, 15) or place.column == 0
        sparse = well == "F07"
        cells = 4 if sparse else max(0, int(random.normal(38 if edge else 52, 6)))
        blur = 9 if bad and bad[4] == "out_of_focus" else 0.8 if edge else 0
        verdict = "fail" if bad else "warn" if sparse else "pass"
        reason = bad[5] if bad else "4 cells, plate median 52" if sparse else ""
        for channel in CHANNELS:
            focus = 10 + random.normal() - blur
            saturated = 0.41 if bad and bad[4] == "saturated" else 0.001
            measures = (900, 400, 2500, saturated, focus, -2, 0.4)
            count = cells if channel == "DNA" else None
            rows.append((key.experiment, key.plate, well, field, channel, *measures, count))
            rows[-1] += (verdict, reason, verdict, reason, "pass", "")
    frame = pd.DataFrame(rows, columns=schema.QC.names)
    return frame.astype({"cells": "Int32"})


def draw_ledger(key: PlateKey) -> pd.DataFrame:
    rows = []
    for well, field in product(plate_wells(), range(1, N_FIELDS + 1)):
        bad = find_bad(key, well, field)
        for number, channel in enumerate(CHANNELS, start=1):
            faulty = bad and bad[3] in (None, channel)
            verdict, reason = bad[4:] if faulty else ("ok", "")
            name = f"TimePoint_1/{key.plate}_{well}_s{field}_w{number}.TIF"
            gone = bad and bad[4] in UNREAD
            place = "" if gone else f"{well[0]}/{well[1:]}/{field}/0"
            rows.append((name, 8192, "d", verdict, reason, well, field, channel, 0, 0, place))
    rows.append(("Thumbs.db", 1, "d", "ignored", "not an image", "", None, "", None, None, ""))
    frame = pd.DataFrame(rows, columns=schema.LEDGER.names)
    return frame.astype({"field": "Int32", "z": "Int32", "t": "Int32"})


def draw_embeddings(key: PlateKey) -> pd.DataFrame:
    rows = [
        (key.experiment, key.plate, well, 1, 0, 128 * x, *[""] * 6, None, "", [0.0, 1.0])
        for well, x in product(plate_wells(), range(3))
    ]
    return pd.DataFrame(rows, columns=schema.embeddings_schema(2).names)


def draw_map() -> xr.Dataset:
    """Draw genes with an arm's shift and a pathway's; the correction takes most of the shift."""
    random = np.random.default_rng(7)
    arms = np.repeat(ARMS, 25)
    names = np.array([f"GENE{number:03d}" for number in range(len(arms))], dtype=object)
    names[40] = HOSTILE
    pathway = np.arange(len(arms)) % 10
    shift = random.normal(size=(len(ARMS), 24))[np.repeat(np.arange(len(ARMS)), 25)]
    own = random.normal(size=(len(arms), 24)) + 0.9 * random.normal(size=(10, 24))[pathway]
    left = np.where(arms == "10p", 0.9, 0.1)[:, None]
    order = random.permutation(len(arms) + 3)
    gene = np.append(names, ["", "", ""])[order]
    label = np.append(names, ["DMSO", "drug A", "drug B"])[order]
    arm = np.append(arms, ["", "", ""])[order]
    stray = random.normal(size=(3, 24))
    table = [
        {"arm": a, "n_genes": 25, "n_reference": 9 if a == "10p" else 22, "corrected": a != "10p",
         "why": "9 unexpressed genes, more than 20 needed" if a == "10p" else ""}
        for a in ARMS
    ]  # fmt: skip
    lost = [{"what": "wells without a platemap row", "count": 4, "why": "no treatment is known"}]
    dims = ("perturbation", "feature")
    return xr.Dataset(
        {
            "embedding": (dims, np.vstack([own + left * shift, stray])[order]),
            "embedding_uncorrected": (dims, np.vstack([own + 0.9 * shift, stray])[order]),
            "gene": ("perturbation", gene),
            "arm": ("perturbation", arm.astype(object)),
            "unexpressed": ("perturbation", np.arange(len(order)) % 3 == 0),
            "kind": ("perturbation", np.where(gene == "", "compound", "gene").astype(object)),
            "compound": ("perturbation", np.where(gene == "", label, "").astype(object)),
            "concentration_um": ("perturbation", np.where(gene == "", 1.0, np.nan)),
            "agreement": ("perturbation", np.full(len(order), np.nan)),
        },
        coords={"perturbation": label},
        attrs={
            "model": "classical", "align": "tvn", "correct": "arms",
            "experiments": ["SCREEN-1", "SCREEN-2"],
            "exclusions": json.dumps(lost), "arms": json.dumps(table),
        },
    )  # fmt: skip


def cosines(dataset: xr.Dataset, side: str) -> np.ndarray:
    rows = dataset["embedding" if side == "arms" else "embedding_uncorrected"].to_numpy()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit @ unit.T


def rank_neighbours(dataset: xr.Dataset) -> pd.DataFrame:
    names, alike = dataset["perturbation"].to_numpy().astype(str), cosines(dataset, "arms")
    rows = []
    for i, name in enumerate(names):
        order = [j for j in np.argsort(-alike[i], kind="stable") if j != i][:20]
        for rank, j in enumerate(order, start=1):
            p = float(np.exp(-12 * max(alike[i, j], 0)))
            key = (name, "gene-gene", "alike", rank)
            rows.append((*key, names[j], alike[i, j], p, min(1.0, 3 * p)))
        least = np.argmin(alike[i])
        key = (name, "gene-gene", "opposite", 1)
        rows.append((*key, names[least], alike[i, least], 1e-9, 1e-9))
    return pd.DataFrame(rows, columns=schema.NEIGHBOURS.names)


def score(dataset: xr.Dataset) -> pd.DataFrame:
    rows = []
    for side, (corum, pathways) in {"none": (0.312, 0.405), "arms": (0.337, 0.462)}.items():
        for source, value, n in (("corum", corum, 210), ("pathways", pathways, 1050)):
            rows.append(
                (
                    *("relationship_recall", source, side, value, value - 0.05, value + 0.048),
                    *(0.1, 0.08, 0.12, 1e-9, n, "{}", "cd" * 32),
                )
            )
        arm, alike = dataset["arm"].to_numpy().astype(str), cosines(dataset, side)
        upper = np.triu(np.ones_like(alike, dtype=bool), 1) & (arm != "")[:, None] & (arm != "")
        same = arm[:, None] == arm
        for source in ("genome", *ARMS):
            on = np.ones(len(arm), bool) if source == "genome" else arm == source
            touch = upper & (on[:, None] | on)
            within, between = alike[touch & same], alike[touch & ~same]
            p = mannwhitneyu(within, between).statistic / len(within) / len(between)
            band = (0.484, 0.517) if source == "genome" else (np.nan, np.nan)
            rows.append(
                (
                    *("proximity_bias", source, side, p, p - 0.03, p + 0.03, 0.5),
                    *(*band, 1e-4, len(within), "{}", ""),
                )
            )
    return pd.DataFrame(rows, columns=schema.BENCHMARK.names)
