"""Compare two maps: each metric on the same perturbations, under the same resamples."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from phenopipe.benchmark.annotations import Annotation, read_annotations
from phenopipe.benchmark.metric import MapData, Metric, Score
from phenopipe.benchmark.run import find_metrics, open_data, parameters_of, sources_of
from phenopipe.compute import Progress
from phenopipe.config import BenchmarkConfig
from phenopipe.errors import InputError
from phenopipe.lake import Lake, MapRef, Recipe, Thing, map_part
from phenopipe.schema import AGAINST
from phenopipe.stats.resample import difference_p_value, percentile_interval, sign_flip_p_value

STAGE_VERSION = 1

_log = logging.getLogger(__name__)


def against_part(name: str, other: str) -> Thing:
    """Name the comparison of two maps: ``maps/<name>/against-<other>.parquet``."""
    map_part(other, "map.zarr")  # refuses names that are none
    return map_part(name, f"against-{other}.parquet")


def compare_maps(
    lake: Lake,
    *,
    name: str,
    against: str,
    annotations: Path,
    config: BenchmarkConfig | None = None,
    on_progress: Progress | None = None,
) -> MapRef:
    """Compare a map with another and publish ``maps/<name>/against-<against>.parquet``.

    Each metric scores both maps on the perturbations that both hold. A score's difference has
    the interval and p-value of the differences in the same resamples of perturbations; where the
    score is a mean over perturbations (or complexes, or compounds) also that of random flips of
    the differences' signs.

    Parameters
    ----------
    lake
        Where both maps are published.
    name, against
        The maps: differences are the first less the second.
    annotations, config
        As for :func:`phenopipe.benchmark.benchmark_map`.
    on_progress
        Called with the number of metrics done and their total.

    Returns
    -------
    MapRef
        With ``computed=False`` where the same comparison was published before.

    Raises
    ------
    InputError
        If a map is not published, the two are one, or they have no perturbation in common.
    """
    config = config or BenchmarkConfig()
    if name == against:
        raise InputError(f"expected two maps to compare, found {name} twice: name another")
    metrics, sources = find_metrics(), read_annotations(annotations, pins=config.pins)
    table = against_part(name, against)
    recipe = _recipe(lake, (name, against), sources, metrics, config)
    if published := lake.current(table, recipe):
        return MapRef.of(name, published, computed=False)
    started = datetime.now(UTC)
    with lake.writing(table):
        with (
            open_data(lake, name, annotations=sources) as first,
            open_data(lake, against, annotations=sources) as second,
        ):
            pair = share_perturbations(first, second, names=(name, against))
            rows = _compare(pair, metrics, config, on_progress)
        with lake.draft(table) as path:
            pq.write_table(pa.Table.from_pylist(rows, schema=AGAINST), path)
        counts = {"rows": len(rows), "perturbations": len(pair[0].labels)}
        manifest = lake.publish(table, recipe, counts=counts, started=started)
    return MapRef.of(name, manifest, computed=True)


def read_comparison(lake: Lake, name: str, against: str) -> pd.DataFrame:
    """Read a published comparison (schema.AGAINST).

    Raises
    ------
    InputError
        If it is not published.
    """
    thing = against_part(name, against)
    lake.require(thing, remedy=f"run `phenopipe benchmark --map {name} --against {against}`")
    with lake.fetched(thing) as path:
        frame: pd.DataFrame = pq.read_table(path).to_pandas()
    return frame


def _recipe(
    lake: Lake,
    names: tuple[str, str],
    sources: Sequence[Annotation],
    metrics: Sequence[Metric],
    config: BenchmarkConfig,
) -> Recipe:
    inputs = {k: key for name in names for k, key in sources_of(lake, name, sources).items()}
    return Recipe("against", STAGE_VERSION, inputs, parameters_of(metrics, config))


def share_perturbations(
    first: MapData, second: MapData, *, names: tuple[str, str]
) -> tuple[MapData, MapData]:
    """Keep of two maps the perturbations that both hold, by name.

    Raises
    ------
    InputError
        If there are none.
    """
    shared = sorted({*first.labels} & {*second.labels})
    if not shared:
        raise InputError(
            f"expected perturbations that {names[0]} and {names[1]} both hold, found none: "
            f"{names[0]} has {len(first.labels)}, {names[1]} has {len(second.labels)}"
        )
    _log.info("%d perturbations are in both maps", len(shared))
    first, second = (
        data.select(pd.Index(data.labels).get_indexer(pd.Index(shared))) for data in (first, second)
    )
    # Which genes are unexpressed may be known to one map only, and arms may come from two tables:
    # both are scored on the same genes and arms, or their resamples would be of different genes.
    silent = first.unexpressed | second.unexpressed
    return replace(first, unexpressed=silent), replace(second, unexpressed=silent, arms=first.arms)


def _compare(
    pair: tuple[MapData, MapData],
    metrics: Sequence[Metric],
    config: BenchmarkConfig,
    on_progress: Progress | None,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for done, metric in enumerate(metrics, start=1):
        first, second = (_by_key(metric, data, config) for data in pair)
        rows += [
            {
                "metric": key[0],
                "source": key[1],
                "correction": correction,
                **compare_scores(one, two, config),
            }
            for correction, sides in pair_corrections(*pair)
            for key in sorted({key[:2] for key in first} & {key[:2] for key in second})
            if (one := first.get((*key, sides[0]))) and (two := second.get((*key, sides[1])))
        ]
        if on_progress:
            on_progress(done, len(metrics))
    return sorted(rows, key=lambda row: (row["metric"], row["source"], row["correction"]))


def pair_corrections(first: MapData, second: MapData) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield which corrections of two maps are compared: alike, then each map as it was published.

    Examples
    --------
    >>> x, texts = np.eye(2), np.array(["a", "b"])
    >>> corrected = MapData({"none": x, "arms": x}, texts, texts, np.zeros(2, bool), [])
    >>> list(pair_corrections(corrected, replace(corrected, embeddings={"none": x})))
    [('none', ('none', 'none')), ('arms against none', ('arms', 'none'))]
    """
    for correction in first.embeddings:
        if correction in second.embeddings:
            yield correction, (correction, correction)
    ends = list(first.embeddings)[-1], list(second.embeddings)[-1]
    if ends[0] != ends[1]:
        yield f"{ends[0]} against {ends[1]}", ends


def _by_key(
    metric: Metric, data: MapData, config: BenchmarkConfig
) -> dict[tuple[str, str, str], Score]:
    scores = metric.score(data, config)
    return {(score.name_of(metric.name), score.source, score.correction): score for score in scores}


def compare_scores(first: Score, second: Score, config: BenchmarkConfig) -> dict[str, Any]:
    """Compare two maps' scores of one metric, source and correction: a row of schema.AGAINST.

    Interval and ``p_value`` (two-sided) are those of the differences in the same resamples, NaN
    where the metric gives no resamples; ``p_signs`` is that of the sign flips of the units'
    differences, NaN where the score is no mean of units.
    """
    low = high = p_value = p_signs = np.nan
    if first.resamples is not None and second.resamples is not None:
        differences = first.resamples - second.resamples
        low, high = percentile_interval(differences)
        p_value = difference_p_value(differences)
    if first.units is not None and second.units is not None:
        paired = (first.units - second.units).dropna()
        p_signs = sign_flip_p_value(paired, n_flips=config.n_null, seed=config.seed)
    return {
        "value": first.value,
        "other": second.value,
        "difference": first.value - second.value,
        "low": low,
        "high": high,
        "p_value": p_value,
        "p_signs": p_signs,
        "n": first.n,
        "n_other": second.n,
        "annotation_digest": first.annotation_digest,
    }
