"""A lake of as many wells as a genome-wide screen has, written fast: one field a well."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from phenopipe.genome import chromosome_arms
from phenopipe.lake import Lake, Recipe, embeddings
from phenopipe.plates import PlateKey, Well
from phenopipe.schema import PLATEMAP_COLUMNS, embeddings_schema

# As RxRx3: 1,380 wells a plate, 9 plates an experiment. An experiment is a batch.
WELLS_A_PLATE = 1380
PLATES = 9
WIDTH = 384
GENES = 17_000
MODEL = "drawn"
_COLUMNS = 48
_CONTROL_SHARE = 0.1
_SILENT_SHARE = 0.2
_GUIDES = 4


def write_lake(folder: Path, *, wells: int, genes: int = GENES, seed: int = 0) -> Lake:
    """Publish as many whole plates as hold so many wells, or take those that lie there."""
    lake, said = Lake(folder), folder / "drawn.json"
    wanted = {"wells": wells, "genes": genes, "seed": seed}
    if not said.is_file() or json.loads(said.read_text()) != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        names = np.array(list_genes(genes), dtype=object)
        for number, key in enumerate(list_plates(wells)):
            _put_plate(lake, key, names, rng=np.random.default_rng([seed, number]))
        said.write_text(json.dumps(wanted))
    return lake


def list_plates(wells: int) -> list[PlateKey]:
    """Name the plates that hold so many wells, the last one full too."""
    numbers = range(-(-wells // WELLS_A_PLATE))
    return [PlateKey(f"E{n // PLATES + 1:03d}", f"P{n % PLATES + 1}") for n in numbers]


def list_genes(n: int) -> list[str]:
    """Name so many genes that have a chromosome arm."""
    return sorted(chromosome_arms())[:n]


def draw_wells(key: PlateKey, genes: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Say what each well of a plate holds: controls, and genes drawn evenly."""
    n = WELLS_A_PLATE
    control = rng.permutation(n) < _CONTROL_SHARE * n
    gene, guide = rng.integers(0, len(genes), n), rng.integers(1, _GUIDES + 1, n)
    symbols = np.where(control, "", genes[gene])
    guides = [f"{s}_{i}" if s else "" for s, i in zip(symbols, guide, strict=True)]
    columns = {
        "experiment": key.experiment,
        "plate": key.plate,
        "well": [str(Well(*divmod(i, _COLUMNS))) for i in range(n)],
        "field": np.int32(1),
        **dict.fromkeys((name for name in PLATEMAP_COLUMNS if name != "well"), ""),
        "perturbation": np.where(control, "NTC", guides),
        "perturbation_type": np.where(control, "control", "crispr"),
        "gene": symbols,
        "guide": guides,
        "concentration_um": np.nan,
        "control_type": np.where(control, "negative", ""),
        "zfpkm": np.where(control, np.nan, np.where(gene < _SILENT_SHARE * len(genes), -4.0, 1.0)),
    }
    return pd.DataFrame(columns)


def _put_plate(lake: Lake, key: PlateKey, genes: np.ndarray, *, rng: np.random.Generator) -> None:
    thing, schema = embeddings(MODEL, key), _schema()
    rows = draw_wells(key, genes, rng)
    shift = np.random.default_rng([1, int(key.experiment[1:])]).standard_normal(WIDTH)
    values = rng.standard_normal((len(rows), WIDTH), dtype=np.float32) + shift.astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), WIDTH)
    columns = [pa.array(rows[name], type=schema.field(name).type) for name in schema.names[:-1]]
    table = pa.table([*columns, vectors], schema=schema)
    with lake.writing(thing), lake.draft(thing) as path:
        pq.write_table(table, path, compression="none", use_dictionary=schema.names[:-1])
        recipe = Recipe("embed", 1, {}, {"plate": str(key), "per": "field"}, "ab" * 32)
        lake.publish(thing, recipe, counts={"fields": len(rows)}, started=datetime.now(UTC))


def _schema() -> pa.Schema:
    facts = {"model": MODEL, "model_version": "1", "channels": "none"}
    return embeddings_schema(WIDTH, {"zfpkm": pa.float64()}, per="field").with_metadata(facts)
