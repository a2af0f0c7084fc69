"""A map's replicates: its wells by perturbation, in blocks, and the scores that rest on them."""

import logging
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from phenopipe.benchmark.metric import MapData, Score
from phenopipe.config import BenchmarkConfig
from phenopipe.stats import Floats, Indices, finite_rows
from phenopipe.stats.resample import (
    Ties,
    bootstrap_means,
    null_p_values,
    percentile_interval,
    share_above,
)

T = TypeVar("T", bound=np.generic)

# A perturbation is a hit at this false discovery rate.
FDR = 0.05
# Control wells that replicates are measured against, drawn by the seed, as EFAAR_benchmarking.
MAX_CONTROLS = 1000
# Unexpressed genes make a null of their own from this number on; fewer give too coarse p-values.
MIN_UNEXPRESSED = 20

# Groups of controls stand for at most so many replicates: larger ones vary less, so that those of
# a perturbation with more replicates are compared with a null that is too wide, not too narrow.
MAX_GROUP = 128

UNEXPRESSED = "unexpressed genes"
CONTROLS = "controls"

# Wells held at once: bounds memory to this many bytes of float32 vectors.
_BLOCK_BYTES = 1 << 28
# Wells compared with controls by one product of matrices.
_GROUP_ROWS = 4096

_log = logging.getLogger(__name__)


def well_codes(data: MapData) -> Indices:
    """Give each well the number of its perturbation in the map, -1 for controls and others."""
    assert data.wells is not None  # noqa: S101, for mypy: metrics ask before
    labels = data.wells.rows["label"].astype(object)
    codes: Indices = pd.Index(data.labels).get_indexer(pd.Index(labels)).astype(np.int64)
    return codes


def read_controls(data: MapData, *, seed: int) -> Floats:
    """Read the negative controls' vectors; a seeded draw of 1,000 where there are more."""
    assert data.wells is not None  # noqa: S101
    rows = np.flatnonzero((data.wells.rows["control_type"] == "negative").to_numpy())
    if len(rows) > MAX_CONTROLS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_CONTROLS, replace=False))
    return finite_rows(data.wells.take(rows))


def each_plate(data: MapData, correction: str) -> Iterator[tuple[Indices, Floats]]:
    """Read plate by plate the map's wells: their perturbations' numbers, corrected vectors."""
    assert data.wells is not None  # noqa: S101
    codes, shift = well_codes(data), data.shift(correction)
    for rows, values in data.wells.plates():
        of_plate = codes[rows.index.to_numpy()]
        kept = of_plate >= 0
        yield of_plate[kept], finite_rows(values[kept]) - shift[of_plate[kept]]


def each_group(data: MapData, correction: str, *, least: int) -> Iterator[tuple[Indices, Floats]]:
    """Read the replicates of perturbations that have at least so many, some perturbations a time.

    Yields
    ------
    codes, values
        Each well's perturbation, all of one together, and the corrected vectors; see
        :func:`in_groups`.
    """
    assert data.wells is not None  # noqa: S101
    codes, shift = well_codes(data), data.shift(correction)
    sizes = np.bincount(codes[codes >= 0], minlength=len(data.labels))
    wells = np.flatnonzero((codes >= 0) & (sizes[codes] >= least))
    wells = wells[np.argsort(codes[wells], kind="stable")]
    for block in _cut(codes[wells], max(1, _BLOCK_BYTES // (4 * data.wells.width))):
        rows = wells[block]
        for found, values in in_groups(codes[rows], data.wells.take(rows)):
            yield found, finite_rows(values) - shift[found]


def in_groups(codes: Indices, values: NDArray[T]) -> Iterator[tuple[Indices, NDArray[T]]]:
    """Yield rows by perturbation, as many perturbations a time as make up to 4,096 rows.

    Examples
    --------
    >>> [(found.tolist(), x.tolist()) for found, x in in_groups(np.array([1, 0, 1]), np.arange(3))]
    [([0, 1, 1], [1, 0, 2])]
    """
    order = np.argsort(codes, kind="stable")
    for group in _cut(codes[order], _GROUP_ROWS):
        rows = order[group]
        yield codes[rows], values[rows]


def runs(codes: Indices) -> Iterator[tuple[int, slice]]:
    """Yield each perturbation of a group and where its rows are.

    Examples
    --------
    >>> list(runs(np.array([3, 3, 8])))
    [(3, slice(0, 2, None)), (8, slice(2, 3, None))]
    >>> list(runs(np.array([], dtype=np.int64)))
    []
    """
    ends = np.append(np.flatnonzero(np.diff(codes, prepend=-1)), len(codes)).tolist()
    for start, stop in pairwise(ends):
        if start < stop:
            yield int(codes[start]), slice(start, stop)


def _cut(codes: Indices, at_most: int) -> Iterator[slice]:
    """Cut sorted rows between perturbations, into parts of at most so many unless one has more."""
    start = end = 0
    for _, part in runs(codes):
        if part.stop - start > at_most and end > start:
            yield slice(start, end)
            start = end
        end = part.stop
    if end > start:
        yield slice(start, end)


def null_perturbations(data: MapData, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Choose the unexpressed genes as the null where enough of them are known, otherwise none."""
    silent = data.unexpressed & known
    return silent if silent.sum() >= MIN_UNEXPRESSED else np.zeros_like(silent)


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """Add the false discovery rate over the perturbations (Benjamini & Hochberg 1995).

    ``fdr`` rests on the column ``drawn_p``, in which the observation counts as a draw: p-values
    of 0 would make hits of a coarse null.
    """
    known = table["drawn_p"].notna().to_numpy()
    fdr = np.full(len(table), np.nan)
    if known.any():
        fdr[known] = false_discovery_control(table.loc[known, "drawn_p"])
    return table.assign(fdr=fdr).drop(columns="drawn_p")


def compare_with_null(table: pd.DataFrame, null: Floats, *, ties: Ties = "above") -> pd.DataFrame:
    """Add p-values and FDR of the column ``value`` against the null's values."""
    values = table["value"].to_numpy()
    p_values = share_above(values, null, ties=ties)
    return judge(table.assign(p_value=p_values, drawn_p=null_p_values(values, null)))


def compare_by_size(
    table: pd.DataFrame, drawn: Mapping[int, Floats], *, ties: Ties = "above"
) -> tuple[pd.DataFrame, float]:
    """Compare each perturbation with drawn groups of as many wells, and give the groups' mean.

    Parameters
    ----------
    table
        Columns ``value`` and ``n``, the number of replicates.
    drawn
        The values of drawn groups, by their size.
    """
    sizes, values = table["n"].to_numpy(), table["value"].to_numpy()
    p_values, own = np.empty(len(table)), np.empty(len(table))
    for size, null in drawn.items():
        of_size = sizes == size
        p_values[of_size] = share_above(values[of_size], null, ties=ties)
        own[of_size] = null_p_values(values[of_size], null)
    mean = float(np.mean([drawn[size].mean() for size in sizes.tolist()])) if len(table) else np.nan
    return judge(table.assign(p_value=p_values, drawn_p=own)), mean


def score_table(
    table: pd.DataFrame,
    data: MapData,
    config: BenchmarkConfig,
    *,
    source: str,
    correction: str,
    null: float,
    parameters: dict[str, Any],
) -> list[Score]:
    """Score perturbations' values by their mean, and by the share of hits at FDR 5%.

    Parameters
    ----------
    table
        Indexed by label: ``value`` and ``fdr``.
    """
    table = table.dropna(subset=["value", "fdr"])
    if table.empty:
        _log.warning("%s, %s: no perturbation has enough replicates", source, correction)
    hits = (table["fdr"] <= FDR).astype(np.float64)
    told = {**parameters, "n_bootstrap": config.n_bootstrap, "seed": config.seed}
    shared: dict[str, Any] = {"source": source, "correction": correction, "n": len(table)}
    return [
        Score(**shared, **summarise(table["value"], data, config), null=null, parameters=told),
        Score(
            **shared,
            **summarise(hits, data, config),
            parameters={**told, "fdr": FDR},
            aspect="hits",
        ),
    ]


def summarise(values: pd.Series, data: MapData, config: BenchmarkConfig) -> dict[str, Any]:
    """Give the mean over perturbations, its interval and what it rests on, as a score has them."""
    members = pd.Index(data.labels).get_indexer(values.index)[:, None]
    resamples = bootstrap_means(
        values.to_numpy(),
        members,
        n=len(data.labels),
        n_bootstrap=config.n_bootstrap,
        seed=config.seed,
    )
    low, high = percentile_interval(resamples)
    mean = float(values.mean()) if len(values) else np.nan
    return {"value": mean, "low": low, "high": high, "resamples": resamples, "units": values}
