"""Proximity bias of a map before and after its arms were corrected, on the same genes.

The unexpressed genes are what the correction subtracts, so after it they lie around zero on every
arm, by construction: a bias measured on them would fall even where the correction does nothing
for the genes that matter. They are therefore never scored, neither before nor after. What is left
on the other genes is an upper bound: the error of an arm's mean, subtracted from all of them, is a
phenotype that they share.

Cross-fitting, a half of the unexpressed genes corrected by the other, would score these too. It is
not done: pairs across the halves would each carry the other's error with a minus sign, so the drop
would be overstated, and an arm needs twice the reference. ``docs/proximity-bias.md`` shows how to
score a half that is held back.
"""

import logging
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phenopipe.benchmark.metric import MapData, Score
from phenopipe.benchmark.proximity_resamples import (
    RankedPairs,
    bootstrap_proximity,
    shuffle_proximity,
)
from phenopipe.config import BenchmarkConfig
from phenopipe.stats import compare_groups, labelled_rows, percentile_interval

_log = logging.getLogger(__name__)

# With fewer genes an arm's resamples often hold no pair: no interval is given.
_MIN_GENES = 5


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
        ``resamples`` holds each row's values in the resamples.

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
    ranked, codes = RankedPairs(unit[codes >= 0]), codes[codes >= 0]
    table = compare_groups(embeddings, arms)
    sizes = np.append(np.bincount(codes, minlength=len(table) - 1), len(codes))
    resampled = bootstrap_proximity(ranked, codes, n_bootstrap=n_bootstrap, seed=seed)
    resampled[:, sizes < _MIN_GENES] = np.nan
    bounds = np.array([percentile_interval(column) for column in resampled.T])
    shuffled = shuffle_proximity(ranked, codes, n_shuffles=n_shuffles, seed=seed)
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
        resamples=list(resampled.T),
    )


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
            resamples=row["resamples"],
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
