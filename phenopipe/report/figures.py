"""The figures' geometry and images; the templates draw them as inline SVG."""

import base64
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.image import imsave
from numpy.typing import NDArray

from phenopipe.report.sources import read_texts
from phenopipe.report.words import Score, list_sources, pick_score

# A heatmap's side in pixels: more genes than this are averaged in blocks.
MAX_SIDE = 480
DIVERGING = "RdBu_r"


@dataclass(frozen=True)
class Axis:
    """A linear axis: numbers from ``low`` to ``high``, pixels from ``start`` to ``end``.

    Examples
    --------
    >>> Axis(0.0, 1.0, 100, 300).at(0.25)
    150.0
    """

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Place a number on the axis, in pixels."""
        part = (value - self.low) / (self.high - self.low)
        return round(self.start + part * (self.end - self.start), 2)

    @property
    def ticks(self) -> list[float]:
        """Round numbers along the axis, 0.1 apart, or 0.05 where it is short."""
        step = 0.1 if self.high - self.low > 0.35 else 0.05
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(step * number, 2) for number in range(first, last + 1)]


@dataclass(frozen=True)
class Pair:
    """One metric's scores on one source, before and after the correction."""

    source: str
    before: Score | None
    after: Score | None

    @property
    def scores(self) -> list[tuple[str, Score]]:
        """The scores that were measured, each with its side."""
        return [(s, x) for s, x in (("before", self.before), ("after", self.after)) if x]


def pair_scores(benchmark: pd.DataFrame, metric: str) -> list[Pair]:
    """Pair each source's scores before and after the correction, sources sorted."""
    sides = ("none", "arms")
    return [
        Pair(source, *(pick_score(benchmark, metric, source, side) for side in sides))
        for source in list_sources(benchmark, metric)
    ]


def order_bias(benchmark: pd.DataFrame) -> list[Pair]:
    """Pair the scores of proximity bias: the genome first, then the arms along it."""
    pairs = pair_scores(benchmark, "proximity_bias")
    return sorted(pairs, key=lambda pair: (pair.source != "genome", arm_order(pair.source)))


def fit_axis(pairs: Sequence[Pair], *, hold: Iterable[float], start: float, end: float) -> Axis:
    """Fit an axis between 0 and 1 that holds all scores, their intervals and further numbers."""
    numbers = [*hold]
    for _, score in (entry for pair in pairs for entry in pair.scores):
        numbers += [score.value, score.low, score.high]
    finite = [number for number in numbers if math.isfinite(number)]
    low = math.floor(min(finite) * 10 - 0.2) / 10
    high = math.ceil(max(finite) * 10 + 0.2) / 10
    return Axis(max(low, 0.0), min(high, 1.0), start, end)


def arm_order(arm: str) -> tuple[int, str]:
    """Rank an arm by its chromosome: 1p, 1q, 2p … 22q, Xp, Xq, Yq; others last.

    Examples
    --------
    >>> sorted(["Xp", "10q", "2q", "2p"], key=arm_order)
    ['2p', '2q', '10q', 'Xp']
    """
    match = re.fullmatch(r"(?:chr)?(\d+|X|Y)([pq].*)", arm)
    if not match:
        return (99, arm)
    number = {"X": 23, "Y": 24}.get(match[1]) or int(match[1])
    return (number, match[2])


@dataclass(frozen=True)
class ArmSpan:
    """An arm's stretch along a heatmap, as shares of its side."""

    arm: str
    start: float
    end: float
    n: int

    @property
    def middle(self) -> float:
        """The stretch's middle."""
        return (self.start + self.end) / 2


@dataclass(frozen=True)
class Heatmaps:
    """Cosines between genes in the arms' order, before and after, on one colour scale."""

    images: Mapping[str, str]
    arms: tuple[ArmSpan, ...]
    limit: float
    n_genes: int
    n_unplaced: int
    genes_a_pixel: float


def draw_heatmaps(dataset: xr.Dataset, *, corrected: bool) -> Heatmaps | None:
    """Draw the map's cosines, genes ordered by arm, then by name; None without two placed genes.

    Where genes outnumber ``MAX_SIDE``, a pixel is the mean cosine of a block of genes; it comes
    from the blocks' mean unit vectors, so no matrix of all pairs is made. A gene's cosine with
    itself is left out.
    """
    arms = read_texts(dataset, "arm")
    names = read_texts(dataset, "perturbation")
    placed = sorted(
        np.flatnonzero(arms != ""), key=lambda i: (arm_order(str(arms[i])), str(names[i]))
    )
    if len(placed) < 2:
        return None
    sides = {"before": "embedding_uncorrected"} | ({"after": "embedding"} if corrected else {})
    cosines = {side: block_cosines(dataset[of].to_numpy()[placed]) for side, of in sides.items()}
    limit = colour_limit(cosines["before"])
    return Heatmaps(
        images={side: _paint_cosines(matrix, limit) for side, matrix in cosines.items()},
        arms=tuple(_spans(arms[placed])),
        limit=limit,
        n_genes=len(placed),
        n_unplaced=int(np.sum(arms == "")),
        genes_a_pixel=max(1.0, len(placed) / MAX_SIDE),
    )


def block_cosines(embedding: NDArray[np.floating], *, side: int = MAX_SIDE) -> NDArray[np.float64]:
    """Average the cosines of (n, d) rows over at most side x side blocks, self pairs left out.

    Examples
    --------
    >>> block_cosines(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]))
    array([[nan,  1.,  0.],
           [ 1., nan,  0.],
           [ 0.,  0., nan]])
    """
    rows = np.asarray(embedding, dtype=np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.where(length > 0, length, 1)
    starts = np.linspace(0, len(unit), min(side, len(unit)), endpoint=False).astype(int)
    sizes = np.diff(starts, append=len(unit))
    means = np.add.reduceat(unit, starts, axis=0) / sizes[:, None]
    cosines = means @ means.T
    own = np.add.reduceat((unit**2).sum(axis=1), starts)
    pairs = sizes * (sizes - 1.0)
    inside = cosines.diagonal() * sizes**2 - own
    np.fill_diagonal(cosines, np.where(pairs > 0, inside / np.where(pairs > 0, pairs, 1), np.nan))
    return cosines


def colour_limit(cosines: NDArray[np.float64]) -> float:
    """Choose a symmetric colour limit that holds 99% of the cosines: a multiple of 0.05."""
    return max(0.05, math.ceil(float(np.nanquantile(np.abs(cosines), 0.99)) * 20) / 20)


def _spans(arms: NDArray[np.str_]) -> list[ArmSpan]:
    starts = np.flatnonzero(np.append(True, arms[1:] != arms[:-1]))
    ends = np.append(starts[1:], len(arms))
    shares = zip(starts / len(arms), ends / len(arms), strict=True)
    sizes = zip(starts, ends - starts, strict=True)
    return [
        ArmSpan(str(arms[first]), float(start), float(end), int(n))
        for (start, end), (first, n) in zip(shares, sizes, strict=True)
    ]


def _paint_cosines(cosines: NDArray[np.float64], limit: float) -> str:
    return paint(cosines, colours=DIVERGING, low=-limit, high=limit)


def paint(values: NDArray[np.floating], *, colours: str, low: float, high: float) -> str:
    """Paint a matrix as a PNG, one pixel a value, no number transparent; give its data URL."""
    scaled = np.clip((values - low) / (high - low), 0, 1)
    pixels = mpl.colormaps[colours](np.nan_to_num(scaled), bytes=True)
    pixels[~np.isfinite(values)] = (0, 0, 0, 0)
    file = io.BytesIO()
    # Matplotlib signs images with its version unless told otherwise.
    imsave(file, pixels, format="png", metadata={"Software": "phenopipe"})
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def colour_stops(colours: str, *, n: int = 9) -> list[str]:
    """List a colour map's colours from low to high, for a legend's gradient.

    Examples
    --------
    >>> colour_stops("gray", n=3)
    ['#000000', '#808080', '#ffffff']
    """
    return [mpl.colors.to_hex(mpl.colormaps[colours](part)) for part in np.linspace(0, 1, n)]
