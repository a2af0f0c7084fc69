"""The negative controls that a well stands beside: their mean, their spread, and where they are.

A well is compared with the controls of its own plate, so that what is left of a plate's effect
after alignment is not taken for the perturbation's. Where a plate has too few of them, the wells
of its whole experiment are compared with all controls of the experiment, and the tables say so.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from phenopipe.errors import InputError
from phenopipe.profiles import WellProfiles
from phenopipe.stats import Floats, Indices


@dataclass(frozen=True)
class _Plate:
    """Negative controls of one plate: number, mean, squared distances from the mean added up."""

    count: int
    mean: Floats
    scatter: float

    def joined(self, other: "_Plate") -> "_Plate":
        total, shift = self.count + other.count, other.mean - self.mean
        between = float(shift @ shift) * self.count * other.count / total
        mean = self.mean + shift * (other.count / total)
        return _Plate(total, mean, self.scatter + other.scatter + between)


@dataclass(frozen=True)
class Controls:
    """Negative controls by *stratum*: a plate, or an experiment.

    Attributes
    ----------
    strata
        Each well's stratum, 0 … s - 1, shape (n,); -1 where it has no controls.
    wells
        Row numbers of each stratum's controls.
    centres
        Their means, shape (s, k).
    noise
        What two wells of a stratum share as they are centred on the same mean: the squared
        length of that mean's error, shape (s,).
    spread
        How far a control lies from its stratum's mean: root mean square over all.
    by_plate
        Whether a stratum is a plate, shape (s,).
    plates
        Each well's plate by number, shape (n,).
    """

    strata: Indices
    wells: list[Indices]
    centres: Floats
    noise: Floats
    spread: float
    by_plate: list[bool]
    plates: Indices

    def centre(self, values: Floats, wells: Indices) -> Floats:
        """Take each well's controls' mean from its vector, shape (m, k)."""
        return values - self.centres[self.strata[wells]]

    def matched(self, wells: Indices) -> Indices:
        """Keep the wells that have controls."""
        return wells[self.strata[wells] >= 0]

    def describe(self, wells: Indices) -> str:
        """Say what the wells' controls share with them: ``plate``, ``experiment`` or ``both``."""
        found = {self.by_plate[stratum] for stratum in self.strata[wells].tolist()}
        return "both" if len(found) > 1 else "plate" if found == {True} else "experiment"

    def sample(self, strata: Indices, *, n: int, seed: int) -> Indices:
        """Choose up to n controls of some strata, as many of each as can be; the same each time."""
        share = max(n // len(strata), 1)
        return np.concatenate([self._sample(int(one), share, seed) for one in strata])

    def _sample(self, stratum: int, n: int, seed: int) -> Indices:
        wells = self.wells[stratum]
        if len(wells) <= n:
            return wells
        return np.sort(np.random.default_rng([seed, stratum]).choice(wells, n, replace=False))


def measure_controls(wells: WellProfiles, facts: pd.DataFrame, *, min_controls: int) -> Controls:
    """Measure the negative controls plate by plate, and say which a well is compared with.

    Parameters
    ----------
    wells
        The map's wells; read once, a plate at a time.
    facts
        From :func:`phenopipe.hits.groups.describe_wells`.
    min_controls
        Controls that each plate of an experiment must have to be a stratum of its own.

    Raises
    ------
    InputError
        If no stratum has so many controls.
    """
    negative = facts["negative"].to_numpy(dtype=bool)
    by_plate = _choose_by_plate(facts, min_controls)
    names = facts["plate"].where(facts["experiment"].map(by_plate), facts["experiment"])
    counts = names[negative].value_counts()
    kept = sorted(counts.index[counts >= max(min_controls, 2)])
    if not kept:
        raise InputError(
            f"expected {min_controls} negative control wells on a plate or in an experiment, found "
            f"at most {counts.max() if len(counts) else 0}: set control_type in the platemap, or "
            "ask for fewer with hits.min_controls"
        )
    strata = pd.Index(kept).get_indexer(names).astype(np.int64)
    measured = _add_up(_measure_plates(wells, strata, negative))
    plates = [measured[stratum] for stratum in range(len(kept))]
    scatter, freedom = sum(p.scatter for p in plates), sum(p.count - 1 for p in plates)
    experiments = set(facts["experiment"])
    return Controls(
        strata=strata,
        wells=[np.flatnonzero(negative & (strata == stratum)) for stratum in range(len(kept))],
        centres=np.array([p.mean for p in plates]),
        noise=np.array([p.scatter / (p.count - 1) / p.count for p in plates]),
        spread=float(np.sqrt(scatter / freedom)),
        by_plate=[name not in experiments for name in kept],
        plates=pd.factorize(facts["plate"])[0].astype(np.int64),
    )


def _choose_by_plate(facts: pd.DataFrame, min_controls: int) -> "pd.Series[bool]":
    """Tell of each experiment whether all its plates have controls enough."""
    enough = facts.groupby(["experiment", "plate"])["negative"].sum() >= max(min_controls, 2)
    return enough.groupby(level="experiment").all()


def _measure_plates(
    wells: WellProfiles, strata: Indices, negative: np.ndarray
) -> Iterator[tuple[int, _Plate]]:
    for rows, values in wells.plates():
        index = rows.index.to_numpy()
        places = np.flatnonzero(negative[index] & (strata[index] >= 0))
        if places.size:
            controls = values[places].astype(np.float64)
            mean = controls.mean(axis=0)
            scatter = float(((controls - mean) ** 2).sum())
            # A plate lies in one stratum.
            yield int(strata[index[places[0]]]), _Plate(len(controls), mean, scatter)


def _add_up(plates: Iterator[tuple[int, _Plate]]) -> dict[int, _Plate]:
    """Merge plates into strata (Chan, Golub & LeVeque 1983), in the file's order."""
    merged: dict[int, _Plate] = {}
    for stratum, plate in plates:
        before = merged.get(stratum)
        merged[stratum] = plate if before is None else before.joined(plate)
    return merged
