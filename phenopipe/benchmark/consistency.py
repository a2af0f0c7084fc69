"""Consistency: whether a perturbation's replicates point the same way."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phenopipe.benchmark.metric import MapData, Score
from phenopipe.benchmark.replicates import (
    CONTROLS,
    MAX_GROUP,
    UNEXPRESSED,
    compare_by_size,
    compare_with_null,
    each_plate,
    null_perturbations,
    read_controls,
    score_table,
)
from phenopipe.config import BenchmarkConfig
from phenopipe.stats import Floats, Indices, group_codes, unit_rows

_log = logging.getLogger(__name__)


def replicate_consistency(
    values: ArrayLike, labels: Sequence[str] | NDArray[Any], *, null: Sequence[str]
) -> pd.DataFrame:
    """Average the cosines of each perturbation's pairs of replicates, and compare with a null.

    As EFAAR_benchmarking (Celik et al. 2024): the p-value is the share of the null's
    perturbations that are at least as consistent, ``fdr`` is Benjamini & Hochberg's.

    Parameters
    ----------
    values
        One row a replicate, shape (n, d).
    labels
        Its perturbation, shape (n,).
    null
        Perturbations without an effect, such as unexpressed genes.

    Returns
    -------
    DataFrame
        Indexed by the other perturbations: ``value``, ``n`` replicates, ``p_value``, ``fdr``;
        NaN below two replicates.

    Examples
    --------
    >>> x = [[1, 0], [1, 0.1], [1, 0], [0, 1], [1, 1], [1, 0]]
    >>> replicate_consistency(x, list("aabbcc"), null=["b", "c"]).round(3)
       value  n  p_value    fdr
    a  0.995  2      0.0  0.333
    """
    codes, names = group_codes(labels)
    named = codes >= 0
    rows = np.asarray(values, dtype=np.float64)[named]
    table = _pairwise_means([(codes[named], rows)], n=len(names))
    table.index = pd.Index(names)
    drawn = table.index.isin(null)
    return compare_with_null(table[~drawn], table.loc[drawn, "value"].to_numpy())


def _pairwise_means(blocks: Iterable[tuple[Indices, Floats]], *, n: int) -> pd.DataFrame:
    """Average pairwise cosines from sums: the square of a sum of unit vectors holds all pairs."""
    sums: Floats | None = None
    squares, counts = np.zeros(n), np.zeros(n, dtype=np.int64)
    for codes, values in blocks:
        unit = unit_rows(values)
        sums = np.zeros((n, unit.shape[1])) if sums is None else sums
        order = np.argsort(codes, kind="stable")
        here, starts = np.unique(codes[order], return_index=True)
        if len(here):
            sums[here] += np.add.reduceat(unit[order], starts, axis=0)
        squares += np.bincount(codes, (unit**2).sum(axis=1), minlength=n)
        counts += np.bincount(codes, minlength=n)
    whole = np.zeros(n) if sums is None else (sums**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(counts > 1, (whole - squares) / (counts * (counts - 1)), np.nan)
    return pd.DataFrame({"value": means, "n": counts})


def control_means(controls: ArrayLike, sizes: Indices, *, n: int, seed: int) -> dict[int, Floats]:
    """Average pairwise cosines of random groups of controls, n of each size.

    A size beyond the number of controls is taken as that number, and one beyond 128 as 128.

    Examples
    --------
    >>> drawn = control_means(np.eye(6), np.array([2, 3]), n=4, seed=0)
    >>> {size: means.tolist() for size, means in drawn.items()}
    {2: [0.0, 0.0, 0.0, 0.0], 3: [0.0, 0.0, 0.0, 0.0]}
    """
    unit, rng = unit_rows(controls), np.random.default_rng(seed)
    wanted = np.unique(sizes)
    places = np.minimum(wanted, min(len(unit), MAX_GROUP)) - 1
    means = np.empty((n, len(wanted)))
    for draw in range(n):
        # A random order's first rows are a random group, of any size at once.
        rows = unit[rng.permutation(len(unit))[: places.max(initial=-1) + 1]]
        whole = (np.cumsum(rows, axis=0)[places] ** 2).sum(axis=1)
        squares = np.cumsum((rows**2).sum(axis=1))[places]
        means[draw] = (whole - squares) / ((places + 1) * places)
    return {int(size): means[:, number] for number, size in enumerate(wanted)}


class Consistency:
    """The metric ``consistency``: mean over perturbations, and ``consistency_hits`` at FDR 5%.

    The null is the unexpressed genes where 20 or more are known; otherwise groups of as many
    control wells as the perturbation has replicates.
    """

    name = "consistency"
    version = 1

    def score(self, data: MapData, config: BenchmarkConfig) -> list[Score]:
        """Score the map's replicates under each correction."""
        if data.wells is None:
            return []
        return [score for side in data.embeddings for score in _score_side(data, side, config)]


def _score_side(data: MapData, correction: str, config: BenchmarkConfig) -> list[Score]:
    table = _pairwise_means(each_plate(data, correction), n=len(data.labels))
    table.index = pd.Index(data.labels)
    drawn = null_perturbations(data, table["value"].notna().to_numpy())
    source = UNEXPRESSED if drawn.any() else CONTROLS
    if drawn.any():
        null = table.loc[drawn, "value"].to_numpy()
        compared, mean = compare_with_null(table[~drawn], null), float(null.mean())
    else:
        table = table[table["n"] > 1]
        compared, mean = _compare_with_controls(table, data, config)
    n_null = int(drawn.sum()) if drawn.any() else config.n_null
    return score_table(
        compared,
        data,
        config,
        source=source,
        correction=correction,
        null=mean,
        parameters={"n_null": n_null},
    )


def _compare_with_controls(
    table: pd.DataFrame, data: MapData, config: BenchmarkConfig
) -> tuple[pd.DataFrame, float]:
    controls = read_controls(data, seed=config.seed)
    if len(controls) < 2 or table.empty:
        _log.warning("consistency: fewer than two control wells, no null to compare with")
        return table.assign(p_value=np.nan, fdr=np.nan), np.nan
    drawn = control_means(controls, table["n"].to_numpy(), n=config.n_null, seed=config.seed)
    return compare_by_size(table, drawn)
