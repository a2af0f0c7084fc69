"""Clusters: whether the members of a complex lie closer to one another than to other genes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control, kstwo

from phenopipe.benchmark.annotations import Annotation
from phenopipe.benchmark.metric import MapData, Score
from phenopipe.benchmark.recall import check_labels
from phenopipe.benchmark.replicates import FDR
from phenopipe.config import BenchmarkConfig
from phenopipe.stats import Floats, Indices, unit_rows
from phenopipe.stats.resample import (
    bootstrap_blocks,
    bootstrap_means,
    null_p_values,
    percentile_interval,
)

# Members that a cluster must have in the map (EFAAR_benchmarking).
MIN_MEMBERS = 10

# Random pairs by which the distribution of all pairs of the map is known, for the shuffles.
_SAMPLED_PAIRS = 200_000
_SAMPLED_BLOCKS = 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """A cluster in the map.

    Attributes
    ----------
    rows
        Its members' rows, shape (k,).
    first, second
        Its pairs, as places among the members, by rising cosine, shape (k (k - 1) / 2,).
    below, not_above
        Share of the pairs between members and others that lie below, and not above, each pair's
        cosine.
    means
        Mean cosine within, and between.
    n_between
        Pairs between members and others.
    """

    rows: Indices
    first: Indices
    second: Indices
    below: Floats
    not_above: Floats
    means: tuple[float, float]
    n_between: int


def compare_clusters(
    embeddings: ArrayLike | pd.DataFrame,
    labels: Sequence[str] | NDArray[Any],
    members: pd.DataFrame,
    *,
    min_members: int = MIN_MEMBERS,
) -> pd.DataFrame:
    """Compare cosines within each cluster with those between its members and all others.

    By the two-sample Kolmogorov-Smirnov test, as EFAAR_benchmarking's cluster benchmark (Celik et
    al. 2024); the p-value is scipy's ``ks_2samp(method="asymp")``, which takes pairs for
    independent.

    Parameters
    ----------
    embeddings
        One row a perturbation, shape (n, d).
    labels
        Perturbations' names, each once, shape (n,).
    members
        Columns ``cluster`` and ``member``; members that the map lacks do not count.
    min_members
        Clusters with fewer in the map are left out.

    Returns
    -------
    DataFrame
        Indexed by cluster: ``statistic``, ``p_value``, ``fdr`` (Benjamini & Hochberg),
        ``mean_within``, ``mean_between``, ``n_members``, ``n_others``.

    Examples
    --------
    >>> x = np.vstack([np.eye(20)[:12] + 5, np.eye(20)[12:]])
    >>> members = pd.DataFrame({"cluster": "c", "member": [f"G{i}" for i in range(12)]})
    >>> table = compare_clusters(x, [f"G{i}" for i in range(20)], members)
    >>> table.loc["c", ["statistic", "n_members", "n_others"]].tolist()
    [1.0, 12.0, 8.0]
    """
    names = check_labels(labels, n_rows=len(np.asarray(embeddings)))
    unit, found = unit_rows(embeddings), _find_members(names, members, min_members)
    return _tabulate([(name, _measure(unit, rows)) for name, rows in found.items()], len(names))


def _find_members(names: pd.Index, members: pd.DataFrame, min_members: int) -> dict[str, Indices]:
    places = names.get_indexer(pd.Index(members["member"]))
    known = members[["cluster"]].assign(row=places)[places >= 0].drop_duplicates()
    groups = known.groupby("cluster", sort=True)["row"]
    return {
        str(name): np.sort(rows.to_numpy(np.int64))
        for name, rows in groups
        # A cluster that is the whole map has nothing to be compared with.
        if max(2, min_members) <= len(rows) < len(names)
    }


def _measure(unit: Floats, rows: Indices) -> Cluster:
    others = np.delete(unit, rows, axis=0)
    between = (unit[rows] @ others.T).ravel()
    first, second = np.triu_indices(len(rows), k=1)
    within = (unit[rows] @ unit[rows].T)[first, second]
    order = np.argsort(within, kind="stable")
    within = within[order]
    return Cluster(
        rows=rows,
        first=first[order],
        second=second[order],
        below=_share_below(between, within, side="right"),
        not_above=_share_below(between, within, side="left"),
        means=(float(within.mean()), float(between.mean())),
        n_between=len(between),
    )


def _share_below(many: Floats, few: Floats, *, side: Literal["left", "right"]) -> Floats:
    """Give the share of the many below each of the few, which are sorted; left: or equal to it.

    The many are placed among the few, so that they need no sort.
    """
    places = np.searchsorted(few, many, side)
    return np.cumsum(np.bincount(places, minlength=len(few) + 1))[:-1] / len(many)


def _statistic(cumulated: Floats, below: Floats, not_above: Floats) -> Floats:
    """Give the largest distance of weighted steps, shape (…, m), from the pairs between."""
    before = np.concatenate([np.zeros_like(cumulated[..., :1]), cumulated[..., :-1]], axis=-1)
    steps = np.maximum(cumulated - not_above, below - before)
    largest: Floats = steps.max(axis=-1)
    return largest


def _ks(cluster: Cluster) -> tuple[float, float]:
    m, n = len(cluster.first), cluster.n_between
    even = np.arange(1, m + 1) / m
    statistic = float(_statistic(even, cluster.below, cluster.not_above))
    return statistic, float(kstwo.sf(statistic, np.round(m * n / (m + n))))


def _tabulate(clusters: Sequence[tuple[str, Cluster]], n: int) -> pd.DataFrame:
    rows = [
        (*_ks(cluster), *cluster.means, len(cluster.rows), n - len(cluster.rows))
        for _, cluster in clusters
    ]
    columns = ["statistic", "p_value", "mean_within", "mean_between", "n_members", "n_others"]
    index = pd.Index([name for name, _ in clusters], name="cluster", dtype=object)
    table = pd.DataFrame(rows, columns=columns, index=index)
    fdr = false_discovery_control(table["p_value"]) if len(table) else np.empty(0)
    table.insert(2, "fdr", fdr)
    return table


def bootstrap_clusters(
    clusters: Sequence[Cluster], *, n: int, n_bootstrap: int, seed: int
) -> Floats:
    """Resample perturbations and average the statistic over clusters in each resample.

    A pair within weighs the product of its two members' counts; the pairs between stay the map's.
    Noise makes a largest distance larger: what the resamples lie above the value by, on average,
    is taken from them (Davison & Hinkley 1997, section 2.1.2).

    Returns
    -------
    ndarray, shape (n_bootstrap,)
    """
    blocks = []
    for counts in bootstrap_blocks(n, n_bootstrap=n_bootstrap, seed=seed):
        statistics = []
        for cluster in clusters:
            own = counts[:, cluster.rows]
            cumulated = np.cumsum(own[:, cluster.first] * own[:, cluster.second], axis=1)
            with np.errstate(invalid="ignore"):  # a resample may hold none of the members
                steps = cumulated / cumulated[:, -1:]
            statistics.append(_statistic(steps, cluster.below, cluster.not_above))
        blocks.append(np.nanmean(statistics, axis=0))
    resamples: Floats = np.concatenate(blocks)
    value = np.mean([_ks(cluster)[0] for cluster in clusters])
    centred: Floats = resamples - (resamples.mean() - value)
    return centred


def shuffle_clusters(
    unit: Floats, clusters: Sequence[Cluster], *, n_shuffles: int, seed: int
) -> Floats:
    """Measure each cluster's statistic with the perturbations' names shuffled.

    Pairs between are taken as all pairs of the map, of which 200,000 are drawn: that moves a
    statistic by some 0.001.

    Returns
    -------
    ndarray, shape (n_shuffles, clusters)
    """
    rng = np.random.default_rng(seed)
    every = _sample_cosines(unit, rng)
    statistics = np.empty((n_shuffles, len(clusters)))
    for shuffle in range(n_shuffles):
        order = rng.permutation(len(unit))
        for number, cluster in enumerate(clusters):
            rows = unit[order[cluster.rows]]
            within = np.sort((rows @ rows.T)[cluster.first, cluster.second])
            even = np.arange(1, len(within) + 1) / len(within)
            shares = np.searchsorted(every, within) / len(every)
            statistics[shuffle, number] = _statistic(even, shares, shares)
    return statistics


def _sample_cosines(unit: Floats, rng: np.random.Generator) -> Floats:
    cosines = []
    for _ in range(_SAMPLED_BLOCKS):
        first = rng.integers(0, len(unit), size=_SAMPLED_PAIRS // _SAMPLED_BLOCKS)
        # Never a row with itself: the second is one of the others.
        second = (first + rng.integers(1, len(unit), size=len(first))) % len(unit)
        cosines.append(np.einsum("ij,ij->i", unit[first], unit[second]))
    return np.sort(np.concatenate(cosines))


class ClusterSeparation:
    """The metric ``cluster_separation``: mean Kolmogorov-Smirnov statistic of known complexes.

    And ``cluster_separation_hits``: the share of complexes at FDR 5%, where a complex's p-value
    counts the shuffles of names that reach its statistic: pairs of one gene are not independent,
    as the test's own p-value takes them.
    """

    name = "cluster_separation"
    version = 1

    def score(self, data: MapData, config: BenchmarkConfig) -> list[Score]:
        """Score the map under each correction against each source of clusters."""
        names = check_labels(data.labels, n_rows=len(data.labels))
        scores = []
        for annotation in data.sources("clusters"):
            members = _find_members(names, annotation.table, MIN_MEMBERS)
            if not members:
                _log.warning(
                    "%s: no cluster has %d members in the map", annotation.source, MIN_MEMBERS
                )
                continue
            for correction, embeddings in data.embeddings.items():
                unit = unit_rows(embeddings)
                clusters = {name: _measure(unit, rows) for name, rows in members.items()}
                scores += _score(annotation, correction, unit, clusters, config)
        return scores


def _score(
    annotation: Annotation,
    correction: str,
    unit: Floats,
    clusters: dict[str, Cluster],
    config: BenchmarkConfig,
) -> list[Score]:
    kept, seed = list(clusters.values()), config.seed
    found = pd.Series({name: _ks(cluster)[0] for name, cluster in clusters.items()})
    shuffled = shuffle_clusters(unit, kept, n_shuffles=config.n_shuffles, seed=seed)
    resamples = bootstrap_clusters(kept, n=len(unit), n_bootstrap=config.n_bootstrap, seed=seed)
    shared: dict[str, Any] = {
        "source": annotation.source,
        "correction": correction,
        "n": len(found),
        "annotation_digest": annotation.digest,
        "parameters": {
            "min_members": MIN_MEMBERS,
            "n_shuffles": config.n_shuffles,
            "n_bootstrap": config.n_bootstrap,
            "seed": seed,
        },
    }
    return [
        Score(**shared, **_mean_separation(found, shuffled, resamples)),
        Score(**shared, **_share_of_hits(found, shuffled, config), aspect="hits"),
    ]


def _mean_separation(found: pd.Series, shuffled: Floats, resamples: Floats) -> dict[str, Any]:
    means = shuffled.mean(axis=1)
    low, high = percentile_interval(resamples)
    null_low, null_high = percentile_interval(means)
    return {
        "value": float(found.mean()),
        "low": low,
        "high": high,
        "null": float(means.mean()),
        "null_low": null_low,
        "null_high": null_high,
        "p_value": float(null_p_values(found.mean(), means)),
        "resamples": resamples,
        "units": found,
    }


def _share_of_hits(found: pd.Series, shuffled: Floats, config: BenchmarkConfig) -> dict[str, Any]:
    p_values = [
        float(null_p_values(value, null)) for value, null in zip(found, shuffled.T, strict=True)
    ]
    hits = pd.Series(false_discovery_control(p_values) <= FDR, index=found.index).astype(float)
    resamples = bootstrap_means(
        hits,
        np.arange(len(hits))[:, None],
        n=len(hits),
        n_bootstrap=config.n_bootstrap,
        seed=config.seed,
    )
    low, high = percentile_interval(resamples)
    value = float(hits.mean())
    return {"value": value, "low": low, "high": high, "resamples": resamples, "units": hits}
