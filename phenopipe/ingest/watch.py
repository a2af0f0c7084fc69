"""A landing zone: which plates are complete and new, and what was delivered again.

A scan reads and never writes there. What was ingested is remembered in the lake
(`phenopipe.ingest.landing`), so that a folder that looks as it did then is not opened: a scan with
nothing new costs one look at each file.

What is decided here:

- A plate is complete when all images that the vendor's index (HTD, MLF, Harmony's XML) promises are
  there, or when nothing in its folder changed for `quiet_minutes`. An index that comes first
  promises early; without one, or where it comes last, quiet decides. So `quiet_minutes` must
  exceed the longest pause of a microscope or a copy, such as that between two time points.
- Quiet is measured between the folder's newest change, by the clock of the machine that holds it,
  and ours. A clock that is ahead makes a plate wait so much longer; one that is behind, so much
  less: let `quiet_minutes` exceed the difference. A plate that was ingested too early is told as
  changed when the rest arrives.
- Files of size 0 have not arrived.
- A plate that is published is held against its ledger where its folder does not look as it did. Of
  files with another time only, the content decides. Other content is told and never mixed in.
- A folder that holds a published plate's files under another name, its first folder being gone, was
  renamed: it is told, and not ingested a second time.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from distributed import Client

from phenopipe.compute import Progress
from phenopipe.config import IngestConfig
from phenopipe.errors import InputError
from phenopipe.ingest.arrival import Sighting
from phenopipe.ingest.detect import choose_layouts, recognise_folder
from phenopipe.ingest.landing import read_landed, record_landing
from phenopipe.ingest.layouts.folders import list_folder
from phenopipe.ingest.plate import ingest_plate
from phenopipe.ingest.tables import name_some
from phenopipe.ingest.zone import Zone
from phenopipe.lake import Lake, describe_counts

_log = logging.getLogger(__name__)

# Folders looked at together: over a network each look at a file waits for an answer.
_LOOKERS = 8
# Files that make a folder without a layout worth telling: somebody's images are not read.
_IMAGE_ENDINGS = (".tif", ".tiff", ".c01", ".flex")


def scan_landing(
    source: str | Path,
    lake: Lake,
    *,
    layout: str = "auto",
    pattern: str | None = None,
    quiet_minutes: float = 30.0,
    before: Sequence[Sighting] = (),
    now_s: float | None = None,
) -> list[Sighting]:
    """Look at every plate of a landing zone.

    The platemap of a plate is the one beside it, or else the one in the source.

    Parameters
    ----------
    source
        A folder of (folders of) plates.
    lake
        Where plates are published, and what was ingested is remembered.
    layout, pattern
        As in `phenopipe.ingest.detect.read_layout`.
    quiet_minutes
        How long nothing may change in a plate that is still being taken or copied.
    before
        What the scan before found, and what came of it: a plate that failed or was changed is not
        read again as long as it looks the same.
    now_s
        Seconds since 1970; the clock's if None.

    Returns
    -------
    list of Sighting
        One a plate, sorted by folder; and one for each folder of images that cannot be read. One
        bad folder never hides the others.

    Raises
    ------
    InputError
        If the source is not there or cannot be read, or the layout is unknown.
    """
    source = Path(source).absolute()
    list_folder(source)
    zone = Zone(
        source=source,
        lake=lake,
        layout=layout,
        pattern=pattern,
        layouts=choose_layouts(layout, pattern),
        quiet_s=60 * quiet_minutes,
        now_s=time.time() if now_s is None else now_s,
        landed=read_landed(lake),
        before=before,
    )
    found = list(_find_folders(source, zone))
    plates = [folder for folder in found if isinstance(folder, Path)]
    with ThreadPoolExecutor(_LOOKERS) as pool:
        seen = list(pool.map(partial(_look, zone=zone), plates))
    seen += [one for one in found if isinstance(one, Sighting)]
    return sorted(_refuse_twins(seen), key=lambda sighting: sighting.folder)


def ingest_sighting(
    sighting: Sighting,
    lake: Lake,
    *,
    client: Client,
    config: IngestConfig,
    on_progress: Progress | None = None,
) -> Sighting:
    """Ingest a complete plate and remember how its folder looked.

    Returns
    -------
    Sighting
        The same plate, ``ingested`` or ``failed`` with the reason.
    """
    try:
        ref = ingest_plate(
            sighting.folder,
            lake,
            client=client,
            config=config,
            platemap=sighting.platemap,
            on_progress=on_progress,
        )
        remember_sighting(sighting, lake)
    except InputError as error:
        return replace(sighting, state="failed", why=str(error))
    except OSError as error:
        # A disk or network may be back at the next scan: so the plate does not count as tried.
        return replace(sighting, state="failed", why=str(error), snapshot=None)
    return replace(sighting, state="ingested", why=describe_counts(ref.counts))


def remember_sighting(sighting: Sighting, lake: Lake) -> None:
    """Remember how a plate's folder looked before it was ingested, now that it is published."""
    if sighting.key is None or sighting.snapshot is None:
        raise ValueError(f"{sighting.folder} was not complete")
    look = sighting.platemap_look
    record_landing(lake, sighting.key, sighting.folder, sighting.snapshot, platemap=look)


def _find_folders(folder: Path, zone: Zone) -> Iterator[Path | Sighting]:
    """Give the plates' folders, and a sighting of each folder that cannot be searched."""
    if folder in zone.by_folder:
        yield folder
        return
    if str(folder) == zone.lake.root:
        return
    try:
        # What holds a plate is none: a layout need not look through it.
        if folder not in zone.containers and recognise_folder(folder, zone.layouts):
            yield folder
            return
        files, inner = list_folder(folder)
    except Exception as error:  # noqa: BLE001
        yield _tell(folder, error)
        return
    if folder.suffix == ".zarr":
        return
    shown = [name for name in inner if not name.startswith(".")]
    found = [one for name in shown for one in _find_folders(folder / name, zone)]
    images = [name for name in files if name.lower().endswith(_IMAGE_ENDINGS)]
    yield from found
    if images and not found:
        yield _look(folder, zone)


def _look(folder: Path, zone: Zone) -> Sighting:
    try:
        return zone.look(folder)
    except Exception as error:  # noqa: BLE001
        return _tell(folder, error)


def _tell(folder: Path, error: Exception) -> Sighting:
    """Tell why a folder cannot be read: a fault of ours that it shows must not stop the others."""
    if isinstance(error, InputError | OSError):
        return Sighting(folder, "refused", str(error))
    _log.error("%s", folder, exc_info=error)
    fault = f"{type(error).__name__}: {error}"
    return Sighting(folder, "refused", f"met a fault of the software ({fault}): please report it")


def _refuse_twins(sightings: Sequence[Sighting]) -> Iterator[Sighting]:
    """Refuse new plates that would be published under one name."""
    folders: dict[object, list[Path]] = {}
    for sighting in sightings:
        if sighting.state in ("arriving", "complete") and sighting.key and not sighting.published:
            folders.setdefault(sighting.key, []).append(sighting.folder)
    for sighting in sightings:
        twins = folders.get(sighting.key, [])
        if len(twins) > 1 and sighting.folder in twins:
            why = (
                f"expected one folder for {sighting.key}, found "
                f"{name_some([str(folder) for folder in twins])}: give each plate a name of its own"
            )
            yield replace(sighting, state="refused", why=why)
        else:
            yield sighting
