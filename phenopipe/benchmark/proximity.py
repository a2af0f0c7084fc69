"""Proximity bias of a map before and after its arms were corrected, on the same genes.

The unexpressed genes are what the correction subtracts, so after it they lie around zero on every
arm, by construction: a bias measured on them would fall even where the correction does nothing
for the genes that matter. They are therefore never scored, neither before nor after.
"""

import logging
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phenopipe.benchmark.metric import MapData, Score
from phenopipe.config import BenchmarkConfig
from phenopipe.stats import (
    Floats,
    GroupCosines,
    Indices,
    bootstrap_counts,
    compare_groups,
    group_cosines,
    labelled_rows,
    percentile_interval,
    placements,
    sorted_pairs,
)

_log = logging.getLogger(__name__)

# With fewer genes an arm's resamples often hold no pair: no interval is given.
_MIN_GENES = 5
# Ranks are kept in this many classes of equal size for the shuffles; ties count half.
_RANKS = 1024
_BLOCK_ROWS = 256


def score_proximity(
    embeddings: ArrayLike,
    arms: NDArray[Any],
    *,
    n_bootstrap: int = 1000,
    n_shuffles: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure proximity bias with its interval and the band of shuffled arms.

    Parameters
    ----------
    embeddings
        One row a gene, shape (n, d).
    arms
        Each gene's chromosome arm; genes without one are left out.
    n_bootstrap
        Resamples of genes for the interval; see :func:`bootstrap_proximity`.
    n_shuffles
        Shuffles of the arms' labels over the genes; see :func:`shuffle_proximity`.
    seed
        Of both.

    Returns
    -------
    DataFrame
        As :func:`phenopipe.stats.compare_groups`, with ``n_genes``, ``low`` and ``high`` (95%
        interval, NaN for an arm of fewer than 5 genes), and of the shuffled labels ``null``
        (mean), ``null_low``, ``null_high`` (95% band) and ``p_shuffled`` (one-sided).

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(60, 5))
    >>> arms = np.repeat(["1p", "1q", "2p"], 20)
    >>> x[:20] += 1
    >>> table = score_proximity(x, arms, n_bootstrap=100, n_shuffles=20)
    >>> bool(table.low["1p"] > table.null_high["1p"])
    True
    """
    unit, codes, _ = labelled_rows(embeddings, arms)
    unit, codes = unit[codes >= 0], codes[codes >= 0]
    table = compare_groups(embeddings, arms)
    sizes = np.append(np.bincount(codes, minlength=len(table) - 1), len(codes))
    resampled = bootstrap_proximity(unit, codes, n_bootstrap=n_bootstrap, seed=seed)
    resampled[:, sizes < _MIN_GENES] = np.nan
    bounds = np.array([percentile_interval(column) for column in resampled.T])
    shuffled = shuffle_proximity(unit, codes, n_shuffles=n_shuffles, seed=seed)
    band = np.array([percentile_interval(column) for column in shuffled.T])
    observed = table.probability.to_numpy()
    reached = (1 + (shuffled >= observed).sum(axis=0)) / (1 + n_shuffles)
    return table.assign(
        n_genes=sizes,
        low=bounds[:, 0],
        high=bounds[:, 1],
        null=shuffled.mean(axis=0),
        null_low=band[:, 0],
        null_high=band[:, 1],
        p_shuffled=np.where(np.isnan(observed), np.nan, reached),
    )


def bootstrap_proximity(unit: Floats, codes: Indices, *, n_bootstrap: int, seed: int) -> Floats:
    r"""Resample genes with replacement and measure P(within > between) in each resample.

    A pair weighs the product :math:`w_i w_j` of its genes' counts. With the weighted
    distributions :math:`F^*` of the pairs within and :math:`G^*` of those between, the
    probability :math:`\theta = \int G\,dF` of a resample is taken as
    :math:`\int G\,dF^* + \int (1 - F)\,dG^* - \theta`, without the product of the two
    deviations, which is of second order. So pairs are ranked once, and a resample is a quadratic
    form in w.

    Parameters
    ----------
    unit
        Rows of length 1, shape (n, d).
    codes
        Each row's arm, 0 … g - 1, shape (n,).

    Returns
    -------
    ndarray, shape (n_bootstrap, g + 1)
        Per arm, and last the genome; NaN where a resample holds no pair.
    """
    counts = bootstrap_counts(len(unit), n_bootstrap=n_bootstrap, seed=seed)
    whole = sorted_pairs(unit, codes)
    sums = np.zeros((4, n_bootstrap))
    columns = []
    for group in group_cosines(unit, codes):
        own = np.sort(group.within_pairs), np.sort(group.between, axis=None)
        columns.append(_first_order(_weighted_sums(group, counts, *own), _mean(*own)))
        sums += _weighted_sums(group, counts, *whole)
    return np.stack([*columns, _first_order(sums, _mean(*whole))], axis=1)


def _weighted_sums(group: GroupCosines, counts: Floats, within: Floats, between: Floats) -> Floats:
    if not (within.size and between.size):
        return np.full((4, len(counts)), np.nan)
    inner, outer = counts[:, group.rows], counts[:, group.others]
    above = placements(group.within.ravel(), between).reshape(group.within.shape)
    np.fill_diagonal(above, 0)
    beaten = 1 - placements(group.between.ravel(), within).reshape(group.between.shape)
    size = inner.sum(axis=1)
    return np.stack(
        [
            ((inner @ above) * inner).sum(axis=1),
            size**2 - (inner**2).sum(axis=1),
            ((outer @ beaten.T) * inner).sum(axis=1),
            size * outer.sum(axis=1),
        ]
    )


def _first_order(sums: Floats, mean: float) -> Floats:
    above, weight_within, beaten, weight_between = sums
    with np.errstate(invalid="ignore"):
        first_order: Floats = above / weight_within + beaten / weight_between - mean
    return first_order.clip(0, 1)


def _mean(within: Floats, between: Floats) -> float:
    return float(placements(within, between).mean()) if within.size and between.size else np.nan


def shuffle_proximity(unit: Floats, codes: Indices, *, n_shuffles: int, seed: int) -> Floats:
    """Measure P(within > between) with the arms' labels shuffled over the genes.

    The cosines stay, so they are ranked once, in classes of equal size; each gene's counts of
    ranks, summed over an arm, less those of the pairs within, are those of the pairs between:
    the Mann-Whitney identity without a sort. Two pairs in one class count as a tie, which moves
    a probability by some 1e-4.

    Parameters
    ----------
    unit
        Rows of length 1, shape (n, d).
    codes
        Each row's arm, 0 … g - 1, shape (n,).

    Returns
    -------
    ndarray, shape (n_shuffles, g + 1)
        Per arm, and last the genome; NaN where there is no pair.
    """
    ranks, counts = _rank_classes(unit)
    arms = np.arange(codes.max() + 1)
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n_shuffles):
        shuffled = rng.permutation(codes)
        within = np.array([_count_within(ranks, np.flatnonzero(shuffled == arm)) for arm in arms])
        of_arms = (shuffled == arms[:, None]).astype(np.float64) @ counts
        # In the counts of an arm's rows a pair within stands twice, once from each gene.
        between = of_arms - 2 * within
        total = within.sum(axis=0), between.sum(axis=0)
        rows.append(_probability(np.vstack([within, total[0]]), np.vstack([between, total[1]])))
    return np.array(rows)


def _rank_classes(unit: Floats) -> tuple[NDArray[np.int16], Floats]:
    n = len(unit)
    every = np.zeros(n, dtype=np.int64)
    edges = sorted_pairs(unit, every)[0]
    edges = edges[np.linspace(0, len(edges) - 1, _RANKS - 1).astype(np.int64)] if n > 1 else edges
    ranks = np.empty((n, n), dtype=np.int16)
    counts = np.empty((n, _RANKS))
    for start in range(0, n, _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        ranks[rows] = np.searchsorted(edges, unit[rows] @ unit.T)
    for row in range(n):
        counts[row] = np.bincount(ranks[row], minlength=_RANKS)
        counts[row, ranks[row, row]] -= 1
    return ranks, counts


def _count_within(ranks: NDArray[np.int16], rows: Indices) -> Floats:
    square = ranks[np.ix_(rows, rows)]
    twice = np.bincount(square.ravel(), minlength=_RANKS)
    return (twice - np.bincount(square.diagonal(), minlength=_RANKS)) / 2


def _probability(within: Floats, between: Floats) -> Floats:
    below = np.cumsum(between, axis=1) - between / 2
    with np.errstate(invalid="ignore"):
        share: Floats = (within * below).sum(axis=1) / (within.sum(axis=1) * between.sum(axis=1))
    return share


class ProximityBias:
    """The metric ``proximity_bias``: one score an arm, and the genome, and correction.

    Scores the genes that are expressed, before and after alike (see the module); all genes where
    none is known to be unexpressed.
    """

    name = "proximity_bias"
    version = 1

    def score(self, data: MapData, config: BenchmarkConfig) -> list[Score]:
        """Score the map under each correction, on the same genes."""
        known = data.arms.astype(str) != ""
        if not known.any():
            _log.warning("proximity bias: no perturbation has a chromosome arm, none is scored")
            return []
        scored = known & ~data.unexpressed
        if not scored.any():
            _log.warning("proximity bias: every gene with an arm is unexpressed, none is scored")
            return []
        scores = []
        for correction, embeddings in data.embeddings.items():
            table = score_proximity(
                embeddings[scored],
                data.arms[scored],
                n_bootstrap=config.n_bootstrap,
                n_shuffles=config.n_shuffles,
                seed=config.seed,
            )
            left_out = int((known & data.unexpressed).sum())
            scores += _score_rows(table, correction, config, left_out=left_out)
        return scores


def _score_rows(
    table: pd.DataFrame, correction: str, config: BenchmarkConfig, *, left_out: int
) -> list[Score]:
    tested = int(table.p_value.drop("genome").notna().sum())
    return [
        Score(
            source=str(row["arm"]),
            correction=correction,
            value=row["probability"],
            low=row["low"],
            high=row["high"],
            null=row["null"],
            null_low=row["null_low"],
            null_high=row["null_high"],
            p_value=row["p_value"],
            n=int(row["n_within"]),
            parameters={
                "scored": "expressed genes: unexpressed ones are the correction's reference"
                if left_out
                else "all genes: none is known to be unexpressed",
                "n_genes": int(row["n_genes"]),
                "n_unexpressed_left_out": left_out,
                "n_between": int(row["n_between"]),
                "n_arms_tested": tested,
                "p_shuffled": None if np.isnan(row["p_shuffled"]) else row["p_shuffled"],
                "n_bootstrap": config.n_bootstrap,
                "n_shuffles": config.n_shuffles,
                "seed": config.seed,
            },
        )
        for row in table.rename_axis("arm").reset_index().to_dict("records")
    ]
