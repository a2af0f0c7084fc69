"""A small store of embeddings, written by hand: what the embed stage publishes."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phenopipe.lake import Lake, Recipe, embeddings
from phenopipe.plates import PlateKey
from phenopipe.schema import PLATEMAP_COLUMNS, embeddings_schema

DIGEST = "ab" * 32
TEXTS = [name for name, kind in PLATEMAP_COLUMNS.items() if pa.types.is_string(kind)]


@dataclass
class Plate:
    """What is published of a plate; a test says what is unlike others."""

    width: int = 3
    wells: tuple[str, ...] = ("A01", "A02", "B11")
    fields: tuple[int, ...] = (1, 2)
    crops: int = 2
    per: str = "crop"
    digest: str = DIGEST
    facts: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    carried: dict[str, list[Any]] = field(default_factory=dict)
    vectors: np.ndarray | None = None

    def draw(self, key: PlateKey) -> pa.Table:
        crops = [(0, 32 * k) for k in range(self.crops)] if self.per == "crop" else [()]
        places = [
            {"well": well, "field": number, **dict(zip(("y", "x"), place, strict=False))}
            for well in self.wells
            for number in self.fields
            for place in crops
        ]
        vectors = self.vectors
        if vectors is None:
            seed = [*str(key).encode(), len(places)]
            vectors = np.random.default_rng(seed).normal(size=(len(places), self.width))
        carried = {name: pa.array(values) for name, values in self.carried.items()}
        kinds = {name: values.type for name, values in carried.items()}
        schema = embeddings_schema(vectors.shape[1], kinds, per=self.per)
        rows = [
            dict.fromkeys(TEXTS, "")
            | {name: values[k % len(values)].as_py() for name, values in carried.items()}
            | treat(place["well"])
            | {"experiment": key.experiment, "plate": key.plate}
            | place
            | {"embedding": vector}
            for k, (place, vector) in enumerate(
                zip(places, vectors.astype(np.float32).tolist(), strict=True)
            )
        ]
        return pa.Table.from_pylist(rows, schema=schema).replace_schema_metadata(self.describe())

    def describe(self) -> dict[str, str]:
        facts = {
            "model": "vit",
            "model_version": "1",
            "model_digest": self.digest,
            "provider": "cpu",
            "channels": json.dumps(["DNA", "ER"]),
            "feature_names": "[]",
        }
        return facts | self.facts


def treat(well: str) -> dict[str, Any]:
    if well.startswith("A"):
        return {"perturbation": "NTC", "perturbation_type": "control", "control_type": "negative"}
    return {"perturbation": "TP53_g1", "gene": "TP53", "concentration_um": 1.5}


@dataclass
class Store:
    """A lake to which plates are published by hand."""

    lake: Lake

    def publish(self, where: str, *, model: str = "vit", **unlike: Any) -> pa.Table:
        key, plate = PlateKey(*where.split("/")), Plate(**unlike)
        thing, table = embeddings(model, key), plate.draw(key)
        with self.lake.writing(thing):
            with self.lake.draft(thing) as path:
                pq.write_table(table, path)
            settings = {"crop": 32, "plate": str(plate.settings)} | plate.settings
            recipe = Recipe("embed", 1, {}, settings, plate.digest)
            self.lake.publish(thing, recipe, counts={}, started=datetime.now(UTC))
        return table


@pytest.fixture(scope="session")
def open_store():
    """Open a store at any root."""
    return lambda root: Store(Lake(root))


@pytest.fixture
def store(open_store, tmp_path):
    return open_store(tmp_path / "lake")
