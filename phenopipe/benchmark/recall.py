"""Relationship recall: how many known pairs stand out among all pairs of the map."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phenopipe.benchmark.annotations import Annotation
from phenopipe.benchmark.metric import MapData, Score
from phenopipe.config import BenchmarkConfig
from phenopipe.errors import InputError
from phenopipe.stats import (
    Floats,
    Indices,
    bootstrap_counts,
    cosine_pairs,
    pair_index,
    percentile_interval,
)

# What a map's pairs are asked: does this one stand out? One flag a pair of the upper triangle.
Flags = NDArray[np.bool_]

_log = logging.getLogger(__name__)

# Resamples drawn at once: bounds memory to this many weights a known pair.
_RESAMPLES = 50


@dataclass(frozen=True)
class Recall:
    """Share of known pairs that stand out, its 95% interval, known pairs and pairs of the map."""

    recall: float
    interval: tuple[float, float]
    n_pairs: int
    n_null: int


def relationship_recall(
    embeddings: ArrayLike | pd.DataFrame,
    labels: Sequence[str] | NDArray[Any],
    pairs: pd.DataFrame | Iterable[tuple[str, str]],
    thresholds: tuple[float, float] = (0.05, 0.95),
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Recall:
    """Measure how many known pairs have a cosine in the tails of all the map's pairs.

    As EFAAR_benchmarking (Celik et al. 2024, "Building, benchmarking, and exploring perturbative
    maps of transcriptional and morphological data"), with one difference: the null is every pair
    of the map, not a random sample of pairs. A known pair is recalled if the share of the null
    at or below its cosine is at most the low threshold, or the share below it at least the high.

    Parameters
    ----------
    embeddings
        One row a perturbation, shape (n, d).
    labels
        Perturbations' names, each once, shape (n,).
    pairs
        Known relationships, in the first two columns or as tuples: direction, duplicates and
        self-pairs do not count, nor pairs of which the map lacks one.
    thresholds
        Low and high tail; by chance their sum of tails is recalled, 0.10.
    n_bootstrap, seed
        Resamples for the interval, and their seed.

    Returns
    -------
    Recall
        ``recall``, ``interval``, ``n_pairs`` known pairs in the map and ``n_null`` pairs of the
        map. Recall and interval are NaN where the map holds no known pair. The interval is the
        percentile interval over perturbations drawn with replacement: a pair weighs the product
        of its two counts; the null stays the map's.

    Raises
    ------
    InputError
        If a label stands twice, there is not one a row, or thresholds are not two of 0 to 1.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(40, 8))
    >>> x[1] = x[0]
    >>> found = relationship_recall(x, [f"G{i}" for i in range(40)], [("G1", "G0"), ("G0", "G1")])
    >>> found.recall, found.n_pairs, found.n_null
    (1.0, 1, 780)
    """
    names = check_labels(labels, n_rows=len(np.asarray(embeddings)))
    first, second = known_pairs(names, pairs)
    extreme = extreme_pairs(embeddings, thresholds)
    hits = extreme[pair_index(first, second, len(names))]
    interval = _bootstrap_recall(
        hits, first, second, n=len(names), n_bootstrap=n_bootstrap, seed=seed
    )
    return Recall(_mean(hits), interval, len(hits), len(extreme))


def check_labels(labels: Sequence[str] | NDArray[Any], *, n_rows: int) -> pd.Index:
    """Return the labels as an index if there is one a row, each once.

    Raises
    ------
    InputError
        Naming the first label that stands twice.
    """
    names: pd.Index[Any] = pd.Index(np.asarray(labels, dtype=object))
    if len(names) != n_rows:
        raise InputError(f"expected one label a row, found {len(names)} for {n_rows} rows")
    if names.has_duplicates:
        twice = names[names.duplicated()][0]
        raise InputError(f"expected each perturbation once, found {twice!r} twice: aggregate first")
    return names


def known_pairs(
    names: pd.Index, pairs: pd.DataFrame | Iterable[tuple[str, str]]
) -> tuple[Indices, Indices]:
    """Find the map's known pairs by row, undirected, each once, none with itself.

    Examples
    --------
    >>> known_pairs(pd.Index(["A", "B", "C"]), [("C", "A"), ("A", "C"), ("B", "B"), ("B", "X")])
    (array([0]), array([2]))
    """
    table = pairs if isinstance(pairs, pd.DataFrame) else pd.DataFrame(list(pairs))
    if table.empty:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    rows = np.stack([names.get_indexer(pd.Index(table.iloc[:, side])) for side in (0, 1)])
    rows = np.sort(rows[:, (rows >= 0).all(axis=0) & (rows[0] != rows[1])], axis=0)
    first, second = np.unique(rows, axis=1).astype(np.int64)
    return first, second


def extreme_pairs(
    embeddings: ArrayLike | pd.DataFrame, thresholds: tuple[float, float] = (0.05, 0.95)
) -> Flags:
    """Tell of each pair of the map whether its cosine lies in the tails of all of them.

    Returns
    -------
    ndarray of bool, shape (n * (n - 1) / 2,)
        In the order of :func:`phenopipe.stats.cosine_pairs`.

    Raises
    ------
    InputError
        If the thresholds are not two of 0 to 1, the low one first.
    """
    low, high = thresholds
    if not 0 <= low < high <= 1:
        raise InputError(f"expected thresholds 0 <= low < high <= 1, found {thresholds}")
    null = cosine_pairs(embeddings)
    if not null.size:
        return np.zeros(0, dtype=np.bool_)
    # The shares are compared as floats, i / n, as the reference does: 0.05 n may be no integer.
    shares = np.arange(null.size + 1) / null.size
    most_below = int(np.searchsorted(shares, low, side="right")) - 1
    least_below = int(np.searchsorted(shares, high, side="left"))
    # At most `most_below` values lie at or under x just where the next one in order is above x.
    cuts = np.partition(null, [most_below, least_below - 1])
    extreme: Flags = (null < cuts[most_below]) | (null > cuts[least_below - 1])
    return extreme


def _bootstrap_recall(
    hits: Flags, first: Indices, second: Indices, *, n: int, n_bootstrap: int, seed: int
) -> tuple[float, float]:
    if not hits.size:
        return np.nan, np.nan
    counts = bootstrap_counts(n, n_bootstrap=n_bootstrap, seed=seed)
    values = []
    for start in range(0, n_bootstrap, _RESAMPLES):
        drawn = counts[start : start + _RESAMPLES]
        weights = drawn[:, first] * drawn[:, second]
        with np.errstate(invalid="ignore"):  # a resample may hold none of the pairs
            values.append(weights @ hits / weights.sum(axis=1))
    return percentile_interval(np.concatenate(values))


def _shuffled_recalls(
    extreme: Flags, first: Indices, second: Indices, *, n: int, n_shuffles: int, seed: int
) -> Floats:
    rng = np.random.default_rng(seed)
    orders = (rng.permutation(n) for _ in range(n_shuffles))
    recalls = [_mean(extreme[pair_index(order[first], order[second], n)]) for order in orders]
    return np.array(recalls)


def _mean(hits: Flags) -> float:
    return float(hits.mean()) if hits.size else np.nan


class RelationshipRecall:
    """The metric ``relationship_recall``: one score an annotation source and correction.

    The null is the sum of the tails; its band, and the one-sided p-value, come from shuffling the
    perturbations' names, which keeps how often each stands in the pairs.
    """

    name = "relationship_recall"
    version = 1

    def score(self, data: MapData, config: BenchmarkConfig) -> list[Score]:
        """Score the map under each correction against each source."""
        names = check_labels(data.labels, n_rows=len(data.labels))
        scores: list[Score] = []
        for correction, embeddings in data.embeddings.items():
            extreme = extreme_pairs(embeddings, config.thresholds)
            scores += [
                _score_source(annotation, correction, names, extreme, config)
                for annotation in data.annotations
            ]
        return scores


def _score_source(
    annotation: Annotation,
    correction: str,
    names: pd.Index,
    extreme: Flags,
    config: BenchmarkConfig,
) -> Score:
    first, second = known_pairs(names, annotation.pairs)
    n, seed = len(names), config.seed
    hits = extreme[pair_index(first, second, n)]
    if not hits.size:
        _log.warning("%s: no known pair of it is in the map, recall is NaN", annotation.source)
    low, high = _bootstrap_recall(
        hits, first, second, n=n, n_bootstrap=config.n_bootstrap, seed=seed
    )
    shuffled = _shuffled_recalls(
        extreme, first, second, n=n, n_shuffles=config.n_shuffles, seed=seed
    )
    null_low, null_high = percentile_interval(shuffled)
    reached = (1 + (shuffled >= _mean(hits)).sum()) / (1 + len(shuffled))
    return Score(
        source=annotation.source,
        correction=correction,
        value=_mean(hits),
        low=low,
        high=high,
        null=config.thresholds[0] + 1 - config.thresholds[1],
        null_low=null_low,
        null_high=null_high,
        p_value=float(reached) if hits.size else np.nan,
        n=hits.size,
        parameters=_parameters(config, n_null=extreme.size),
        annotation_digest=annotation.digest,
    )


def _parameters(config: BenchmarkConfig, *, n_null: int) -> dict[str, Any]:
    return {
        "thresholds": list(config.thresholds),
        "n_null": n_null,
        "n_bootstrap": config.n_bootstrap,
        "n_shuffles": config.n_shuffles,
        "seed": config.seed,
    }
