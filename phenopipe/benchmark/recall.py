"""Relationship recall: how many known pairs stand out among all pairs of the map."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phenopipe.benchmark.annotations import Annotation
from phenopipe.benchmark.metric import MapData, Score
from phenopipe.benchmark.tails import Flags, extreme_pairs
from phenopipe.config import BenchmarkConfig
from phenopipe.errors import InputError
from phenopipe.stats import Floats, Indices, group_codes, pair_index, percentile_interval
from phenopipe.stats.resample import bootstrap_means, null_p_values

_log = logging.getLogger(__name__)


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
    resamples = _bootstrap(hits, first, second, n=len(names), n_bootstrap=n_bootstrap, seed=seed)
    return Recall(_mean(hits), percentile_interval(resamples), len(hits), len(extreme))


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


def _bootstrap(
    hits: Flags, first: Indices, second: Indices, *, n: int, n_bootstrap: int, seed: int
) -> Floats:
    members = np.stack([first, second], axis=1)
    return bootstrap_means(hits, members, n=n, n_bootstrap=n_bootstrap, seed=seed)


def _mean(hits: Flags) -> float:
    return float(hits.mean()) if hits.size else np.nan


class RelationshipRecall:
    """The metric ``relationship_recall``: one score an annotation source and correction.

    The null is the sum of the tails; its band, and the one-sided p-value, come from shuffling the
    perturbations' names, which keeps how often each stands in the pairs.

    Where genes have chromosome arms, ``relationship_recall_within_arms`` and
    ``…_across_arms`` take the known pairs on one arm, and on two. The tails are still those of all
    pairs of the map; names are shuffled within their arms, so that the null is what pairs of one
    arm, or of two, are recalled by for their arms alone: proximity bias lifts it above 0.10.
    """

    name = "relationship_recall"
    version = 2

    def score(self, data: MapData, config: BenchmarkConfig) -> list[Score]:
        """Score the map under each correction against each source of pairs."""
        names = check_labels(data.labels, n_rows=len(data.labels))
        arms = group_codes(data.arms)[0] if len(data.arms) else np.full(len(names), -1)
        known = [(found, *known_pairs(names, found.pairs)) for found in data.sources("pairs")]
        scores: list[Score] = []
        for correction, embeddings in data.embeddings.items():
            extreme = extreme_pairs(embeddings, config.thresholds) if known else np.empty(0, bool)
            for found, first, second in known:
                pairs = _Pairs(found, correction, first, second, extreme, len(names))
                scores += _score_pairs(pairs, arms, config)
        return scores


@dataclass(frozen=True)
class _Pairs:
    """A source's known pairs in the map, under one correction."""

    annotation: Annotation
    correction: str
    first: Indices
    second: Indices
    extreme: Flags
    n: int

    def select(self, kept: Flags) -> "_Pairs":
        return replace(self, first=self.first[kept], second=self.second[kept])

    def hits(self, order: Indices | None = None) -> Flags:
        """Tell which pairs are recalled; with an order of names, as if they were so shuffled."""
        first, second = self.first, self.second
        if order is not None:
            first, second = order[first], order[second]
        return self.extreme[pair_index(first, second, self.n)]


def _score_pairs(pairs: _Pairs, arms: Indices, config: BenchmarkConfig) -> list[Score]:
    if not pairs.first.size:
        _log.warning(
            "%s: no known pair of it is in the map, recall is NaN", pairs.annotation.source
        )
    whole = np.zeros(pairs.n, dtype=np.int64)
    scores = [_score_aspect(pairs, whole, config)]
    first, second = arms[pairs.first], arms[pairs.second]
    both = (first >= 0) & (second >= 0)
    for aspect, same in (("within_arms", first == second), ("across_arms", first != second)):
        if (both & same).any():
            scores.append(_score_aspect(pairs.select(both & same), arms, config, aspect=aspect))
    return scores


def _score_aspect(
    pairs: _Pairs, groups: Indices, config: BenchmarkConfig, *, aspect: str = ""
) -> Score:
    """Score the pairs; names are shuffled within their groups."""
    hits = pairs.hits()
    resamples = _bootstrap(
        hits,
        pairs.first,
        pairs.second,
        n=pairs.n,
        n_bootstrap=config.n_bootstrap,
        seed=config.seed,
    )
    low, high = percentile_interval(resamples)
    orders = _shuffle_within(groups, n_shuffles=config.n_shuffles, seed=config.seed)
    shuffled = np.array([_mean(pairs.hits(order)) for order in orders])
    null_low, null_high = percentile_interval(shuffled)
    tails = config.thresholds[0] + 1 - config.thresholds[1]
    return Score(
        source=pairs.annotation.source,
        correction=pairs.correction,
        value=_mean(hits),
        low=low,
        high=high,
        null=float(shuffled.mean()) if aspect else tails,
        null_low=null_low,
        null_high=null_high,
        p_value=float(null_p_values(_mean(hits), shuffled)),
        n=hits.size,
        parameters=_parameters(config, n_null=pairs.extreme.size, aspect=aspect),
        annotation_digest=pairs.annotation.digest,
        aspect=aspect,
        resamples=resamples,
    )


def _shuffle_within(groups: Indices, *, n_shuffles: int, seed: int) -> Iterator[Indices]:
    """Draw orders of rows in which each row's place is taken by one of its group."""
    rng = np.random.default_rng(seed)
    by_group = np.argsort(groups, kind="stable")
    for _ in range(n_shuffles):
        drawn = rng.permutation(len(groups))
        order = np.empty_like(drawn)
        order[by_group] = drawn[np.argsort(groups[drawn], kind="stable")]
        yield order


def _parameters(config: BenchmarkConfig, *, n_null: int, aspect: str) -> dict[str, Any]:
    return {
        "thresholds": list(config.thresholds),
        "tails": "of all pairs of the map",
        "names_shuffled": "within arms" if aspect else "over the map",
        "n_null": n_null,
        "n_bootstrap": config.n_bootstrap,
        "n_shuffles": config.n_shuffles,
        "seed": config.seed,
    }
