"""A screen with known truth, written as the files of a microscope."""

import json
import multiprocessing
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from phenopipe.compute import Progress, usable_cores
from phenopipe.errors import InputError
from phenopipe.simulate.design import Nuisances, ScreenDesign
from phenopipe.simulate.library import list_genes, list_perturbations
from phenopipe.simulate.plan import BATCHES, DEFAULT_LAYOUT, Screen
from phenopipe.simulate.truth import TRUTH_DRAFT, write_truth
from phenopipe.simulate.vendors import VENDORS
from phenopipe.simulate.wells import WellJob, write_well

_WELLS_A_TASK = 8


def simulate_screen(
    folder: str | Path,
    *,
    layout: str = DEFAULT_LAYOUT,
    plates: int = 4,
    wells: int = 384,
    seed: int = 0,
    design: ScreenDesign | None = None,
    nuisances: Nuisances | None = None,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> Path:
    """Draw a screen whose truth is known, and write it as a microscope's files.

    Each plate holds the whole library: two guides a gene, genes of one pathway with one
    phenotype, silent genes with none, and controls. Each gene also has its chromosome arm's
    spurious phenotype. The truth lies in ``truth/``; ``truth.json`` is written last, so a screen
    without it is not complete, and is drawn anew. The same arguments give the same bytes,
    whatever the number of workers.

    Parameters
    ----------
    folder
        New or empty, or of a screen that was cut short; a complete one with the same
        arguments is left as it is.
    layout
        The vendor's layout: ``imagexpress``, ``harmony``, or ``rxrx`` (PNG, and the platemap as
        ``metadata.csv``). The pixels are the same in each.
    plates
        Their number; spread over two batches.
    wells
        Wells a plate, 96 or 384.
    workers
        Processes; by default the number of cores.
    on_progress
        Called with the wells done and their number.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If an argument is out of range, or the folder holds something else.
    """
    screen = _check_arguments(layout, plates, wells, seed, design, nuisances)
    root = Path(folder)
    if _is_complete(root, screen):
        return root
    _start_anew(root)
    for key in screen.keys:
        VENDORS[layout].write_plan(root, key, wells=wells, design=screen.design)
    _write_images(root, screen, workers=workers or usable_cores(), on_progress=on_progress)
    write_truth(root, screen)
    return root


def _check_arguments(
    layout: str,
    plates: int,
    wells: int,
    seed: int,
    design: ScreenDesign | None,
    nuisances: Nuisances | None,
) -> Screen:
    if layout not in VENDORS:
        raise InputError(
            f"expected layout {' or '.join(VENDORS)}, found {layout!r}: choose one of these"
        )
    if plates < 1 or seed < 0:
        raise InputError(
            f"expected 1 or more plates and a seed of 0 or more, found {plates} and {seed}"
        )
    list_perturbations(wells)  # raises for other sizes, before anything is written
    return Screen(plates, wells, seed, design or ScreenDesign(), nuisances or Nuisances(), layout)


def _is_complete(root: Path, screen: Screen) -> bool:
    path = root / "truth" / "truth.json"
    if not path.is_file():
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"expected JSON in {path}, found {error}: delete this screen") from error
    wanted = screen.describe()
    names = dict.fromkeys([*wanted, "layout"])
    differing = [name for name in names if found.get(name) != wanted.get(name)]
    if differing:
        raise InputError(
            f"expected an empty folder or the same screen in {root}, found one with another "
            f"{', '.join(differing)}: give another folder, or delete this one"
        )
    return True


def _start_anew(root: Path) -> None:
    """Mark the folder as a screen's, and remove what a run that was cut short left in it."""
    is_new = not root.exists() or (root.is_dir() and not any(root.iterdir()))
    draft = root / "truth" / TRUTH_DRAFT
    if not is_new and not draft.is_file():
        raise InputError(f"expected an empty folder in {root}, found files: give another folder")
    draft.parent.mkdir(parents=True, exist_ok=True)
    draft.touch()
    for batch in BATCHES:
        shutil.rmtree(root / batch, ignore_errors=True)


def _write_images(
    root: Path, screen: Screen, *, workers: int, on_progress: Progress | None
) -> None:
    jobs = list(_list_jobs(root, screen))
    for done, _ in enumerate(_map(jobs, workers), start=1):
        if on_progress:
            on_progress(done, len(jobs))


def _list_jobs(root: Path, screen: Screen) -> Iterator[WellJob]:
    genes = {gene.symbol: gene for gene in list_genes(screen.wells)}
    for key in screen.keys:
        faults = {fault.field: fault for fault in screen.faults(key)}
        for well, perturbation in screen.place(key).items():
            own = {field.field: fault for field, fault in faults.items() if field.well == well}
            gene = genes.get(perturbation.gene)
            yield WellJob(root, screen, key, well, perturbation, gene, own)


def _map(jobs: list[WellJob], workers: int) -> Iterator[None]:
    if workers == 1:
        yield from map(write_well, jobs)
        return
    # Spawned, not forked: the caller may run threads (a progress bar), which a fork would break.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(write_well, jobs, chunksize=_WELLS_A_TASK)
