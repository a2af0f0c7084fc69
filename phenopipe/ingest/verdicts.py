"""Verdicts from measures: of each field, of each well, and of the plate.

What is out of focus is judged against the other fields of the plate, channel by channel, since
cells and stains differ; a plate that is blurred throughout is told by the detail it lacks.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from phenopipe.config import QCConfig
from phenopipe.ingest.qc import MEASURES
from phenopipe.plates import FieldKey, Well

# Reasons that fail a field, and reasons that only warn, in the order in which they are told.
FAILURES = ("empty", "saturated", "out_of_focus", "few_cells")
WARNINGS = ("out_of_focus", "blurred")


class Verdict(NamedTuple):
    """``pass``, ``warn`` or ``fail``, and the names of the reasons, joined by commas."""

    verdict: str
    reason: str


def judge_fields(measures: NDArray[np.float64], config: QCConfig) -> list[Verdict]:
    """Judge the fields of one plate.

    Parameters
    ----------
    measures
        ``(fields, c, 8)`` of `measure_field`.
    config
        The thresholds.

    Returns
    -------
    list of Verdict
        Fails: ``empty``, no channel shows anything. ``saturated``, a channel has too many pixels
        at the maximum. ``out_of_focus``, at least half of the channels (and two where there are
        two) are less sharp than the plate's others. ``few_cells``, where a number is asked for.
        Warns: ``out_of_focus``, where fewer channels are so. ``blurred``, at least half of the
        channels that show anything (and two where two do) lack fine detail, whatever the plate's
        other fields do.
    """
    shown = _column(measures, "foreground") >= config.min_foreground
    empty = ~_any(shown)
    full = _any(_column(measures, "saturated") > config.max_saturated)
    votes = _count_blurred(measures, config)
    soft = shown & (_column(measures, "detail") < config.min_detail)
    out_of_focus = votes >= _enough(measures.shape[1])
    failures = {
        "empty": empty,
        "saturated": full,
        "out_of_focus": out_of_focus & ~empty,
        "few_cells": _lack_cells(measures, config) & ~empty,
    }
    warnings = {
        "out_of_focus": votes > 0,
        "blurred": ~empty & (soft.sum(axis=1) >= _enough(shown.sum(axis=1))),
    }
    return [_tell(i, failures, warnings) for i in range(len(measures))]


def _tell(
    i: int,
    failures: Mapping[str, NDArray[np.bool_]],
    warnings: Mapping[str, NDArray[np.bool_]],
) -> Verdict:
    for verdict, reasons in (("fail", failures), ("warn", warnings)):
        told = [name for name, holds in reasons.items() if holds[i]]
        if told:
            return Verdict(verdict, ",".join(told))
    return Verdict("pass", "")


def _column(measures: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    return measures[:, :, MEASURES.index(name)]


def _any(channels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    some: NDArray[np.bool_] = np.logical_or.reduce(channels, axis=1)
    return some


def _enough(channels: int | NDArray[np.intp]) -> NDArray[np.intp]:
    """Say how many of the channels must agree: half of them, and two where there are two."""
    n = np.asarray(channels)
    enough: NDArray[np.intp] = np.maximum(np.minimum(2, n), -(-n // 2))
    return enough


def _lack_cells(measures: NDArray[np.float64], config: QCConfig) -> NDArray[np.bool_]:
    if config.min_cells is None:
        return np.zeros(len(measures), bool)
    return _any(_column(measures, "cells") < config.min_cells)


def _count_blurred(measures: NDArray[np.float64], config: QCConfig) -> NDArray[np.intp]:
    """Count the channels whose focus is low or spectrum steep among the plate's fields."""
    if len(measures) < config.min_fields:
        return np.zeros(len(measures), np.intp)
    with np.errstate(divide="ignore"):
        focus = np.log(_column(measures, "focus"))
    slope, limit = _column(measures, "spectrum_slope"), -config.focus_deviations
    low: NDArray[np.bool_] = (_deviations(focus) < limit) | (_deviations(slope) < limit)
    votes: NDArray[np.intp] = low.sum(axis=1)
    return votes


def _deviations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Express values as robust deviations from the median over fields, channel by channel."""
    known = np.where(np.isfinite(values), values, np.nan)
    filled = np.where(np.isfinite(known).any(axis=0), known, 0.0)
    median = np.nanmedian(filled, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(filled - median), axis=0)
    # Fields alike to within 2% would make nothing of a difference: that is the smallest spread.
    deviations: NDArray[np.float64] = np.nan_to_num((filled - median) / np.maximum(spread, 0.02))
    return deviations


def judge_wells(fields: Mapping[FieldKey, Verdict]) -> dict[Well, Verdict]:
    """Judge each well by its fields.

    Returns
    -------
    dict
        ``fail`` where all fields of the well fail, ``warn`` where some fail or one warns; with
        the reasons of its fields, each once.

    Examples
    --------
    >>> well = Well.parse("B03")
    >>> good, bad = Verdict("pass", ""), Verdict("fail", "empty")
    >>> judge_wells({FieldKey(well, 1): good, FieldKey(well, 2): bad})[well]
    Verdict(verdict='warn', reason='empty')
    """
    by_well: dict[Well, list[Verdict]] = {}
    for key, verdict in fields.items():
        by_well.setdefault(key.well, []).append(verdict)
    return {well: _judge_well(verdicts) for well, verdicts in by_well.items()}


def _judge_well(fields: Collection[Verdict]) -> Verdict:
    told = set(_list_reasons(fields))
    reason = ",".join(name for name in dict.fromkeys((*FAILURES, *WARNINGS)) if name in told)
    if all(field.verdict == "fail" for field in fields):
        return Verdict("fail", reason)
    return Verdict("warn" if told else "pass", reason)


def _list_reasons(fields: Iterable[Verdict]) -> list[str]:
    return [name for field in fields for name in field.reason.split(",") if name]


def judge_plate(fields: Collection[Verdict], effects: Iterable[str], config: QCConfig) -> Verdict:
    """Judge a plate by its fields and by its effects.

    Parameters
    ----------
    fields
        The verdict of each field.
    effects
        Names of the plate's effects that are too large, such as ``edge_effect``: they warn only,
        for a plate's layout need not be random.
    config
        The thresholds.

    Returns
    -------
    Verdict
        ``failed_fields``, fails or warns by their share; what they fail for follows, the
        commonest first. ``blurred``, warns where most fields lack detail.

    Examples
    --------
    >>> fields = [Verdict("pass", "")] * 6 + [Verdict("fail", "empty")] * 4
    >>> judge_plate(fields, [], QCConfig())
    Verdict(verdict='fail', reason='failed_fields,empty')
    """
    failed = [field for field in fields if field.verdict == "fail"]
    share = len(failed) / len(fields)
    blurred = sum("blurred" in field.reason.split(",") for field in fields) / len(fields)
    reasons = []
    if share > min(config.warn_failed_fields, config.max_failed_fields):
        counted = Counter(_list_reasons(failed)).most_common()
        reasons = ["failed_fields", *(name for name, _ in counted)]
    if blurred > config.max_blurred_fields:
        reasons.append("blurred")
    reasons += dict.fromkeys(effects)
    verdict = "fail" if share > config.max_failed_fields else "warn" if reasons else "pass"
    return Verdict(verdict, ",".join(reasons))
