"""Which pairs of a map lie in the tails of all its pairs: exactly, without holding all cosines."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phenopipe.errors import InputError
from phenopipe.stats import Floats, Indices, unit_rows

# What a map's pairs are asked: does this one stand out? One flag a pair of the upper triangle.
Flags = NDArray[np.bool_]

_BLOCK_ROWS = 512
# Random pairs that tell about where a tail begins: to one of about 300 pairs, either way.
_SAMPLED_PAIRS = 100_000
# Standard deviations of that rank on either side.
_MARGIN = 6.0
_EVERYWHERE = np.array([[-np.inf, np.inf], [-np.inf, np.inf]])


def extreme_pairs(
    embeddings: ArrayLike | pd.DataFrame, thresholds: tuple[float, float] = (0.05, 0.95)
) -> Flags:
    """Tell of each pair of the map whether its cosine lies in the tails of all of them.

    A sample of pairs brackets the two cosines at which the tails begin; one pass over blocks of
    rows counts the pairs beyond the brackets and keeps those inside, among which the two are then
    found: exactly, in float64, with a byte a pair instead of sixteen.

    Parameters
    ----------
    embeddings
        One row a perturbation, shape (n, d).
    thresholds
        Shares of all pairs: a pair is in the low tail if the share at or below its cosine is at
        most the first, in the high one if the share below it is at least the second.

    Returns
    -------
    ndarray of bool, shape (n * (n - 1) / 2,)
        In the order of :func:`phenopipe.stats.cosine_pairs`.

    Raises
    ------
    InputError
        If the thresholds are not two of 0 to 1, the low one first.

    Examples
    --------
    >>> extreme_pairs([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], thresholds=(0.0, 0.6))
    array([ True, False, False])
    """
    low, high = thresholds
    if not 0 <= low < high <= 1:
        raise InputError(f"expected thresholds 0 <= low < high <= 1, found {thresholds}")
    unit = unit_rows(embeddings)
    n = len(unit) * (len(unit) - 1) // 2
    if not n:
        return np.zeros(0, dtype=np.bool_)
    ranks = _ranks(low, high, n)
    # A sample can be unlucky: then the brackets are the whole line.
    for brackets in (_bracket(unit, ranks, n), _EVERYWHERE):
        if (flags := _select(unit, ranks, brackets, n)) is not None:
            return flags
    raise AssertionError("every rank lies somewhere on the line")


def _ranks(low: float, high: float, n: int) -> tuple[int, int]:
    """Give the ranks, from 0, of the cosines at which the low tail ends and the high one begins.

    The shares are compared as floats, i / n, as the reference does: 0.05 n may be no integer.
    """
    most_below = int(low * n)
    while most_below < n and (most_below + 1) / n <= low:
        most_below += 1
    while most_below / n > low:
        most_below -= 1
    least_below = int(high * n)
    while least_below / n < high:
        least_below += 1
    while least_below and (least_below - 1) / n >= high:
        least_below -= 1
    return most_below, least_below - 1


def _bracket(unit: Floats, ranks: tuple[int, int], n: int) -> Floats:
    """Bracket the two cosines by a sample of pairs, shape (2, 2); every pair where they are few."""
    if n <= 10 * _SAMPLED_PAIRS:
        return _EVERYWHERE
    rng = np.random.default_rng(0)  # which pairs are sampled changes the work, not the answer
    sample = []
    for _ in range(20):
        first = rng.integers(0, len(unit), size=_SAMPLED_PAIRS // 20)
        second = (first + rng.integers(1, len(unit), size=len(first))) % len(unit)
        sample.append(np.einsum("ij,ij->i", unit[first], unit[second]))
    cosines = np.sort(np.concatenate(sample))
    shares = np.array(ranks) / n
    margin = _MARGIN * np.sqrt(shares * (1 - shares) / _SAMPLED_PAIRS) + 1 / _SAMPLED_PAIRS
    places = np.floor((shares[:, None] + margin[:, None] * [-1, 1]) * _SAMPLED_PAIRS).astype(int)
    edges = cosines[places.clip(0, _SAMPLED_PAIRS - 1)]
    return np.where(places < 0, -np.inf, np.where(places >= _SAMPLED_PAIRS, np.inf, edges))


def _select(unit: Floats, ranks: tuple[int, int], brackets: Floats, n: int) -> Flags | None:
    """Flag the tails if both ranks lie in their brackets; else None."""
    flags = np.empty(n, dtype=np.bool_)
    (low_from, low_to), (high_from, high_to) = brackets
    below = [0, 0]
    kept: tuple[list[Floats], list[Floats]] = ([], [])
    places: tuple[list[Indices], list[Indices]] = ([], [])
    for start, cosines in _upper_blocks(unit):
        flags[start : start + len(cosines)] = (cosines < low_from) | (cosines > high_to)
        for side, (least, most) in enumerate(((low_from, low_to), (high_from, high_to))):
            below[side] += int(np.count_nonzero(cosines < least))
            inside = np.flatnonzero((cosines >= least) & (cosines <= most))
            kept[side].append(cosines[inside])
            places[side].append(inside + start)
    cuts = [_pick(np.concatenate(kept[s]), ranks[s] - below[s]) for s in (0, 1)]
    if cuts[0] is None or cuts[1] is None:
        return None
    for side in (0, 1):
        values = np.concatenate(kept[side])
        flags[np.concatenate(places[side])] = (values < cuts[0]) | (values > cuts[1])
    return flags


def _pick(values: Floats, rank: int) -> float | None:
    return float(np.partition(values, rank)[rank]) if 0 <= rank < len(values) else None


def _upper_blocks(unit: Floats) -> Iterator[tuple[int, Floats]]:
    """Yield the cosines of the upper triangle block by block, and the place of the first one."""
    n, end = len(unit), 0
    for start in range(0, n, _BLOCK_ROWS):
        block = unit[start : start + _BLOCK_ROWS] @ unit[start:].T
        above = np.arange(block.shape[1]) > np.arange(block.shape[0])[:, None]
        values = block[above]
        yield end, values
        end += values.size
