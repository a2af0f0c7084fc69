"""What moved between two maps: each perturbation's relations in one and in the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from phenopipe.errors import InputError
from phenopipe.lake import Lake
from phenopipe.maps.null import N_BINS, count_pairs, rank_among
from phenopipe.maps.relations import Vectors, cosine_blocks, directions, nearest, pair_cosines
from phenopipe.profiles import open_map
from phenopipe.stats import Floats, Indices, percentile_interval

# Below this a profile of cosines says nothing.
_MIN_SHARED = 10
# Mismatched perturbations that the null holds at least, so that a p-value can be 0.001.
_MIN_MISMATCHED = 1000
_N_BOOTSTRAP = 1000
# Resamples at a time: at 17,000 perturbations 9 MB.
_BATCH = 64


@dataclass(frozen=True)
class Agreement:
    """How alike two maps are by one measure: its mean over perturbations, and what chance gives.

    Attributes
    ----------
    mean, low, high
        With its 95% interval, of a bootstrap over perturbations.
    null_low, null_high
        The central 95% of perturbations that were compared with another one.
    """

    mean: float
    low: float
    high: float
    null_low: float
    null_high: float


@dataclass(frozen=True)
class MapDiff:
    """What moved from map `a` to map `b`.

    Attributes
    ----------
    shared
        How many perturbations both maps hold; all measures are among these.
    gained, lost
        Perturbations of `b` only, and of `a` only, by name.
    top
        Neighbours that were compared.
    correlation, overlap
        Of the columns of `perturbations`.
    perturbations
        One row a shared perturbation, the one that moved furthest first: ``correlation`` of its
        cosines to all others in `a` and in `b`; ``overlap`` of its nearest, the share of both
        maps' that is in both (Jaccard); ``nearest_a`` and ``nearest_b``; ``p_value`` that
        mismatched perturbations correlate as well, and its ``fdr``.
    pairs
        The strongest pairs of either map: ``cosine_a``, ``cosine_b``, and each one's rank among
        all pairs, ``rank_a`` and ``rank_b``, 1 for the highest.
    """

    a: str
    b: str
    shared: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    top: int
    correlation: Agreement
    overlap: Agreement
    perturbations: pd.DataFrame
    pairs: pd.DataFrame


def diff_maps(lake: Lake, a: str, b: str, *, top: int = 10, seed: int = 0) -> MapDiff:
    """Tell what moved between two published maps.

    Only cosines are compared, so the maps may be of different models and widths. A perturbation
    has kept its relations where its profile of cosines correlates better than those of mismatched
    perturbations, one map's against another one's in the other map: ``fdr`` says how sure that is.

    Parameters
    ----------
    lake
        Where both maps are published.
    a, b
        The map of before and the map of after.
    top
        Nearest neighbours of each perturbation, and strongest pairs, that are compared.
    seed
        The same gives the same null and intervals.

    Raises
    ------
    InputError
        If a map is not published, the two share fewer than 10 perturbations, or one of these has
        no direction.
    """
    sides = [open_map(lake, a), open_map(lake, b)]
    held = [pd.Index([str(name) for name in side["perturbation"].to_numpy()]) for side in sides]
    names = sorted(set(held[0]) & set(held[1]))
    if len(names) < _MIN_SHARED:
        raise InputError(
            f"expected at least {_MIN_SHARED} perturbations that {a} and {b} share, found "
            f"{len(names)}: compare maps of one library"
        )
    first, second = (
        RankedRows.of(side["embedding"].to_numpy()[index.get_indexer(pd.Index(names))], top=top)
        for side, index in zip(sides, held, strict=True)
    )
    frame, null = compare_profiles(first, second, names, seed=seed)
    return MapDiff(
        a=a,
        b=b,
        shared=len(names),
        gained=tuple(held[1].difference(held[0])),
        lost=tuple(held[0].difference(held[1])),
        top=first.near.shape[1],
        correlation=_summarise(frame["correlation"], null["correlation"], seed=seed),
        overlap=_summarise(frame["overlap"], null["overlap"], seed=seed),
        perturbations=frame,
        pairs=compare_pairs(first, second, names),
    )


@dataclass(frozen=True)
class RankedRows:
    """One map's side of the comparison, from a single pass over its cosines.

    Attributes
    ----------
    unit
        Embeddings at length 1, shape (n, d).
    near
        Places of each one's nearest, shape (n, top), the nearest first; ties by place.
    counts
        All pairs' cosines by bin.
    """

    unit: Vectors
    near: Indices
    counts: Indices

    @classmethod
    def of(cls, x: ArrayLike, *, top: int) -> "RankedRows":
        """Rank the rows of embeddings, shape (n, d).

        Raises
        ------
        InputError
            If a row is zero or not finite.
        """
        unit = directions(x)
        near, counts = [], np.zeros(N_BINS, dtype=np.int64)
        for start, cosines in cosine_blocks(unit, unit):
            counts += count_pairs(cosines, start=start)
            rows = np.arange(len(cosines))
            cosines[rows, start + rows] = -np.inf
            near.append(nearest(cosines, unit[start + rows], unit, top=min(top, len(unit) - 1))[0])
        return cls(unit, np.concatenate(near), counts)


def compare_profiles(
    a: RankedRows, b: RankedRows, names: Sequence[str], *, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare each perturbation's cosines to the others in two maps of the same ones.

    Returns
    -------
    perturbations
        As :class:`MapDiff` has them.
    mismatched
        ``correlation`` and ``overlap`` of perturbations with others, at least 1,000.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 8))
    >>> a, b = RankedRows.of(x, top=5), RankedRows.of(-3 * x, top=5)
    >>> frame, null = compare_profiles(a, b, [f"G{i:02d}" for i in range(50)])
    >>> bool((frame["correlation"] > 0.999).all()), bool((frame["fdr"] < 0.01).all())
    (True, True)
    """
    n = len(a.unit)
    own = _correlate(a.unit, b.unit, np.arange(n))
    null = _compare_mismatched(a, b, np.random.default_rng(seed))
    ranked = np.sort(null["correlation"].to_numpy())
    at_least = len(ranked) - np.searchsorted(ranked, own, side="left")
    p_values = (1 + at_least) / (1 + len(ranked))
    labels = np.asarray(names, dtype=object)
    frame = pd.DataFrame(
        {
            "perturbation": labels,
            "correlation": own,
            "overlap": _overlap(a.near, b.near),
            "nearest_a": labels[a.near[:, 0]],
            "nearest_b": labels[b.near[:, 0]],
            "p_value": p_values,
            "fdr": scipy.stats.false_discovery_control(p_values),
        }
    )
    return frame.sort_values(["correlation", "perturbation"], ignore_index=True), null


def compare_pairs(a: RankedRows, b: RankedRows, names: Sequence[str]) -> pd.DataFrame:
    """List the strongest pairs of two maps of the same perturbations, and their ranks in each.

    Returns
    -------
    DataFrame
        As :class:`MapDiff` has it, the highest cosine of either map first.

    Examples
    --------
    >>> a = RankedRows.of([[1, 0], [1, 0.1], [0, 1]], top=1)
    >>> b = RankedRows.of([[1, 0], [0, 1], [0.1, 1]], top=1)
    >>> frame = compare_pairs(a, b, ["a", "b", "c"])
    >>> frame[["first", "second", "rank_a", "rank_b"]].to_numpy().tolist()
    [['a', 'b', 1, 3], ['b', 'c', 2, 1]]
    """
    strongest = np.unique(np.concatenate([_strongest(side) for side in (a, b)]), axis=0)
    row, column = strongest.T
    labels = np.asarray(names, dtype=object)
    columns = {"first": labels[row], "second": labels[column]}
    for letter, side in (("a", a), ("b", b)):
        cosines = pair_cosines(side.unit, side.unit, row=row, column=column)
        columns |= {
            f"cosine_{letter}": cosines,
            f"rank_{letter}": rank_among(cosines, side.counts),
        }
    frame = pd.DataFrame(columns)
    best = frame[["cosine_a", "cosine_b"]].max(axis="columns")
    return frame.loc[best.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)


def _summarise(values: pd.Series, null: pd.Series, *, seed: int) -> Agreement:
    sample = values.to_numpy()
    random = np.random.default_rng(seed)
    found = scipy.stats.bootstrap(
        (sample,),
        np.mean,
        n_resamples=_N_BOOTSTRAP,
        batch=_BATCH,
        method="percentile",
        rng=random,
    ).confidence_interval
    null_low, null_high = percentile_interval(null)
    return Agreement(float(sample.mean()), float(found.low), float(found.high), null_low, null_high)


def _compare_mismatched(a: RankedRows, b: RankedRows, random: np.random.Generator) -> pd.DataFrame:
    """Compare each with another one: the next of a shuffled circle; circles until there are enough.

    Mismatched ones may be related, which makes the null a little too wide, never too narrow.
    """
    n = len(a.unit)
    rounds = []
    for _ in range(-(-_MIN_MISMATCHED // n)):
        circle = random.permutation(n)
        partner = np.empty_like(circle)
        partner[circle] = np.roll(circle, 1)
        correlation = _correlate(a.unit, b.unit, partner)
        overlap = _overlap(a.near, b.near[partner])
        rounds.append(pd.DataFrame({"correlation": correlation, "overlap": overlap}))
    return pd.concat(rounds, ignore_index=True)


def _correlate(first: Vectors, second: Vectors, partner: Indices) -> Floats:
    """Correlate each row's cosines in one map with its partner's in the other (Pearson).

    Either stands out of its own profile with a cosine of 1, so neither's column counts.
    """
    found = np.zeros(len(first))
    for start, cosines in cosine_blocks(first, first):
        rows = np.arange(start, start + len(cosines))
        ends = np.column_stack([rows, partner[rows]])
        one = _centre(cosines, ends)
        other = _centre(second[partner[rows]] @ second.T, ends)
        scale = np.sqrt(np.einsum("ij,ij->i", one, one) * np.einsum("ij,ij->i", other, other))
        products = np.einsum("ij,ij->i", one, other)
        found[rows] = np.divide(products, scale, out=np.zeros(len(rows)), where=scale > 0)
    return found


def _centre(cosines: Vectors, left_out: Indices) -> Floats:
    """Take each row's mean from it, with 0 at the two columns, or the one, that are left out."""
    centred = cosines.astype(np.float64)
    np.put_along_axis(centred, left_out, 0, axis=1)
    n_left = cosines.shape[1] - 1 - (left_out[:, 0] != left_out[:, 1])
    centred -= (centred.sum(axis=1) / n_left)[:, None]
    np.put_along_axis(centred, left_out, 0, axis=1)
    return centred


def _overlap(first: Indices, second: Indices) -> Floats:
    """Divide what both lists hold by what either holds, row by row (Jaccard)."""
    both = (first[:, :, None] == second[:, None, :]).sum(axis=(1, 2))
    share: Floats = both / (first.shape[1] + second.shape[1] - both)
    return share


def _strongest(side: RankedRows) -> NDArray[np.int64]:
    """Find as many pairs with the highest cosines as `near` has columns.

    Each of them is among the nearest of both its ends: otherwise so many others were above it.
    """
    top = side.near.shape[1]
    first = np.repeat(np.arange(len(side.unit)), top)
    pairs = np.unique(np.sort(np.column_stack([first, side.near.ravel()]), axis=1), axis=0)
    cosines = pair_cosines(side.unit, side.unit, row=pairs[:, 0], column=pairs[:, 1])
    return pairs[np.argsort(-cosines, kind="stable")[:top]]
