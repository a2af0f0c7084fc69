"""What a report is made from: the map, its scores, and the plates behind it, read from the lake."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr
from numpy.typing import NDArray

from phenopipe import schema
from phenopipe.compute import Progress
from phenopipe.errors import InputError
from phenopipe.lake import Lake, Manifest, Thing, embeddings, ledger, map_part, qc_table
from phenopipe.plates import PlateKey
from phenopipe.profiles import open_map


@dataclass(frozen=True)
class Trace:
    """The published things that a report reads, by their manifests."""

    name: str
    model: str
    plates: tuple[PlateKey, ...]
    read: Mapping[str, Manifest]
    embeddings: Mapping[str, Manifest]

    @property
    def inputs(self) -> dict[str, str]:
        """The key of each thing that is read, by its path."""
        return {path: manifest.key for path, manifest in self.read.items()}

    @property
    def embedded(self) -> dict[str, str]:
        """The key of each plate's embeddings, by its path."""
        return {path: manifest.key for path, manifest in self.embeddings.items()}

    def part(self, part: str) -> Manifest:
        """Give the manifest of one thing of the map."""
        return self.read[map_part(self.name, part).path]


@dataclass(frozen=True)
class PlateFacts:
    """What is known of one plate: its QC, its files, and how many crops were embedded."""

    key: PlateKey
    qc: pd.DataFrame
    ledger: pd.DataFrame
    n_crops: int


@dataclass(frozen=True)
class MapFacts:
    """The map, its neighbours, its scores and its plates."""

    trace: Trace
    dataset: xr.Dataset
    neighbours: pd.DataFrame
    benchmark: pd.DataFrame
    plates: tuple[PlateFacts, ...]

    def text(self, attribute: str) -> str:
        """Give one of the map's attributes as text; empty where there is none."""
        return str(self.dataset.attrs.get(attribute, ""))

    def records(self, attribute: str) -> list[dict[str, Any]]:
        """Read one of the map's attributes that hold a JSON list; empty where there is none."""
        found: list[dict[str, Any]] = json.loads(self.dataset.attrs.get(attribute, "[]"))
        return found


def read_texts(dataset: xr.Dataset, variable: str) -> NDArray[np.str_]:
    """Read a variable of text, whatever kind of string the map was stored with."""
    return np.array([str(text) for text in dataset[variable].to_numpy().tolist()], dtype=np.str_)


def trace_map(lake: Lake, name: str) -> Trace:
    """Follow the manifests from a map back to its plates.

    Raises
    ------
    InputError
        If a thing is not published, or was published anew since the next was made from it:
        a report describes one state of the lake.
    """
    remedies = {
        "map.zarr": f"run `phenopipe map --root {lake.root} --model MODEL --name {name}`",
        "neighbours.parquet": f"run `phenopipe map --root {lake.root} --model MODEL --name {name}`",
        "benchmark.parquet": f"run `phenopipe benchmark --root {lake.root} --map {name} "
        "--annotations DIR`",
    }
    read = {}
    for part, remedy in remedies.items():
        thing = map_part(name, part)
        read[thing.path] = _require_fresh(lake, thing, remedy=remedy)
    model, plates = _plates_of(read[map_part(name, "map.zarr").path])
    embedded = {}
    for key in plates:
        thing, remedy = embeddings(model, key), f"run `phenopipe embed --root {lake.root}`"
        embedded[thing.path] = _require_fresh(lake, thing, remedy=remedy)
        for table in (qc_table(key), ledger(key)):
            remedy = f"run `phenopipe ingest` on the plate {key}"
            read[table.path] = lake.require(table, remedy=remedy)
    return Trace(name, model, plates, read, embedded)


def _require_fresh(lake: Lake, thing: Thing, *, remedy: str) -> Manifest:
    manifest = lake.require(thing, remedy=remedy)
    for path in lake.changed_inputs(manifest.inputs):
        state = "published anew" if lake.manifest(Thing(path)) else "unpublished"
        raise InputError(
            f"expected {path} as {thing} was made from it, found it {state} since: {remedy}"
        )
    return manifest


def _plates_of(manifest: Manifest) -> tuple[str, tuple[PlateKey, ...]]:
    paths = [PurePosixPath(path) for path in manifest.inputs if path.startswith("embeddings/")]
    models = sorted({path.parts[1] for path in paths})
    if len(models) != 1:
        raise InputError(
            f"expected the embeddings of one model among the inputs of {manifest.thing}, "
            f"found {', '.join(models) or 'none'}: build the map again"
        )
    plates = (PlateKey(path.parts[2], path.name.removesuffix(".parquet")) for path in paths)
    return models[0], tuple(sorted(plates))


def read_facts(lake: Lake, trace: Trace, *, on_progress: Progress | None = None) -> MapFacts:
    """Read the map and each of its plates.

    Raises
    ------
    InputError
        If a table lacks a column or the map a variable.
    """
    dataset = open_map(lake, trace.name)
    plates = []
    for key in trace.plates:
        plates.append(_read_plate(lake, key, trace.embeddings[embeddings(trace.model, key).path]))
        if on_progress:
            on_progress(len(plates), len(trace.plates))
    return MapFacts(
        trace=trace,
        dataset=dataset,
        neighbours=_read(lake, map_part(trace.name, "neighbours.parquet"), schema.NEIGHBOURS),
        benchmark=_read(lake, map_part(trace.name, "benchmark.parquet"), schema.BENCHMARK),
        plates=tuple(plates),
    )


def _read_plate(lake: Lake, key: PlateKey, embedded: Manifest) -> PlateFacts:
    return PlateFacts(
        key=key,
        qc=_read(lake, qc_table(key), schema.QC),
        ledger=_read(lake, ledger(key), schema.LEDGER),
        n_crops=embedded.counts["crops"],
    )


def _read(lake: Lake, thing: Thing, wanted: pa.Schema) -> pd.DataFrame:
    with lake.fetched(thing) as path:
        table = schema.check_table(pq.read_table(path), wanted, where=thing.path)
    frame: pd.DataFrame = table.select(wanted.names).to_pandas()
    return frame
