"""A leaderboard of a lake's maps: model by alignment by correction, best first on each metric."""

import logging

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Manifest, Thing, map_part
from phenopipe.schema import BENCHMARK, check_table

# Of these, what is nearest to the value comes first; of all others the largest.
NEAREST = {"proximity_bias": 0.5}

_log = logging.getLogger(__name__)

COLUMNS = [
    *("metric", "source", "rank", "map", "model", "align", "correction"),
    *("value", "low", "high", "null", "n", "annotation_digest"),
]


def rank_maps(lake: Lake) -> pd.DataFrame:
    """Rank all published maps on each metric and source, before and after their correction.

    Maps hold different perturbations: an interval tells how sure a value is, not whether two maps
    differ; :func:`phenopipe.benchmark.compare_maps` tells that. Of proximity bias only the genome
    is ranked. Scores on annotations of other bytes are ranked apart, the source with the digest's
    first digits. Scores that rest on a map of before are left out, and a log line says so.

    Returns
    -------
    DataFrame
        ``metric``, ``source``, ``rank`` from 1, ``map``, ``model``, ``align``, ``correction``,
        ``value``, ``low``, ``high``, ``null``, ``n``, ``annotation_digest``; by the first three.

    Raises
    ------
    InputError
        If no map was scored.
    """
    scored = [thing for thing in lake.published("maps") if thing.path.endswith("benchmark.parquet")]
    tables = [table for thing in scored if (table := _read_scores(lake, thing)) is not None]
    if not tables:
        raise InputError(
            f"expected maps with scores that are up to date in {lake.root}, found none of "
            f"{len(scored)}: run `phenopipe benchmark`"
        )
    return _rank(_part_digests(pd.concat(tables, ignore_index=True)))


def _read_scores(lake: Lake, thing: Thing) -> pd.DataFrame | None:
    name = thing.path.split("/")[1]
    scores, made = lake.manifest(thing), lake.manifest(map_part(name, "map.zarr"))
    if scores is None or made is None or lake.changed_inputs(scores.inputs):
        _log.warning("%s: left out, its map was published anew: score it again", name)
        return None
    with lake.fetched(thing) as path:
        table = check_table(pq.read_table(path), BENCHMARK, where=thing.path).to_pandas()
    kept = ~table["metric"].isin(NEAREST) | (table["source"] == "genome")
    align = str(made.parameters.get("align", ""))
    told = {"map": name, "model": _model_of(made), "align": align}
    rows: pd.DataFrame = table[kept & table["value"].notna()].assign(**told)
    return rows


def _model_of(made: Manifest) -> str:
    """Read the model from where the map's embeddings lie: ``embeddings/<model>/…``."""
    models = {path.split("/")[1] for path in made.inputs if path.startswith("embeddings/")}
    return ", ".join(sorted(models))


def _part_digests(table: pd.DataFrame) -> pd.DataFrame:
    """Tell sources apart that have one name and other bytes: these scores are of other pairs."""
    digests = table.groupby(["metric", "source"])["annotation_digest"].transform("nunique")
    apart = table["source"] + " (" + table["annotation_digest"].str[:8] + ")"
    return table.assign(source=table["source"].where(digests == 1, apart))


def _rank(table: pd.DataFrame) -> pd.DataFrame:
    targets = table["metric"].map(NEAREST)
    merit = np.where(targets.notna(), -(table["value"] - targets).abs(), table["value"])
    ranks = pd.Series(merit, index=table.index).groupby([table["metric"], table["source"]])
    table = table.assign(rank=ranks.rank(ascending=False, method="min").astype(int))
    order = ["metric", "source", "rank", "map", "correction"]
    return table.sort_values(order, ignore_index=True)[COLUMNS]
