"""Plate-level effects: how a plate's edge, rows and columns differ from the rest of its wells.

Wells dry out at a plate's edge, and tips and nozzles serve rows and columns: what follows them is
seldom biology. But treatments may be laid out in rows or columns too, so an effect is a warning.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, kruskal

from phenopipe.config import QCConfig
from phenopipe.ingest.qc import MEASURES
from phenopipe.plates import FieldKey, PlateKey, Well
from phenopipe.schema import PLATE_EFFECTS
from phenopipe.stats import brunner_munzel

# The measures that are tested.
TESTED = ("mean", "background", "focus", "cells")
PLACES = ("edge", "row", "column")

# Brunner-Munzel's normal and Kruskal-Wallis' chi-square approximation hold from about here.
_MIN_SAMPLE, _MIN_LINE = 10, 3


class Effect(NamedTuple):
    """How much a place on the plate matters, and how likely that is by chance; NaN: not tested."""

    size: float
    p_value: float


_UNTESTED = Effect(np.nan, np.nan)


def find_effects(
    measured: Mapping[FieldKey, NDArray[np.float64]],
    *,
    channels: Sequence[str],
    key: PlateKey,
    shape: tuple[int, int],
    config: QCConfig,
) -> pa.Table:
    """Test the medians of a plate's wells for effects of the edge, of rows and of columns.

    Parameters
    ----------
    measured
        ``(c, 8)`` of `measure_field`, by field.
    channels
        Their labels.
    key
        The plate.
    shape
        The plate's rows and columns.
    config
        The thresholds: an effect warns where both its size and its FDR say so.

    Returns
    -------
    Table
        schema.PLATE_EFFECTS, one row a channel and measure of `TESTED`. FDRs (Benjamini &
        Hochberg 1995) are over all tests of the plate.
    """
    wells, medians = _take_medians(measured)
    rows = [
        (channel, measure, values)
        for c, channel in enumerate(channels)
        for measure in TESTED
        if np.isfinite(values := medians[:, c, MEASURES.index(measure)]).any()
    ]
    tests = [_test_places(wells, values, shape) for _, _, values in rows]
    fdrs = _control_fdr(np.array([[effect.p_value for effect in row] for row in tests]))
    table = [
        {
            "experiment": key.experiment,
            "plate": key.plate,
            "channel": channel,
            "measure": measure,
            "wells": int(np.isfinite(values).sum()),
            **_write_tests(effects, fdr, config),
        }
        for (channel, measure, values), effects, fdr in zip(rows, tests, fdrs, strict=True)
    ]
    return pa.Table.from_pylist(table, schema=PLATE_EFFECTS)


def _take_medians(
    measured: Mapping[FieldKey, NDArray[np.float64]],
) -> tuple[list[Well], NDArray[np.float64]]:
    """Take each well's median over its fields: wells, and ``(wells, c, 8)``."""
    wells = [key.well for key in measured]
    values = np.stack(list(measured.values()))
    # A field without contrast has no focus: pandas leaves NaN out of a median.
    by_well = pd.DataFrame(values.reshape(len(values), -1)).groupby(wells).median()
    return list(by_well.index), by_well.to_numpy().reshape(-1, *values.shape[1:])


def _test_places(
    wells: Sequence[Well], values: NDArray[np.float64], shape: tuple[int, int]
) -> list[Effect]:
    """Test the edge, then rows and columns less the edge's shift: in the order of `PLACES`."""
    known = np.isfinite(values)
    rows = np.array([well.row for well in wells])[known]
    columns = np.array([well.column for well in wells])[known]
    outer = (rows == 0) | (rows == shape[0] - 1) | (columns == 0) | (columns == shape[1] - 1)
    told = values[known]
    edge = compare_edge(told[outer], told[~outer])
    if np.isfinite(edge.size):
        # Else the outermost rows and columns would differ from the others for their wells' edge.
        told = told - outer * (np.median(told[outer]) - np.median(told[~outer]))
    return [edge, compare_lines(told, rows), compare_lines(told, columns)]


def compare_edge(outer: NDArray[np.float64], inner: NDArray[np.float64]) -> Effect:
    """Test whether outer wells differ from inner ones (Brunner & Munzel 2000), on two sides.

    Returns
    -------
    Effect
        ``size``: 2 P(outer > inner) - 1, from -1 to 1; 0 where neither tends to be the larger.
        Not tested with fewer than 10 wells on a side.

    Examples
    --------
    >>> effect = compare_edge(np.arange(20.0), np.arange(10.0, 40.0))
    >>> round(effect.size, 2), effect.p_value < 1e-9
    (-0.83, True)
    """
    if min(len(outer), len(inner)) < _MIN_SAMPLE:
        return _UNTESTED
    test = brunner_munzel(outer, inner)
    if np.isnan(test.p_value):
        # Without any spread there is no difference: all values are the same.
        return Effect(0.0, 1.0)
    return Effect(2 * test.probability - 1, min(1.0, 2 * min(test.p_value, 1 - test.p_value)))


def compare_lines(values: NDArray[np.float64], lines: NDArray[np.intp]) -> Effect:
    """Test whether rows, or columns, differ (Kruskal & Wallis 1952).

    Parameters
    ----------
    values
        One a well, shape (n,).
    lines
        Each well's row or column, shape (n,); lines with fewer than 3 wells are left out.

    Returns
    -------
    Effect
        ``size``: the share of the ranks' variance that lines explain, (H - k + 1) / (n - k) with
        k lines (Tomczak & Tomczak 2014); 0 by chance, and at most 1. Not tested with fewer than
        10 wells, or fewer than two lines.

    Examples
    --------
    >>> effect = compare_lines(np.arange(24.0), np.arange(24) // 6)
    >>> round(effect.size, 2), effect.p_value < 1e-3
    (0.93, True)
    """
    numbers, sizes = np.unique(lines, return_counts=True)
    groups = [values[lines == number] for number in numbers[sizes >= _MIN_LINE]]
    n, k = sum(map(len, groups)), len(groups)
    if n < _MIN_SAMPLE or k < 2:
        return _UNTESTED
    if len(np.unique(np.concatenate(groups))) == 1:
        return Effect(0.0, 1.0)
    statistic, p_value = kruskal(*groups)
    return Effect(max(0.0, float(statistic - k + 1) / (n - k)), float(p_value))


def _control_fdr(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(p_values)
    fdrs = np.full(p_values.shape, np.nan)
    if known.any():
        fdrs[known] = false_discovery_control(p_values[known])
    return fdrs


def _write_tests(
    effects: Sequence[Effect], fdrs: NDArray[np.float64], config: QCConfig
) -> dict[str, object]:
    written: dict[str, object] = {}
    reasons = []
    for place, effect, fdr in zip(PLACES, effects, fdrs.tolist(), strict=True):
        limit = config.max_edge_effect if place == "edge" else config.max_line_effect
        # A comparison with NaN is false: what was not tested does not warn.
        if abs(effect.size) > limit and fdr <= config.effect_fdr:
            reasons.append(f"{place}_effect")
        numbers = {"effect": effect.size, "p_value": effect.p_value, "fdr": fdr}
        written |= {
            f"{place}_{what}": number if np.isfinite(number) else None
            for what, number in numbers.items()
        }
    return written | {"verdict": "warn" if reasons else "pass", "reason": ",".join(reasons)}


def list_reasons(effects: pa.Table) -> list[str]:
    """Name the effects that warn in a table of them, each once: edge, row, column."""
    told = {name for reason in effects["reason"].to_pylist() for name in reason.split(",")}
    return [name for name in (f"{place}_effect" for place in PLACES) if name in told]
