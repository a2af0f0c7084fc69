"""The stage: score a map with each metric and publish one table."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr
from numpy.typing import NDArray

from phenopipe.benchmark.annotations import Annotation, read_annotations
from phenopipe.benchmark.clusters import ClusterSeparation
from phenopipe.benchmark.compound_gene import CompoundGene
from phenopipe.benchmark.consistency import Consistency
from phenopipe.benchmark.magnitude import Magnitude
from phenopipe.benchmark.metric import MapData, Metric, add_entry_points
from phenopipe.benchmark.proximity import ProximityBias
from phenopipe.benchmark.recall import RelationshipRecall
from phenopipe.benchmark.replicate_map import ReplicateMAP
from phenopipe.compute import Progress
from phenopipe.config import BenchmarkConfig
from phenopipe.lake import Lake, MapRef, Recipe, Thing, map_part
from phenopipe.profiles import open_map, open_wells
from phenopipe.schema import BENCHMARK

STAGE_VERSION = 2


def benchmark_map(
    lake: Lake,
    *,
    name: str,
    annotations: Path,
    config: BenchmarkConfig | None = None,
    on_progress: Progress | None = None,
) -> MapRef:
    """Score a published map and publish ``maps/<name>/benchmark.parquet``.

    Each metric scores the map before and after its arms were corrected: relationship recall,
    separation of clusters and compounds' targets against each annotation source; consistency,
    magnitude and mAP of replicates from the map's wells; proximity bias per arm and over the
    genome; and what installed packages add (entry points of the group ``phenopipe.metrics``).

    Parameters
    ----------
    lake
        Where the map is published.
    name
        The map's name.
    annotations
        Folder of what is known; see :mod:`phenopipe.benchmark.annotations`.
    config
        Thresholds, resamples, shuffles, seed and pinned digests.
    on_progress
        Called with the number of metrics done and their total.

    Returns
    -------
    MapRef
        With ``computed=False`` where the same scores were published before.

    Raises
    ------
    InputError
        If the map is not published, the folder holds no annotations, or one is not as pinned.
    """
    config = config or BenchmarkConfig()
    metrics, sources = find_metrics(), read_annotations(annotations, pins=config.pins)
    table = map_part(name, "benchmark.parquet")
    inputs, parameters = sources_of(lake, name, sources), parameters_of(metrics, config)
    recipe = Recipe("benchmark", STAGE_VERSION, inputs, parameters)
    if published := lake.current(table, recipe):
        return MapRef.of(name, published, computed=False)
    started = datetime.now(UTC)
    with lake.writing(table):
        with open_data(lake, name, annotations=sources) as data:
            rows = _score(data, metrics, config=config, on_progress=on_progress)
        with lake.draft(table) as path:
            pq.write_table(pa.Table.from_pylist(rows, schema=BENCHMARK), path)
        counts = {"rows": len(rows), "metrics": len(metrics), "sources": len(sources)}
        manifest = lake.publish(table, recipe, counts=counts, started=started)
    return MapRef.of(name, manifest, computed=True)


def find_metrics() -> list[Metric]:
    """Give the package's metrics and those that installed packages add, by name."""
    return add_entry_points(
        [
            ClusterSeparation(),
            CompoundGene(),
            Consistency(),
            Magnitude(),
            ProximityBias(),
            RelationshipRecall(),
            ReplicateMAP(),
        ]
    )


def sources_of(lake: Lake, name: str, sources: Sequence[Annotation]) -> dict[str, str]:
    """Give what a map's scores rest on, keys or digests by path: the map, wells, annotations.

    Raises
    ------
    InputError
        If the map is not published.
    """
    map_zarr, wells = _parts(name)
    keys = {map_zarr.path: lake.require(map_zarr, remedy="build the map first (phenopipe map)").key}
    if manifest := lake.manifest(wells):
        keys[wells.path] = manifest.key
    return keys | {f"source:{annotation.source}": annotation.digest for annotation in sources}


def parameters_of(metrics: Sequence[Metric], config: BenchmarkConfig) -> dict[str, Any]:
    """Give what determines scores beside their inputs; pins only guard what the digests say."""
    versions = {metric.name: metric.version for metric in metrics}
    return {**config.model_dump(mode="json", exclude={"pins"}), "metrics": versions}


def _parts(name: str) -> tuple[Thing, Thing]:
    return map_part(name, "map.zarr"), map_part(name, "wells.parquet")


@contextmanager
def open_data(lake: Lake, name: str, *, annotations: Sequence[Annotation]) -> Iterator[MapData]:
    """Read what metrics need of a published map; its wells can be read while the block lasts.

    Raises
    ------
    InputError
        If the map lacks a variable.
    """
    dataset, (_, wells) = open_map(lake, name), _parts(name)
    with open_wells(lake, name) if lake.manifest(wells) else nullcontext() as rows:
        yield MapData(
            embeddings=_embeddings(dataset),
            labels=_strings(dataset["perturbation"]),
            arms=_strings(dataset["arm"]),
            unexpressed=dataset["unexpressed"].to_numpy().astype(bool),
            annotations=annotations,
            kinds=_strings(dataset["kind"]),
            genes=_strings(dataset["gene"]),
            compounds=_strings(dataset["compound"]),
            concentrations=dataset["concentration_um"].to_numpy().astype(np.float64),
            wells=rows,
        )


def _embeddings(dataset: xr.Dataset) -> dict[str, NDArray[Any]]:
    embeddings = {"none": dataset["embedding_uncorrected"].to_numpy()}
    if dataset.attrs.get("correct") != "none":
        embeddings["arms"] = dataset["embedding"].to_numpy()
    return embeddings


def _strings(variable: xr.DataArray) -> NDArray[Any]:
    return np.array([str(value) for value in variable.to_numpy()], dtype=object)


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
