"""What a screen holds, plate by plate, before a pixel is drawn."""

from dataclasses import dataclass

from phenopipe.plates import PlateKey, Well
from phenopipe.simulate.design import Nuisances, ScreenDesign
from phenopipe.simulate.faults import Fault, choose_faults
from phenopipe.simulate.library import Perturbation, list_perturbations, place_wells, seeded

SIMULATION_VERSION = 1
BATCHES = ("Batch1", "Batch2")
DEFAULT_LAYOUT = "imagexpress"
_PLATE = "Plate"


@dataclass(frozen=True)
class Screen:
    """All that determines the files of a screen."""

    plates: int
    wells: int
    seed: int
    design: ScreenDesign
    nuisances: Nuisances
    layout: str = DEFAULT_LAYOUT

    @property
    def keys(self) -> list[PlateKey]:
        """The plates: the first half in one batch, the others in the next."""
        half = (self.plates + 1) // 2
        return [PlateKey(BATCHES[i >= half], f"{_PLATE}{i + 1}") for i in range(self.plates)]

    def place(self, key: PlateKey) -> dict[Well, Perturbation]:
        """Lay out one plate: the whole library, in an order of its own."""
        rng = seeded(self.seed, "layout", str(key))
        return place_wells(list_perturbations(self.wells), rng)

    def faults(self, key: PlateKey) -> list[Fault]:
        """Choose one plate's bad fields."""
        rng = seeded(self.seed, "faults", str(key))
        design, wells = self.design, list(self.place(key))
        return choose_faults(wells, rng, sites=design.sites, nuisances=self.nuisances)

    def describe(self) -> dict[str, object]:
        """Say everything that the files depend on; the layout only where it is not the default.

        So screens that were drawn before there was a choice are still the same.
        """
        layout = {} if self.layout == DEFAULT_LAYOUT else {"layout": self.layout}
        return {
            "simulation_version": SIMULATION_VERSION,
            "plates": self.plates,
            "wells": self.wells,
            "seed": self.seed,
            "design": self.design.model_dump(),
            "nuisances": self.nuisances.model_dump(),
            **layout,
        }


def plate_number(key: PlateKey) -> int:
    """Count a plate of the screen from 1.

    Examples
    --------
    >>> plate_number(PlateKey("Batch2", "Plate3"))
    3
    """
    return int(key.plate.removeprefix(_PLATE))
