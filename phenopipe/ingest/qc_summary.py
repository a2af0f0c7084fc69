"""QC of a plate in a page, and in a line: what lab ops look at before the next one is imaged."""

from dataclasses import dataclass
from itertools import islice
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

from phenopipe.errors import InputError
from phenopipe.ingest.verdicts import Verdict
from phenopipe.lake import Lake, drift, heatmaps, ledger, qc_table
from phenopipe.plates import PlateKey
from phenopipe.schema import DRIFT, LEDGER, QC, check_table

# What is told of each channel: the median over the plate's fields.
_MEDIANS = ("mean", "background", "saturated", "focus", "detail", "cells")


@dataclass(frozen=True)
class PlateSummary:
    """QC of one plate on a page.

    Attributes
    ----------
    verdict
        The plate's.
    fields, failed
        Fields that were measured, and those of them that failed.
    missing
        Files, or lines of the vendor's index, that should be there and are not.
    channels
        A row a channel: ``channel``, and medians over its fields; None where nothing is known.
    wells
        The wells that do not pass, by verdict and reason, those that fail first.
    """

    verdict: Verdict
    fields: int
    failed: int
    missing: int
    channels: list[dict[str, Any]]
    wells: dict[Verdict, list[str]]


def summarise_plate(lake: Lake, key: PlateKey) -> PlateSummary:
    """Summarise the QC of one published plate, from its QC table and its ledger.

    Raises
    ------
    InputError
        If the plate is not published.
    """
    for thing in (qc_table(key), ledger(key)):
        lake.require(thing, remedy=f"run `phenopipe ingest` on the plate {key}")
    with lake.fetched(qc_table(key)) as path:
        rows = check_table(pq.read_table(path), QC, where=qc_table(key).path).to_pandas()
    with lake.fetched(ledger(key)) as path:
        told = check_table(pq.read_table(path), LEDGER, where=ledger(key).path)["verdict"]
    fields = rows.drop_duplicates(["well", "field"])
    return PlateSummary(
        verdict=Verdict(*rows[["plate_verdict", "plate_reason"]].iloc[0]),
        fields=len(fields),
        failed=int(fields["verdict"].eq("fail").sum()),
        missing=pc.sum(pc.equal(told, "missing")).as_py() or 0,
        channels=_take_medians(rows),
        wells=_group_wells(rows),
    )


def _take_medians(rows: pd.DataFrame) -> list[dict[str, Any]]:
    medians = rows.groupby("channel", sort=False)[list(_MEDIANS)].median().astype(object)
    known = medians.where(medians.notna(), None).reset_index()
    return [{str(name): value for name, value in row.items()} for row in known.to_dict("records")]


def _group_wells(rows: pd.DataFrame) -> dict[Verdict, list[str]]:
    wells = rows.groupby("well")[["well_verdict", "well_reason"]].first()
    found: dict[Verdict, list[str]] = {}
    for well, verdict, reason in wells.sort_values("well_verdict", kind="stable").itertuples():
        if verdict != "pass":
            found.setdefault(Verdict(verdict, reason), []).append(well)
    return found


def read_verdict(lake: Lake, key: PlateKey) -> Verdict | None:
    """Read the verdict on a plate from the head of its QC table; None where it has none.

    The table is not read as a whole: a thousand plates are asked in seconds.

    Raises
    ------
    InputError
        If the table holds no verdict.
    """
    thing = qc_table(key)
    if lake.manifest(thing) is None:
        return None
    columns = ["plate_verdict", "plate_reason"]
    with lake.opened(thing) as file:
        for batch in islice(pq.ParquetFile(file).iter_batches(1, columns=columns), 1):
            return Verdict(*(str(column[0]) for column in batch.columns))
    raise InputError(f"expected a verdict in {thing}, found no row: ingest {key} again")


def summarise_qc(lake: Lake, experiment: str) -> list[dict[str, str]]:
    """Tell the verdict on each plate of an experiment that `judge_batch` has judged.

    Returns
    -------
    list of dict
        ``experiment``, ``plate``, ``verdict``, ``reason``, ``failed fields``, ``drift`` (channel
        and measure) and ``heatmaps``: where the pictures lie; by plate.

    Raises
    ------
    InputError
        If the experiment was not judged.
    """
    thing = drift(experiment)
    lake.require(thing, remedy=f"run `phenopipe qc --root {lake.root}`")
    with lake.fetched(thing) as path:
        table = check_table(pq.read_table(path), DRIFT, where=thing.path)
    plates = sorted(set(table["plate"].to_pylist()))
    warned = table.filter(pc.field("verdict") != "pass").to_pylist()
    return [
        _summarise(
            lake,
            PlateKey(experiment, plate),
            [f"{row['channel']} {row['measure']}" for row in warned if row["plate"] == plate],
        )
        for plate in plates
    ]


def _summarise(lake: Lake, key: PlateKey, drifted: list[str]) -> dict[str, str]:
    thing = qc_table(key)
    with lake.fetched(thing) as path:
        table = check_table(pq.read_table(path), QC, where=thing.path)
    fields = set(zip(table["well"].to_pylist(), table["field"].to_pylist(), strict=True))
    failed = table.filter(pc.field("verdict") == "fail")
    lost = set(zip(failed["well"].to_pylist(), failed["field"].to_pylist(), strict=True))
    return {
        "experiment": key.experiment,
        "plate": key.plate,
        "verdict": table["plate_verdict"][0].as_py(),
        "reason": table["plate_reason"][0].as_py(),
        "failed fields": f"{len(lost)} of {len(fields)}",
        "drift": ", ".join(drifted),
        "heatmaps": lake.path(heatmaps(key)),
    }
