"""Replicate mAP: how early a perturbation's replicates find one another among other wells."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phenopipe.benchmark.metric import MapData, Score
from phenopipe.benchmark.precision import (
    expected_average_precision,
    precision_among,
    random_average_precisions,
)
from phenopipe.benchmark.replicates import (
    CONTROLS,
    MAX_CONTROLS,
    each_group,
    in_groups,
    judge,
    read_controls,
    runs,
    score_table,
    well_codes,
)
from phenopipe.config import BenchmarkConfig
from phenopipe.stats import Floats, Indices, group_codes, unit_rows
from phenopipe.stats.resample import null_p_values

OTHERS = "other perturbations"

_log = logging.getLogger(__name__)


def replicate_precision(
    values: ArrayLike,
    labels: Sequence[str] | NDArray[Any],
    negatives: ArrayLike,
    *,
    n_null: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure each perturbation's mean average precision against a set of other wells.

    As copairs (Kalinin et al. 2025, "A versatile information retrieval framework for evaluating
    profile strength and similarity"): each replicate ranks its fellows among the negatives by
    cosine; the perturbation's value is the mean of its replicates' average precisions. The null
    is the average precision of random rankings of as many; the p-value counts how many reach
    the value. (The mean over replicates varies less than the null, so the p-value is too large
    rather than too small.)

    Parameters
    ----------
    values
        One row a replicate, shape (n, d).
    labels
        Its perturbation, shape (n,).
    negatives
        Other wells, such as controls, shape (m, d).
    n_null, seed
        Random rankings, and their seed.

    Returns
    -------
    DataFrame
        Indexed by perturbation, those with two replicates: ``value``, ``n`` replicates,
        ``expected`` (by chance), ``p_value``, ``fdr``.

    Examples
    --------
    >>> x, controls = [[1, 0], [1, 0.1], [0, 1], [1, 1]], [[1, 0.5], [-1, 0]]
    >>> replicate_precision(x, list("aabb"), controls).round(2)[["value", "expected"]]
       value  expected
    a   1.00      0.61
    b   0.75      0.61
    """
    codes, names = group_codes(labels)
    unit, others = unit_rows(values)[codes >= 0], unit_rows(negatives)
    nobody = np.full(len(others), -1)
    found = {
        names[code]: measured
        for some, rows in in_groups(codes[codes >= 0], unit)
        for code, measured in _precisions(some, rows, others, nobody)
    }
    return _judge_precision(found, n_null=n_null, seed=seed)


def _precisions(
    codes: Indices, unit: Floats, negatives: Floats, owners: Indices
) -> Iterator[tuple[int, tuple[float, int, int]]]:
    """Yield each perturbation's mean average precision, numbers of replicates and of negatives.

    A negative that is of the perturbation itself, its owner, does not count.
    """
    alike = unit @ negatives.T
    alike[codes[:, None] == owners] = -np.inf
    alike.sort(axis=1)
    for code, part in runs(codes):
        own, n = unit[part], part.stop - part.start
        if n > 1:
            fellows = (own @ own.T)[~np.eye(n, dtype=bool)].reshape(n, n - 1)
            mean = float(precision_among(fellows, alike[part]).mean())
            yield code, (mean, n, len(negatives) - int((owners == code).sum()))


def _judge_precision(
    found: dict[str, tuple[float, int, int]], *, n_null: int, seed: int
) -> pd.DataFrame:
    table = pd.DataFrame.from_dict(found, orient="index", columns=["value", "n", "m"])
    expected, p_values = np.empty(len(table)), np.empty(len(table))
    values, sizes = table["value"].to_numpy(), table[["n", "m"]].to_numpy()
    for n, m in np.unique(sizes, axis=0).tolist():
        rows = (sizes == (n, m)).all(axis=1)
        null = random_average_precisions(n - 1, m, n=n_null, seed=seed)
        expected[rows] = expected_average_precision(n - 1, m)
        p_values[rows] = null_p_values(values[rows], null)
    table = table.assign(expected=expected, p_value=p_values, drawn_p=p_values)
    return judge(table.drop(columns="m"))


class ReplicateMAP:
    """The metric ``replicate_map``: the mean over perturbations; ``replicate_map_hits`` at FDR 5%.

    Against negative controls, and against wells of other perturbations: 1,000 of each, drawn by
    the seed, where there are more.
    """

    name = "replicate_map"
    version = 1

    def score(self, data: MapData, config: BenchmarkConfig) -> list[Score]:
        """Score the map's replicates under each correction."""
        if data.wells is None:
            return []
        controls = unit_rows(read_controls(data, seed=config.seed))
        return [
            score
            for side in data.embeddings
            for score in _score_side(data, side, config, controls=controls)
        ]


def _score_side(
    data: MapData, correction: str, config: BenchmarkConfig, *, controls: Floats
) -> list[Score]:
    negatives = {
        CONTROLS: (controls, np.full(len(controls), -1)),
        OTHERS: _draw_others(data, correction, config),
    }
    against: dict[str, dict[str, tuple[float, int, int]]] = {CONTROLS: {}, OTHERS: {}}
    for codes, rows in each_group(data, correction, least=2):
        unit = unit_rows(rows)
        for source, (others, owners) in negatives.items():
            for code, measured in _precisions(codes, unit, others, owners):
                if measured[2]:
                    against[source][str(data.labels[code])] = measured
    scores = []
    for source, found in against.items():
        if not found:
            _log.warning("replicate mAP: no %s to rank replicates against", source)
            continue
        table = _judge_precision(found, n_null=config.n_null, seed=config.seed)
        scores += score_table(
            table,
            data,
            config,
            source=source,
            correction=correction,
            null=float(table["expected"].mean()),
            parameters={
                "n_null": config.n_null,
                "n_negatives": len(negatives[source][0]),
            },
        )
    return scores


def _draw_others(data: MapData, correction: str, config: BenchmarkConfig) -> tuple[Floats, Indices]:
    """Draw perturbed wells: their corrected directions, and which perturbations they are of."""
    assert data.wells is not None  # noqa: S101, for mypy: the metric asks before
    codes = well_codes(data)
    rows = np.flatnonzero(codes >= 0)
    if len(rows) > MAX_CONTROLS:
        rng = np.random.default_rng(config.seed)
        rows = np.sort(rng.choice(rows, MAX_CONTROLS, replace=False))
    values = data.wells.take(rows) - data.shift(correction)[codes[rows]]
    return unit_rows(values), codes[rows]
