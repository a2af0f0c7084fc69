"""Permutation tests whose labels change places only among wells that are alike by design."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

from phenopipe.stats import Floats, Indices

# Draws at a time, and exceedances after which a p-value is known well enough.
_DRAWS = 500
_ENOUGH = 25

# Of each stratum: how many wells there are, and how many of them bear the label.
Layout = tuple[tuple[int, int], ...]


def draw_labels(layout: Layout, *, n_permutations: int, seed: int) -> Iterator[Indices]:
    """Draw which wells bear the label, within each stratum as many as did.

    Parameters
    ----------
    layout
        Of each stratum: wells, and labelled wells.

    Yields
    ------
    ndarray of int, shape (draws, labelled wells)
        Numbers of wells, strata one after the other; n_permutations rows in all. One layout's
        draws are the same for every perturbation.

    Examples
    --------
    >>> [part.shape for part in draw_labels(((9, 2), (5, 1)), n_permutations=700, seed=0)]
    [(500, 3), (200, 3)]
    """
    for start in range(0, n_permutations, _DRAWS):
        yield _draw(layout, start, min(_DRAWS, n_permutations - start), seed)


@lru_cache(maxsize=64)
def _draw(layout: Layout, start: int, n_draws: int, seed: int) -> Indices:
    random = np.random.default_rng([seed, start, *(number for pair in layout for number in pair)])
    first = np.cumsum([0, *(wells for wells, _ in layout)])
    parts = [
        offset + _draw_subsets(wells, labelled, n_draws, random)
        for offset, (wells, labelled) in zip(first[:-1], layout, strict=True)
    ]
    drawn = np.concatenate(parts, axis=1)
    drawn.flags.writeable = False
    return drawn


def _draw_subsets(n: int, size: int, n_draws: int, random: np.random.Generator) -> Indices:
    """Draw subsets of 0 … n - 1, each as likely (Bentley & Floyd 1987), one a row."""
    chosen = np.empty((n_draws, size), dtype=np.int64)
    for place, last in enumerate(range(n - size, n)):
        drawn = random.integers(0, last + 1, size=n_draws)
        taken = (chosen[:, :place] == drawn[:, None]).any(axis=1)
        chosen[:, place] = np.where(taken, last, drawn)
    return chosen


def permutation_p(observed: float, null: Iterable[Floats]) -> float:
    """Give the share of permutations that reach the observed value, itself among them.

    That is (1 + reached) / (1 + drawn), which is never 0. Once 25 have reached it no more are
    drawn, and the p-value is 25 over the draws that it took: as valid, and a perturbation that
    does nothing costs some hundred draws instead of thousands (Besag & Clifford 1991,
    "Sequential Monte Carlo p-values").

    Parameters
    ----------
    null
        The statistic under permuted labels, some draws at a time.

    Examples
    --------
    >>> permutation_p(5.0, [np.array([1.0, 6.0, 2.0]), np.array([0.0])])
    0.4
    >>> permutation_p(0.0, [np.ones(500)])
    1.0
    """
    reached, drawn = 0, 0
    # Sums in another order differ in the last digits: what is equal must count as reached.
    threshold = observed - 1e-9 * abs(observed)
    for values in null:
        counted = reached + np.cumsum(values >= threshold)
        if counted[-1] >= _ENOUGH:
            return _ENOUGH / (drawn + int(np.searchsorted(counted, _ENOUGH)) + 1)
        reached, drawn = int(counted[-1]), drawn + len(values)
    return (1 + reached) / (1 + drawn)
