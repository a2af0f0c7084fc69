"""Which perturbations do anything: each one's wells against the negative controls beside them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from phenopipe.config import HitsConfig
from phenopipe.hits.controls import Controls
from phenopipe.hits.groups import Group, read_groups
from phenopipe.hits.lengths import (
    Estimate,
    Sample,
    interval,
    positive_root,
    resample_weights,
    squared_length,
)
from phenopipe.hits.permute import Layout, draw_labels, permutation_p
from phenopipe.profiles import WellProfiles
from phenopipe.stats import Floats, Indices

# Distances that one step of the permutation test looks up: 8 MB.
_LOOKUPS = 1 << 20
_SCORES = ("energy_distance", "effect", "effect_low", "effect_high", "p_value", "variance")

OnGroup = Callable[[int], None]


class Beside(NamedTuple):
    """The controls that perturbations with the same strata are compared with."""

    strata: Indices
    values: Floats
    distances: Floats


def score_activity(
    wells: WellProfiles,
    groups: Sequence[Group],
    controls: Controls,
    *,
    config: HitsConfig,
    on_group: OnGroup | None = None,
) -> list[dict[str, Any]]:
    """Compare each perturbation with the negative controls beside it.

    Parameters
    ----------
    wells
        The map's wells; read by blocks of perturbations.
    groups
        From :func:`phenopipe.hits.groups.list_groups`.
    config
        Least number of wells, permutations, resamples, seed.
    on_group
        Called with the number of perturbations done.

    Returns
    -------
    list of dict
        In the order of `groups`: schema.HITS without ``fdr`` and the dose curve, and ``variance``
        of the effect for that curve. Where ``why`` is not empty, scores are None.
    """
    rows = [_describe(group, controls, config) for group in groups]
    usable = [place for place, row in enumerate(rows) if not row["why"]]
    # Perturbations of the same plates have the same controls: these are read once.
    usable.sort(key=lambda place: _strata_of(groups[place], controls))
    done = 0
    for strata, places in groupby(usable, key=lambda place: _strata_of(groups[place], controls)):
        here = list(places)
        beside = read_beside(wells, controls, np.array(strata), config=config)
        read = read_groups(wells, [_select(groups[place], controls, config) for place in here])
        for place, (group, values) in zip(here, read, strict=True):
            rows[place] |= _score(group, values, controls, beside, config)
            done += 1
            if on_group:
                on_group(done)
    return rows


def _strata_of(group: Group, controls: Controls) -> tuple[int, ...]:
    found = np.unique(controls.strata[group.wells])
    return tuple(int(one) for one in found if one >= 0)


def _select(group: Group, controls: Controls, config: HitsConfig) -> Group:
    wells = controls.matched(group.wells)
    return group.keep(wells, most=config.max_wells, seed=config.seed)


def _describe(group: Group, controls: Controls, config: HitsConfig) -> dict[str, Any]:
    wells = controls.matched(group.wells)
    return {
        **group.describe(),
        "n_wells": len(wells),
        "n_plates": len(np.unique(controls.plates[wells])),
        "matched_by": controls.describe(wells) if len(wells) else "",
        "why": why_untested(len(group.wells), len(wells), min_wells=config.min_wells),
        **dict.fromkeys(_SCORES),
    }


def why_untested(n: int, matched: int, *, min_wells: int) -> str:
    """Say why n wells, so many of them with controls, are too few; empty where they are not.

    Examples
    --------
    >>> why_untested(2, 2, min_wells=3)
    '2 wells, fewer than 3'
    """
    if matched >= min_wells:
        return ""
    lost = f" ({n - matched} more without negative controls beside them)" if n > matched else ""
    return f"{matched} well{'s' * (matched != 1)}, fewer than {min_wells}{lost}"


def read_beside(
    wells: WellProfiles, controls: Controls, strata: Indices, *, config: HitsConfig
) -> Beside:
    """Read the controls of some strata, at most `max_wells`, and their distances."""
    index = controls.sample(strata, n=config.max_wells, seed=config.seed)
    values = wells.take(index).astype(np.float64)
    return Beside(controls.strata[index], values, cdist(values, values))


def _score(
    group: Group, values: Floats, controls: Controls, beside: Beside, config: HitsConfig
) -> dict[str, Any]:
    strata = controls.strata[group.wells]
    effect = measure_effect(
        Sample(controls.centre(values, group.wells), strata),
        noise=controls.noise,
        config=config,
        seed=group.seed(config.seed),
    )
    low, high = interval(effect.draws, effect.value, n=len(values))
    distance, p_value = energy_test(
        values,
        strata,
        beside,
        n_permutations=config.n_permutations,
        seed=config.seed,
    )
    lengths = positive_root([effect.value, low, high]) / controls.spread
    return {
        "energy_distance": distance,
        **dict(zip(("effect", "effect_low", "effect_high"), lengths.tolist(), strict=True)),
        "p_value": p_value,
        "variance": len(values) * float((positive_root(effect.draws) / controls.spread).var()),
    }


def measure_effect(
    sample: Sample, *, noise: Floats, config: HitsConfig, seed: list[int]
) -> Estimate:
    """Estimate the squared distance of a perturbation's true mean from its controls' mean."""
    weights = resample_weights(len(sample.rows), n_bootstrap=config.n_bootstrap, seed=seed)
    return squared_length(sample, noise=noise, weights=weights)


def energy_test(
    x: Floats, strata: Indices, beside: Beside, *, n_permutations: int, seed: int
) -> tuple[float, float]:
    r"""Test by the energy distance whether wells differ from the controls of their strata.

    The energy distance is :math:`2 E|x - y| - E|x - x'| - E|y - y'|` (Székely & Rizzo 2013), with
    a well's distance to itself among the pairs, as :func:`phenopipe.stats.energy_distance` takes
    it. Under the null, a well of a stratum could as well have been a control: labels change places
    within strata only, so what differs between plates is in every permutation alike.

    Parameters
    ----------
    x
        The perturbation's wells, shape (n, k).
    strata
        Their strata, shape (n,).
    beside
        Controls of these strata.

    Returns
    -------
    energy_distance, p_value : float
        See :func:`phenopipe.hits.permute.permutation_p`.
    """
    distances = _pool_distances(x, beside)
    layout, members = _lay_out(strata, beside.strata)
    pooled = distances[np.ix_(members, members)]
    sums, total = pooled.sum(axis=1), float(pooled.sum())

    def statistic(labelled: Indices) -> Floats:
        return _energy_of_labels(labelled, pooled, sums, total)

    observed = float(statistic(_own_labels(layout))[0])
    draws = draw_labels(layout, n_permutations=n_permutations, seed=seed)
    return observed, permutation_p(observed, map(statistic, draws))


def _pool_distances(x: Floats, beside: Beside) -> Floats:
    across = cdist(x, beside.values)
    return np.block([[cdist(x, x), across], [across.T, beside.distances]])


def _lay_out(strata: Indices, control_strata: Indices) -> tuple[Layout, Indices]:
    """Order pooled wells by stratum, labelled ones first; count both in each stratum."""
    everything = np.concatenate([strata, control_strata])
    members = np.argsort(everything, kind="stable")
    found, wells = np.unique(everything, return_counts=True)
    labelled = [int((strata == one).sum()) for one in found]
    layout = tuple(zip(wells.tolist(), labelled, strict=True))
    return layout, members


def _own_labels(layout: Layout) -> Indices:
    """Give the labels as they are: the first wells of each stratum."""
    first = np.cumsum([0, *(wells for wells, _ in layout)])[:-1]
    parts = [
        start + np.arange(labelled) for start, (_, labelled) in zip(first, layout, strict=True)
    ]
    return np.concatenate(parts)[None, :]


def _energy_of_labels(labelled: Indices, pooled: Floats, sums: Floats, total: float) -> Floats:
    """Compute the energy distance for each row of labels; sums of distances are all it takes."""
    n, m = labelled.shape[1], len(pooled) - labelled.shape[1]
    first, second = np.triu_indices(n, 1)
    within = 2 * np.concatenate(
        [pooled[part[:, first], part[:, second]].sum(axis=1) for part in _parts(labelled)]
    )
    reach = sums[labelled].sum(axis=1)
    across, others = reach - within, total - 2 * reach + within
    energy: Floats = 2 * across / (n * m) - within / n**2 - others / m**2
    return energy


def _parts(labelled: Indices) -> Iterator[Indices]:
    step = max(_LOOKUPS // labelled.shape[1] ** 2, 1)
    for start in range(0, len(labelled), step):
        yield labelled[start : start + step]
