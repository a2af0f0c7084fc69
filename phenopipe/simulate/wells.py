"""Draw one well's fields and write them, sound or bad: the work of one process at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from phenopipe.plates import FieldKey, PlateKey, Well
from phenopipe.simulate.camera import Camera, set_up_camera
from phenopipe.simulate.cells import draw_field
from phenopipe.simulate.faults import Fault
from phenopipe.simulate.library import Gene, Perturbation, seeded
from phenopipe.simulate.phenotypes import Traits, draw_phenotype, draw_surroundings
from phenopipe.simulate.plan import Screen
from phenopipe.simulate.vendors import VENDORS

_KEPT_OF_TRUNCATED = 0.4


@dataclass(frozen=True)
class WellJob:
    """One well to draw: where, what was done to it, and its bad fields by site."""

    root: Path
    screen: Screen
    key: PlateKey
    well: Well
    perturbation: Perturbation
    gene: Gene | None
    faults: Mapping[int, Fault]


def write_well(job: WellJob) -> None:
    """Draw the well's fields and write their files."""
    screen, key = job.screen, job.key
    seed, nuisances = screen.seed, screen.nuisances
    traits = draw_phenotype(
        job.perturbation, job.gene, seed=seed, design=screen.design, nuisances=nuisances
    ) + draw_surroundings(key, job.well, wells=screen.wells, seed=seed, nuisances=nuisances)
    camera = set_up_camera(key, seed=seed, nuisances=nuisances)
    for site in range(1, screen.design.sites + 1):
        _write_field(job, site, traits, camera)


def _write_field(job: WellJob, site: int, traits: Traits, camera: Camera) -> None:
    design, field, fault = job.screen.design, FieldKey(job.well, site), job.faults.get(site)
    kind = fault.kind if fault else ""
    rng = seeded(job.screen.seed, "field", str(job.key), str(job.well), site)
    light = draw_field(traits, rng, design=design, in_focus=kind != "out_of_focus")
    vendor = VENDORS[job.screen.layout]
    pixels = camera.expose(light, rng, saturated=kind == "saturated")
    for wave, plane in enumerate(pixels, start=1):
        path = job.root / vendor.name_image(job.key, field, wave)
        is_hit = fault is not None and wave in fault.waves
        if is_hit and kind == "missing":
            continue
        vendor.write_image(path, plane, pixel_size_um=design.pixel_size_um)
        if is_hit and kind == "truncated":
            _truncate(path)


def _truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * _KEPT_OF_TRUNCATED)])
