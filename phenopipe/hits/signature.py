"""What a disease does to cells, and which wells of a map show it, with a compound or without."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

import numpy as np
import pandas as pd

from phenopipe.config import HitsConfig
from phenopipe.errors import InputError
from phenopipe.hits.activity import energy_test, read_beside
from phenopipe.hits.controls import Controls
from phenopipe.hits.groups import Group
from phenopipe.hits.lengths import (
    Estimate,
    Sample,
    resample_weights,
    shares,
    squared_length,
)
from phenopipe.profiles import WellProfiles
from phenopipe.stats import Floats, Indices

Design = Literal["auto", "on-disease", "alone"]

# The p-value up to which a disease counts as told from the negative controls.
_LEVEL = 0.05


@dataclass(frozen=True)
class Signature:
    """The disease's axis: from the negative controls' mean to the mean of the disease's wells.

    Attributes
    ----------
    wells
        Row numbers of the disease's wells without a compound.
    axis, draws
        Mean of the disease's wells less their controls' mean, shape (k,), and its resamples,
        (n_bootstrap, k).
    squared
        Its squared length, without the noise of few wells.
    shared
        What a well of each stratum shares with the axis as both stand beside the same controls.
    scores
        Where each negative control lies on the axis (0 on average), and each of the disease's
        wells (1 on average; its own noise is not in the axis that it is held against); NaN for
        other wells. Shape (all wells,).
    off_spread
        How far a negative control lies from the axis: root mean square.
    """

    wells: Indices
    axis: Floats
    draws: Floats
    squared: Estimate
    shared: Floats
    scores: Floats
    off_spread: float

    def place(self, centred: Floats, strata: Indices) -> Floats:
        """Give where wells lie on the axis: 0 with the controls, 1 with the disease."""
        placed: Floats = (centred @ self.axis - self.shared[strata]) / self.squared.value
        return placed

    def z_factor(self) -> float:
        """Give the Z' factor of the controls along the axis (Zhang, Chung & Oldenburg 1999).

        1 - 3 (the two standard deviations) / (the distance of the means); above 0.5 single wells
        are told apart, below 0 they overlap.
        """
        disease = self.scores[self.wells]
        healthy = np.delete(self.scores, self.wells)
        healthy = healthy[np.isfinite(healthy)]
        spread = disease.std(ddof=1) + healthy.std(ddof=1)
        return float(1 - 3 * spread / abs(disease.mean() - healthy.mean()))


def find_disease(facts: pd.DataFrame, names: Collection[str]) -> Indices:
    """Find the disease's wells that hold no compound, by gene or by the map's perturbation.

    Raises
    ------
    InputError
        If a name is not there; with the closest ones.
    """
    known = sorted({*facts["gene"], *facts["label"]} - {""})
    for name in names:
        if name not in known:
            folded = {one.casefold(): one for one in known}
            close = get_close_matches(name.casefold(), folded, n=3)
            hint = ", ".join(folded[one] for one in close) or "none that is close"
            raise InputError(
                f"expected a gene or perturbation of the map as disease, found {name!r}: the "
                f"closest names are {hint}"
            )
    untreated = facts["gene"].isin(names) & (facts["compound"] == "")
    named = facts["label"].isin(names) & (facts["kind"] != "gene + compound")
    return np.flatnonzero((untreated | named) & ~facts["negative"])


def read_as_background(facts: pd.DataFrame, names: Collection[str]) -> pd.DataFrame:
    """Take the gene of compounds' wells for their background, not for the compound's target."""
    mask = (facts["kind"] == "compound") & facts["target"].isin(names)
    return facts.assign(
        gene=facts["gene"].where(~mask, facts["target"]),
        kind=facts["kind"].where(~mask, "gene + compound"),
    )


def choose_designs(
    groups: Sequence[Group], facts: pd.DataFrame, names: Collection[str], design: Design
) -> dict[str, list[Group]]:
    """Tell compounds on the disease's background from compounds alone, by the platemap.

    A well holds a compound on the disease's background if its type is crispr, sirna, orf or
    control, its gene is the disease's and a compound is named. It holds a compound alone if its
    type is compound: the gene is then the compound's target.

    Returns
    -------
    dict
        ``on-disease`` and ``alone``, those that are asked for and there: at least one.

    Raises
    ------
    InputError
        If there is none; or if all compounds name the disease's gene, so that it may be their
        target as well as their background.
    """
    added = [g for g in groups if g.kind == "gene + compound" and g.gene in names]
    alone = [g for g in groups if g.kind == "compound" and g.compound and g.label not in names]
    told = " and ".join(names)
    targets = facts["target"][np.concatenate([g.wells for g in alone])] if alone else None
    if design == "auto" and not added and targets is not None and targets.isin(names).all():
        raise InputError(
            f"expected to know what {told} is in the wells of compounds, found it as the gene of "
            f"all {len(alone)} of them, of type compound: say design 'on-disease' if the wells "
            f"have {told} as background (or give them the type crispr, sirna, orf or control), "
            "'alone' if it is the compounds' target"
        )
    found = {"on-disease": added, "alone": alone}
    kept = {name: found[name] for name in found if found[name] and design in ("auto", name)}
    if not kept:
        raise InputError(
            f"expected wells with a compound ({design}), found {len(added)} compounds on the "
            f"background of {told} and {len(alone)} alone: check gene, compound and "
            "perturbation_type in the platemap"
        )
    return kept


def measure_signature(
    wells: WellProfiles,
    disease: Indices,
    controls: Controls,
    *,
    genes: Sequence[str],
    shifts: Mapping[str, Floats],
    config: HitsConfig,
) -> Signature:
    """Measure the disease's axis, and where controls and the disease's own wells lie on it.

    Parameters
    ----------
    disease
        From :func:`find_disease`.
    genes
        Each well's gene.
    shifts
        What the map took from a gene for its chromosome arm's sake, by gene: it is no part of the
        disease.

    Raises
    ------
    InputError
        If the disease has too few wells, or is not told from the controls.
    """
    matched = controls.matched(disease)
    if len(matched) < max(config.min_wells, 2):
        raise InputError(
            f"expected {max(config.min_wells, 2)} wells of the disease beside negative controls, "
            f"found {len(matched)} of {len(disease)}: add replicates, or ask for fewer with "
            "hits.min_wells"
        )
    none = np.zeros(wells.width)
    arms = np.array([shifts.get(genes[well], none) for well in matched.tolist()])
    rows = controls.centre(wells.take(matched).astype(np.float64), matched) - arms
    sample = Sample(rows, controls.strata[matched])
    n_bootstrap, seed = config.n_bootstrap, [config.seed, 1]
    weights = resample_weights(len(matched), n_bootstrap=n_bootstrap, seed=seed)
    squared = squared_length(sample, noise=controls.noise, weights=weights)
    _check_told(wells, matched, controls, squared, config)
    found = Signature(
        wells=matched,
        axis=rows.mean(axis=0),
        draws=weights @ rows,
        squared=squared,
        shared=controls.noise * shares(sample.strata, len(controls.noise)),
        scores=np.full(len(controls.strata), np.nan),
        off_spread=np.nan,
    )
    found.scores[matched] = _leave_one_out(sample, controls.noise, squared.value)
    return replace(found, off_spread=_place_controls(wells, found, controls))


def _check_told(
    wells: WellProfiles,
    disease: Indices,
    controls: Controls,
    squared: Estimate,
    config: HitsConfig,
) -> None:
    """Refuse a disease whose wells do not differ from the controls beside them."""
    kept = disease
    if len(kept) > config.max_wells:
        kept = np.random.default_rng(config.seed).choice(kept, config.max_wells, replace=False)
    beside = read_beside(wells, controls, np.unique(controls.strata[kept]), config=config)
    values = wells.take(kept).astype(np.float64)
    _, p_value = energy_test(
        values,
        controls.strata[kept],
        beside,
        n_permutations=config.n_permutations,
        seed=config.seed,
    )
    if p_value > _LEVEL or squared.value <= 0:
        raise InputError(
            f"expected a disease that is told from the negative controls, found {len(disease)} "
            f"wells that differ from them with p = {p_value:.2g}, at a squared distance of "
            f"{squared.value:.3g}: there is no axis to reverse; add replicates or choose another "
            "disease"
        )


def _leave_one_out(sample: Sample, noise: Floats, squared: float) -> Floats:
    """Place each of the disease's wells on the axis of the others."""
    n = len(sample.rows)
    same = np.bincount(sample.strata, minlength=len(noise))[sample.strata] - 1
    products = sample.rows @ sample.rows.sum(axis=0) - (sample.rows**2).sum(axis=1)
    placed: Floats = (products - same * noise[sample.strata]) / (n - 1) / squared
    return placed


def _place_controls(wells: WellProfiles, signature: Signature, controls: Controls) -> float:
    """Place controls on the axis, plate by plate; give their root mean square distance from it."""
    members = np.zeros(len(controls.strata), dtype=bool)
    members[np.concatenate(controls.wells)] = True
    counts = np.array([len(one) for one in controls.wells], dtype=np.float64)
    # Wells lie nearer to their own mean than to the true one.
    widen = np.sqrt(counts / (counts - 1))
    direction = signature.axis / np.linalg.norm(signature.axis)
    scale = np.linalg.norm(signature.axis) / signature.squared.value
    along = 0.0
    for rows, values in wells.plates():
        index = rows.index.to_numpy()
        here = index[members[index]]
        if not here.size:
            continue
        centred = controls.centre(values[members[index]].astype(np.float64), here)
        lengths = (centred @ direction) * widen[controls.strata[here]]
        signature.scores[here] = lengths * scale
        along += float((lengths**2).sum())
    return float(np.sqrt(max(controls.spread**2 - along / counts.sum(), 0)))
