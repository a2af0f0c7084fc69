"""The stage: how the plates of one experiment differ from one another, from their QC tables."""

from datetime import UTC, datetime
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from phenopipe.config import QCConfig
from phenopipe.errors import InputError
from phenopipe.lake import Lake, Manifest, Recipe, Thing, drift
from phenopipe.schema import DRIFT, QC, check_table

STAGE_VERSION = 1

# The measures in which plates of a batch are compared.
COMPARED = ("mean", "background", "focus", "detail", "cells")
# A few plates that happen to be alike would make much of a small difference: the smallest spread
# is this share of the batch's median.
_LEAST_SPREAD = 0.1


class BatchRef(BaseModel):
    """What was published of one experiment, and where: all that travels between tasks."""

    model_config = ConfigDict(frozen=True)

    experiment: str
    thing: str
    key: str
    computed: bool
    counts: dict[str, int]

    @classmethod
    def of(cls, experiment: str, manifest: Manifest, *, computed: bool) -> Self:
        """Refer to what the manifest says."""
        return cls(
            experiment=experiment,
            thing=manifest.thing,
            key=manifest.key,
            computed=computed,
            counts=manifest.counts,
        )


def judge_batch(lake: Lake, experiment: str, *, config: QCConfig | None = None) -> BatchRef:
    """Judge each plate of an experiment against the others, and publish the table.

    It depends on which plates are published, not on the order in which they came; where none
    is new, nothing is done.

    Parameters
    ----------
    lake
        Where QC tables are read and the table is published.
    experiment
        The batch.
    config
        The thresholds; the defaults if None.

    Returns
    -------
    BatchRef
        ``counts``: plates, and plates that drifted.

    Raises
    ------
    InputError
        If no plate of the experiment is published.
    """
    config = config or QCConfig()
    tables = [thing for thing in lake.published("qc") if thing.path.split("/")[1] == experiment]
    if not tables:
        raise InputError(
            f"expected plates of {experiment} in {lake.root}, found none published: "
            "run `phenopipe ingest`"
        )
    thing, recipe = drift(experiment), _write_recipe(lake, tables, config)
    if manifest := lake.current(thing, recipe):
        return BatchRef.of(experiment, manifest, computed=False)
    started = datetime.now(UTC)
    medians = pd.concat([_take_medians(lake, table) for table in tables], ignore_index=True)
    table = compare_plates(medians, config)
    drifted = table.filter(pa.compute.equal(table["verdict"], "warn"))["plate"].unique()
    counts = {"plates": len(tables), "plates_drifted": len(drifted)}
    with lake.writing(thing):
        with lake.draft(thing) as path:
            pq.write_table(table, path)
        manifest = lake.publish(thing, recipe, counts=counts, started=started)
    return BatchRef.of(experiment, manifest, computed=True)


def _write_recipe(lake: Lake, tables: list[Thing], config: QCConfig) -> Recipe:
    inputs = {
        table.path: lake.require(table, remedy="run `phenopipe ingest`").key for table in tables
    }
    asked = config.model_dump(include={"drift_deviations", "min_plates"})
    return Recipe("drift", STAGE_VERSION, inputs, asked)


def _take_medians(lake: Lake, thing: Thing) -> pd.DataFrame:
    """Take the plate's median over fields: one row a channel and measure that is known."""
    with lake.fetched(thing) as path:
        rows = check_table(pq.read_table(path), QC, where=thing.path).to_pandas()
    by_channel = rows.groupby(["experiment", "plate", "channel"])[list(COMPARED)].median()
    by_channel.columns.name = "measure"
    medians: pd.DataFrame = by_channel.stack().rename("median").dropna().reset_index()
    return medians.astype({"median": float})


def compare_plates(medians: pd.DataFrame, config: QCConfig) -> pa.Table:
    """Compare each plate's medians with those of all plates of the batch.

    Parameters
    ----------
    medians
        Columns ``experiment``, ``plate``, ``channel``, ``measure`` and ``median``.
    config
        The thresholds.

    Returns
    -------
    Table
        schema.DRIFT, sorted. ``deviation``: how far the plate's median lies from the median of
        all, over 1.4826 times the median of such distances, or over a tenth of the median of all
        where that is more; null with fewer plates than ``min_plates``. ``reason``: ``low`` or
        ``high``, or ``too_few_plates``.
    """
    keys = ["channel", "measure"]
    rows = medians.sort_values(["plate", *keys], ignore_index=True)
    batch = rows.groupby(keys)["median"]
    rows["batch_median"] = batch.transform("median")
    apart = rows["median"] - rows["batch_median"]
    spread = 1.4826 * apart.abs().groupby([rows[key] for key in keys]).transform("median")
    spread = spread.clip(lower=_LEAST_SPREAD * rows["batch_median"].abs())
    is_told = (batch.transform("size") >= config.min_plates) & (spread > 0)
    rows["deviation"] = (apart / spread).where(is_told)
    drifted = rows["deviation"].abs() > config.drift_deviations
    rows["verdict"] = np.where(drifted, "warn", "pass")
    side = np.where(rows["deviation"] < 0, "low", "high")
    unjudged = np.where(batch.transform("size") < config.min_plates, "too_few_plates", "")
    rows["reason"] = np.where(drifted, side, unjudged)
    return pa.Table.from_pandas(rows, schema=DRIFT, preserve_index=False)
