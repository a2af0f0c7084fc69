"""Which fields and files of a plate are bad, and in what way."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from phenopipe.plates import FieldKey, PlateKey, Well
from phenopipe.simulate.design import CHANNELS, Nuisances

KINDS = ("out_of_focus", "saturated", "missing", "truncated")

_ALL_WAVES = tuple(range(1, len(CHANNELS) + 1))


@dataclass(frozen=True)
class Fault:
    """What is wrong with one field, and in which waves."""

    field: FieldKey
    kind: str
    waves: tuple[int, ...]

    def list_rows(
        self, key: PlateKey, name_image: Callable[[PlateKey, FieldKey, int], str]
    ) -> list[dict[str, object]]:
        """Give the rows of the truth's table, one a file, under the vendor's name for it."""
        return [
            {
                "experiment": key.experiment,
                "plate": key.plate,
                "well": str(self.field.well),
                "field": self.field.field,
                "path": name_image(key, self.field, wave),
                "kind": self.kind,
            }
            for wave in self.waves
        ]


def choose_faults(
    wells: list[Well], rng: np.random.Generator, *, sites: int, nuisances: Nuisances
) -> list[Fault]:
    """Choose the plate's bad fields, each in a well of its own as far as there are wells.

    Returns
    -------
    list of Fault
        In the plate's order.
    """
    planned = [
        *[("out_of_focus", _ALL_WAVES)] * nuisances.out_of_focus,
        *[("saturated", _ALL_WAVES)] * nuisances.saturated,
        *[("missing", _ALL_WAVES)] * nuisances.missing_sites,
        *[("missing", None)] * nuisances.missing_files,
        *[("truncated", None)] * nuisances.truncated,
    ]
    chosen = rng.permutation(len(wells))[: len(planned)]
    faults = []
    for (kind, waves), index in zip(planned, chosen, strict=False):
        field = FieldKey(wells[index], int(rng.integers(1, sites + 1)))
        wave = (int(rng.integers(1, len(CHANNELS) + 1)),)
        faults.append(Fault(field, kind, waves or wave))
    return sorted(faults, key=lambda fault: fault.field)
