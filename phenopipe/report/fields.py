"""What became of each file, field and well of a plate."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from phenopipe.report.sources import PlateFacts

KEPT = ("pass", "warn")
GOOD_FILES = ("ok", "ignored")

# Stands for no number in a ledger's field: the file's name gave none.
NO_FIELD = -1

# What a well's fields make of it, from the best to the worst.
STATES = ("pass", "warn", "part", "lost")


@dataclass(frozen=True)
class Loss:
    """A field or file that was left out or is faulty, and why."""

    plate: str
    well: str
    field: str
    verdict: str
    reason: str
    files: tuple[str, ...]
    kept: bool


def judge_fields(plate: PlateFacts) -> pd.DataFrame:
    """Judge each field that the microscope wrote: one row a field, sorted by well and field.

    Returns
    -------
    DataFrame
        Columns ``well``, ``field``, ``verdict`` (``pass``, ``warn``, ``fail``, or ``lost`` where
        the field never reached the plate image), ``reason`` and ``kept``.
    """
    keys = ["well", "field"]
    seen = plate.qc.groupby(keys, as_index=False)[["verdict", "reason"]].first()
    named = plate.ledger[(plate.ledger["verdict"] != "ignored") & _has_field(plate.ledger)]
    faults = named.astype({"field": "int32"}).groupby(keys)["verdict"].agg(_faults)
    lost = faults.rename("reason").reset_index().assign(verdict="lost")
    unseen = lost.set_index(keys).index.isin(seen.set_index(keys).index)
    fields = pd.concat([seen, lost[~unseen]], ignore_index=True)
    fields["kept"] = fields["verdict"].isin(KEPT)
    judged: pd.DataFrame = fields.sort_values(keys, ignore_index=True)
    return judged


def _has_field(ledger: pd.DataFrame) -> pd.Series:
    return ledger["well"].fillna("").ne("") & ledger["field"].notna()


def _faults(verdicts: pd.Series) -> str:
    return ", ".join(sorted(set(verdicts) - {"ok"})) or "not in the QC table"


def judge_wells(fields: pd.DataFrame) -> pd.Series:
    """Judge each well by its fields: ``lost`` if none is kept, ``part`` if some are not.

    Returns
    -------
    Series
        One of ``STATES`` a well, in the wells' order.
    """
    states = {well: _state(group) for well, group in fields.groupby("well", sort=True)}
    return pd.Series(states, name="state", dtype=object)


def _state(fields: pd.DataFrame) -> str:
    if not fields["kept"].any():
        return "lost"
    if not fields["kept"].all():
        return "part"
    return "warn" if fields["verdict"].eq("warn").any() else "pass"


def measure_wells(qc: pd.DataFrame) -> pd.DataFrame:
    """Measure each well over its fields: cells, and focus against the plate.

    Returns
    -------
    DataFrame
        Indexed by well: ``cells``, the mean number a field; ``focus``, the mean over fields of
        the worst channel, in robust deviations (1.4826 x MAD) of its logarithm from the
        channel's median over the plate: the measure that QC judges by.
    """
    focus = qc.groupby("channel")["focus"].transform(_deviate)
    fields = qc.assign(focus=focus).groupby(["well", "field"]).agg({"cells": "max", "focus": "min"})
    return fields.groupby("well").mean()


def _deviate(focus: pd.Series) -> pd.Series:
    logs = focus.where(focus > 0).transform(np.log)
    apart = logs - logs.median()
    spread = 1.4826 * apart.abs().median()
    return apart / (spread if spread > 0 else np.nan)


def list_losses(plate: PlateFacts, fields: pd.DataFrame) -> list[Loss]:
    """List each faulty file and each field left out, by kind, well and field.

    A field with several faulty files of one kind is one entry with all of them.
    """
    losses = _list_faults(plate, fields)
    told = {(loss.well, loss.field) for loss in losses}
    for row in fields[~fields["kept"]].to_dict("records"):
        if (row["well"], str(row["field"])) not in told:
            verdict = "failed QC" if row["verdict"] == "fail" else row["verdict"]
            where = (str(plate.key), row["well"], str(row["field"]))
            losses.append(Loss(*where, verdict, row["reason"], files=(), kept=False))
    return sorted(losses, key=lambda loss: (loss.verdict, loss.well, loss.field, loss.files))


def _list_faults(plate: PlateFacts, fields: pd.DataFrame) -> list[Loss]:
    kept = {(row["well"], row["field"]) for row in fields[fields["kept"]].to_dict("records")}
    bad = plate.ledger[~plate.ledger["verdict"].isin(GOOD_FILES)]
    bad = bad.fillna({"well": "", "field": NO_FIELD, "reason": ""}).astype({"field": int})
    files = bad.groupby(["well", "field", "verdict", "reason"])["path"].agg(sorted).reset_index()
    return [
        Loss(
            plate=str(plate.key),
            well=row["well"],
            field="" if row["field"] == NO_FIELD else str(row["field"]),
            verdict=row["verdict"],
            reason=row["reason"],
            files=tuple(path for path in row["path"] if path),
            kept=(row["well"], row["field"]) in kept,
        )
        for row in files.to_dict("records")
    ]
