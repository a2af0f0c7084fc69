"""The stage: score a map with each metric and publish one table."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr
from numpy.typing import NDArray

from phenopipe.benchmark.annotations import Annotation, read_annotations
from phenopipe.benchmark.metric import MapData, Metric, add_entry_points
from phenopipe.benchmark.proximity import ProximityBias
from phenopipe.benchmark.recall import RelationshipRecall
from phenopipe.compute import Progress
from phenopipe.config import BenchmarkConfig
from phenopipe.lake import Lake, MapRef, Recipe, Thing, map_part
from phenopipe.schema import BENCHMARK, check_map

STAGE_VERSION = 1


def benchmark_map(
    lake: Lake,
    *,
    name: str,
    annotations: Path,
    config: BenchmarkConfig | None = None,
    on_progress: Progress | None = None,
) -> MapRef:
    """Score a published map and publish ``maps/<name>/benchmark.parquet``.

    Each metric scores the map before and after its arms were corrected: relationship recall
    against each annotation source, proximity bias per arm and over the genome, and what
    installed packages add (entry points of the group ``phenopipe.metrics``).

    Parameters
    ----------
    lake
        Where the map is published.
    name
        The map's name.
    annotations
        Folder of known relationships; see
        :func:`phenopipe.benchmark.annotations.read_annotations`.
    config
        Thresholds, resamples, shuffles and seed.
    on_progress
        Called with the number of metrics done and their total.

    Returns
    -------
    MapRef
        With ``computed=False`` where the same scores were published before.

    Raises
    ------
    InputError
        If the map is not published, or the folder holds no annotations.
    """
    config = config or BenchmarkConfig()
    metrics = add_entry_points([RelationshipRecall(), ProximityBias()])
    sources = read_annotations(annotations)
    map_zarr, table = map_part(name, "map.zarr"), map_part(name, "benchmark.parquet")
    recipe = _recipe(lake, map_zarr, sources=sources, metrics=metrics, config=config)
    if published := lake.current(table, recipe):
        return MapRef.of(name, published, computed=False)
    started = datetime.now(UTC)
    with lake.writing(table):
        data = read_map(lake, map_zarr, annotations=sources)
        rows = _score(data, metrics, config=config, on_progress=on_progress)
        with lake.draft(table) as path:
            pq.write_table(pa.Table.from_pylist(rows, schema=BENCHMARK), path)
        counts = {"rows": len(rows), "metrics": len(metrics), "sources": len(sources)}
        manifest = lake.publish(table, recipe, counts=counts, started=started)
    return MapRef.of(name, manifest, computed=True)


def read_map(lake: Lake, map_zarr: Thing, *, annotations: Sequence[Annotation]) -> MapData:
    """Read what metrics need of a published map.

    Raises
    ------
    InputError
        If the map lacks a variable.
    """
    with (
        lake.fetched(map_zarr) as path,
        xr.open_zarr(path, consolidated=False, chunks=None) as opened,
    ):
        dataset = check_map(opened, where=map_zarr.path).load()
    embeddings = {"none": dataset["embedding_uncorrected"].to_numpy()}
    if dataset.attrs.get("correct") != "none":
        embeddings["arms"] = dataset["embedding"].to_numpy()
    return MapData(
        embeddings=embeddings,
        labels=_strings(dataset["perturbation"]),
        arms=_strings(dataset["arm"]),
        unexpressed=dataset["unexpressed"].to_numpy().astype(bool),
        annotations=annotations,
    )


def _strings(variable: xr.DataArray) -> NDArray[Any]:
    return np.array([str(value) for value in variable.to_numpy()], dtype=object)


def _recipe(
    lake: Lake,
    map_zarr: Thing,
    *,
    sources: Sequence[Annotation],
    metrics: Sequence[Metric],
    config: BenchmarkConfig,
) -> Recipe:
    manifest = lake.require(map_zarr, remedy="build the map first (phenopipe map)")
    digests = {f"source:{annotation.source}": annotation.digest for annotation in sources}
    versions = {metric.name: metric.version for metric in metrics}
    return Recipe(
        stage="benchmark",
        stage_version=STAGE_VERSION,
        inputs={map_zarr.path: manifest.key, **digests},
        parameters={**config.model_dump(mode="json"), "metrics": versions},
    )


def _score(
    data: MapData,
    metrics: Sequence[Metric],
    *,
    config: BenchmarkConfig,
    on_progress: Progress | None,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for done, metric in enumerate(metrics, start=1):
        rows += [score.row(metric.name) for score in metric.score(data, config)]
        if on_progress:
            on_progress(done, len(metrics))
    return sorted(rows, key=lambda row: (row["metric"], row["source"], row["correction"]))
