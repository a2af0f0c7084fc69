"""Which compounds bring diseased cells back: along the disease's axis, and not off it.

Recursion's screens place a well by two numbers: its projection on the line from healthy to diseased
cells, scaled to 0 and 1 at these (the on-perturbation score), and its distance from that line (the
off-perturbation score): Cuccarese et al. 2020, bioRxiv 2020.08.02.233064. Here *reversal* is one
less the first. Both are freed of the noise of few wells (:mod:`phenopipe.hits.lengths`): an axis
from few wells is too long, so that even a compound without any effect seems to bring cells back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from phenopipe.config import HitsConfig
from phenopipe.hits.activity import why_untested
from phenopipe.hits.controls import Controls
from phenopipe.hits.groups import Group, read_groups
from phenopipe.hits.lengths import (
    Estimate,
    Sample,
    interval,
    positive_root,
    product,
    resample_weights,
    squared_length,
)
from phenopipe.hits.permute import draw_labels, permutation_p
from phenopipe.hits.signature import Signature
from phenopipe.profiles import WellProfiles
from phenopipe.stats import Floats, Indices

_SCORES = ("reversal", "side_effect", "distance")


@dataclass(frozen=True)
class Reference:
    """Wells that a compound would be like if it did nothing, and where they lie on the axis.

    For a compound on the disease's background these are the disease's wells without a compound;
    for a compound alone the negative controls.

    Attributes
    ----------
    wells, scores
        Row numbers, and places on the axis.
    plates, experiments
        Each well of the map's stratum: the one of its controls, and its experiment.
    """

    wells: Indices
    scores: Floats
    plates: Indices
    experiments: Indices


def score_rescue(
    wells: WellProfiles,
    groups: Sequence[Group],
    signature: Signature,
    controls: Controls,
    *,
    reference: Reference,
    design: str,
    shifts: Mapping[str, Floats],
    config: HitsConfig,
    on_group: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """Score compounds, each at each dose, against a disease's signature.

    Parameters
    ----------
    groups
        Compounds of one design.
    design
        ``on-disease`` or ``alone``. A compound alone is scored as if its effect added up with the
        disease's: a prediction, not a rescue that was seen.
    shifts
        See :func:`phenopipe.hits.signature.measure_signature`.

    Returns
    -------
    list of dict
        schema.RESCUE without ``rank``, ``fdr`` and the dose curve, and ``variance`` of the
        reversal for that curve, in the order of `groups`.
    """
    rows = [_describe(group, controls, design, config) for group in groups]
    usable = [place for place, row in enumerate(rows) if not row["why"]]
    kept = [
        groups[place].keep(
            controls.matched(groups[place].wells), most=config.max_wells, seed=config.seed
        )
        for place in usable
    ]
    read = read_groups(wells, kept)
    for done, (place, (group, values)) in enumerate(zip(usable, read, strict=True), start=1):
        centred = controls.centre(values, group.wells) - shifts.get(group.gene, 0.0)
        sample = Sample(centred, controls.strata[group.wells])
        seed = group.seed(config.seed)
        rows[place] |= _measure(sample, signature, controls, design, config.n_bootstrap, seed)
        scores = signature.place(sample.rows, sample.strata)
        rows[place]["variance"] = float(scores.var(ddof=1))
        rows[place] |= _test(group, scores, reference, config)
        if on_group:
            on_group(done)
    return rows


def _describe(group: Group, controls: Controls, design: str, config: HitsConfig) -> dict[str, Any]:
    wells = controls.matched(group.wells)
    names = [f"{score}{end}" for score in _SCORES for end in ("", "_low", "_high")]
    return {
        "design": design,
        **group.describe(),
        "n_wells": len(wells),
        "n_plates": len(np.unique(controls.plates[wells])),
        "why": why_untested(len(group.wells), len(wells), min_wells=config.min_wells),
        **dict.fromkeys([*names, "cosine", "p_value", "variance"]),
    }


def _measure(
    sample: Sample,
    signature: Signature,
    controls: Controls,
    design: str,
    n_bootstrap: int,
    seed: list[int],
) -> dict[str, float | None]:
    n, alone = len(sample.rows), design == "alone"
    weights = resample_weights(n, n_bootstrap=n_bootstrap, seed=seed)
    own = squared_length(sample, noise=controls.noise, weights=weights)
    along = product(
        sample, signature.axis, signature.draws, shared=signature.shared, weights=weights
    )
    whole = signature.squared
    # A resample of the disease that is no longer told from the controls has no axis.
    length = Estimate(whole.value, np.where(whole.draws > 0, whole.draws, np.nan))
    place = Estimate(along.value / length.value, along.draws / length.draws)
    off = _squared_off_axis(own, along, length)
    # Where the wells would be if the compound did nothing: with the controls, or the disease.
    start = 0.0 if alone else 1.0
    found = {
        "reversal": _bound(Estimate(start - place.value, start - place.draws), n=n),
        "side_effect": _bound_root(off, n=n, unit=signature.off_spread**2),
        "distance": _bound_root(_squared_distance(own, along, length, alone=alone), n=n),
    }
    columns: dict[str, float | None] = {
        f"{score}{end}": value
        for score, bounds in found.items()
        for end, value in zip(("", "_low", "_high"), bounds, strict=True)
    }
    cosine = _cosine_to_health(own.value, along.value, length.value, alone=alone)
    return columns | {"cosine": cosine}


def _squared_off_axis(own: Estimate, along: Estimate, whole: Estimate) -> Estimate:
    """Estimate the squared distance from the axis: what of the length is not along it."""
    # The square of a noisy product is too large by its variance; a resample's by twice that.
    excess = float(np.var(along.draws))
    return Estimate(
        own.value - (along.value**2 - excess) / whole.value,
        own.draws - (along.draws**2 - 2 * excess) / whole.draws,
    )


def _squared_distance(own: Estimate, along: Estimate, whole: Estimate, *, alone: bool) -> Estimate:
    """Estimate the squared distance from the healthy controls, the disease's own being 1.

    A compound alone is put where its effect and the disease's would add up to.
    """
    value, draws = own.value / whole.value, own.draws / whole.draws
    if not alone:
        return Estimate(value, draws)
    return Estimate(
        1 + 2 * along.value / whole.value + value, 1 + 2 * along.draws / whole.draws + draws
    )


def _bound(estimate: Estimate, *, n: int) -> tuple[float, float, float]:
    return estimate.value, *interval(estimate.draws, estimate.value, n=n)


def _bound_root(estimate: Estimate, *, n: int, unit: float = 1.0) -> tuple[float, float, float]:
    value, low, high = positive_root(np.array(_bound(estimate, n=n)) / unit).tolist()
    return value, low, high


def _cosine_to_health(own: float, along: float, whole: float, *, alone: bool) -> float | None:
    """Give the cosine of the compound's effect and the way from disease to health."""
    squared = own if alone else own - 2 * along + whole
    if squared <= 0:
        return None
    towards = -along if alone else whole - along
    return float(np.clip(towards / np.sqrt(squared * whole), -1, 1))


def _test(
    group: Group, scores: Floats, reference: Reference, config: HitsConfig
) -> dict[str, float | str | None]:
    """Test one-sided whether wells lie nearer to health than their reference does."""
    for strata in (reference.plates, reference.experiments):
        own, others = strata[group.wells], strata[reference.wells]
        counts = np.bincount(others[others >= 0], minlength=own.max() + 1)
        if counts[own].min() >= config.min_wells:
            return {"p_value": _shift_p(scores, own, reference.scores, others, config)}
    return {
        "why": f"fewer than {config.min_wells} wells to compare with in one of its experiments",
        "p_value": None,
    }


def _shift_p(
    scores: Floats, strata: Indices, others: Floats, other_strata: Indices, config: HitsConfig
) -> float:
    beside = np.isin(other_strata, strata)
    pooled = -np.concatenate([scores, others[beside]])
    everything = np.concatenate([strata, other_strata[beside]])
    pooled = pooled[np.argsort(everything, kind="stable")]
    found, counts = np.unique(everything, return_counts=True)
    layout = tuple(
        (int(n), int((strata == one).sum())) for one, n in zip(found, counts, strict=True)
    )
    draws = draw_labels(layout, n_permutations=config.n_permutations, seed=config.seed)
    return permutation_p(float(-scores.sum()), (pooled[labels].sum(axis=1) for labels in draws))


def rank_rows(rows: Sequence[dict[str, Any]]) -> None:
    """Rank scored compounds of one design: first who surely ends nearest to health.

    By the upper end of the interval of the distance that is left. It is short where reversal is
    high and the side effect low, and chance does not help a compound with few or odd wells.
    """
    tested = [row for row in rows if not row["why"]]
    ranks = rankdata([row["distance_high"] for row in tested], method="min")
    for row in rows:
        row["rank"] = None
    for row, rank in zip(tested, ranks, strict=True):
        row["rank"] = int(rank)
