r"""Molecular Devices ImageXpress, as MetaXpress writes it: exported or straight from its database.

Two structures on disk are one layout: ``<plate>/<plate>.HTD, [TimePoint_n/][ZStep_n/]…`` as
exported, and ``<plate>/<yyyy-mm-dd>/<acquisition>/[TimePoint_n/][ZStep_n/]…`` of the database,
whose file names end in a GUID glued to the last token. Names are
``<plate>_<well>[_s<site>][_w<wave>][_thumb][GUID].tif``.

What is decided here, where the vendor leaves it open:

- t counts from 0 at ``TimePoint_1`` (or ``TimePoint_0`` where there is one).
- z is the rank of the ``ZStep_n`` folder among those found, from 0: exports start at ``ZStep_0``,
  databases at ``ZStep_1``. A gap between the folders is told in `missing`.
- A file outside any ``ZStep_n`` folder has no z: it is a projection or a single plane, an
  acquisition of its own beside the z-stack.
- No ``_s`` token is site 1, no ``_w`` token is wave 1.
- A channel's label is its WaveName in the HTD file, else the illumination setting in its first
  TIFF, else ``w<n>``. Where two waves share a name, the wave is added: ``FITC_05_w1``.
- The plate's name is the one in the file names where the folder, or one of two above it, bears
  that name; else it is the folder's: plates exported under one name stay apart.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phenopipe.errors import InputError
from phenopipe.ingest.image_fault import ImageFault
from phenopipe.ingest.index import ImageFile, PlateIndex, find_absent, sort_images
from phenopipe.ingest.layouts.absence import list_absent, list_gaps
from phenopipe.ingest.layouts.duplicates import refuse_duplicates
from phenopipe.ingest.layouts.folders import list_folder, walk_files
from phenopipe.ingest.layouts.htd import AcquisitionPlan, read_plan
from phenopipe.ingest.layouts.labels import label_channels
from phenopipe.ingest.layouts.shape import fit_shape
from phenopipe.ingest.metaseries import read_metaseries
from phenopipe.plates import FieldKey, Well

# A GUID has a fixed length, so digits that are glued to it are told from its own: `_w2` in
# `_w2045200D6-DAE1-4224-AFDE-9EFD107D85EB`.
_NAME = re.compile(
    r"(?P<plate>.+?)_(?P<well>[A-Z]{1,2}\d{2})(?:_s(?P<site>\d{1,4}?))?(?:_w(?P<wave>\d{1,3}?))?"
    r"(?P<thumb>_thumb)?_?\[?(?P<guid>[0-9A-F]{8}-(?:[0-9A-F]{4}-){3}[0-9A-F]{12})?\]?\.tiff?",
    re.IGNORECASE | re.ASCII,
)
_INNER = re.compile(
    r"(?:\d{4}-\d{2}-\d{2}/(?:\d+/)?)?(?:TimePoint_(?P<time>\d{1,6})/)?(?:ZStep_(?P<step>\d{1,6})/)?",
    re.IGNORECASE | re.ASCII,
)
# How many files of a channel are opened for its name before giving up on damaged ones.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class _Found:
    """One image file as its name and folders tell, before z and t are counted from 0.

    `bare` says that the name tells nothing but a plate and a well.
    """

    path: str
    plate: str
    well: Well
    site: int
    wave: str
    step: int | None
    time: int | None
    bare: bool


@dataclass(frozen=True)
class _Facts:
    """What a channel's TIFF tells: the illumination setting's name and the pixel's side."""

    wave_name: str = ""
    pixel_size_um: float | None = None


class ImageXpress:
    """The layout of MetaXpress, exported or from its database; see the module's text."""

    name = "imagexpress"

    def recognise(self, folder: Path) -> str | None:
        """Say why the folder is an ImageXpress plate; None where no file is named like one.

        Pictures of many kinds are named like ``<plate>_<well>.tif``: where a name has no site,
        wave or GUID, an HTD file must lie in the folder too.
        """
        htd = bare = None
        for path in _walk_inner(folder):
            image = _classify(path)
            if isinstance(image, _Found) and not image.bare:
                return f"{path} is named <plate>_<well>[_s<site>][_w<wave>].tif"
            htd = htd or (path if _is_htd(path) else None)
            bare = bare or (path if isinstance(image, _Found) else None)
            if htd and bare:
                return f"{bare} is named <plate>_<well>.tif, and {htd} is there"
        return None

    def read(self, folder: Path) -> PlateIndex:
        """Index every file of one ImageXpress plate's folder.

        Raises
        ------
        InputError
            If the folder holds no plate, two plates, or two files for the same image, or if a
            well lies outside the plate that the HTD file describes.
        """
        found, ignored, plans = _sort_files(folder)
        if not found:
            raise InputError(
                f"expected images named <plate>_<well>[_s<site>][_w<wave>].tif in {folder}, found "
                f"none among {len(ignored)} files: give the plate's own folder"
            )
        plate = _one_plate(found, folder)
        htd = _choose_plan(plans, plate, folder)
        plan, unread = _try_plan(folder, htd)
        waves = sorted({image.wave for image in found}, key=int)
        images = sort_images(_count_from_zero(found), waves)
        refuse_duplicates(images, folder, prefix="w")
        facts = {wave: _read_facts(folder, images, wave) for wave in waves}
        absent = _find_absent(images, plan, waves)
        return PlateIndex(
            folder=folder,
            layout=self.name,
            reason=self.recognise(folder) or "its files are named like one",
            plate=_plate_name(folder, plate),
            images=images,
            channels=_label_channels(waves, plan, facts),
            shape=fit_shape(
                {image.well for image in images},
                plan.shape if plan else None,
                by=plan.name if plan else "",
                folder=folder,
            ),
            ignored=tuple(sorted(ignored)),
            missing=(*unread, *_list_missing(found, images, absent, plan)),
            absent=absent,
            pixel_size_um=next((f.pixel_size_um for f in facts.values() if f.pixel_size_um), None),
            metadata_files=tuple(sorted(plans)),
            expected=plan.n_images if plan else None,
        )


def _is_htd(path: str) -> bool:
    return path.lower().endswith(".htd") and not path.rpartition("/")[2].startswith(".")


def _walk_inner(folder: Path, inner: str = "") -> Iterator[str]:
    files, folders = list_folder(folder / inner)
    yield from (inner + name for name in files)
    for name in folders:
        if _INNER.fullmatch(f"{inner}{name}/"):
            yield from _walk_inner(folder, f"{inner}{name}/")


def _sort_files(folder: Path) -> tuple[list[_Found], list[tuple[str, str]], list[str]]:
    """Part the folder's files into images, ignored ones with their reason, and HTD files."""
    found: list[_Found] = []
    ignored: list[tuple[str, str]] = []
    plans: list[str] = []
    for path in walk_files(folder):
        if _is_htd(path):
            plans.append(path)
            continue
        image = _classify(path)
        if isinstance(image, _Found):
            found.append(image)
        else:
            ignored.append((path, image))
    return found, ignored, plans


def _classify(path: str) -> _Found | str:
    """Read an image file's name and place, or say why it is none of the plate's images."""
    folder, _, name = path.rpartition("/")
    place = _INNER.fullmatch(f"{folder}/" if folder else "")
    match = _NAME.fullmatch(name)
    if name.startswith("."):
        return "hidden file"
    if match is None:
        return "not named <plate>_<well>[_s<site>][_w<wave>].tif"
    if match["thumb"]:
        return "thumbnail"
    if place is None:
        return "outside the plate's TimePoint_n and ZStep_n folders"
    try:
        well = Well.parse(match["well"])
    except InputError:
        return f"no plate has a well {match['well']}"
    return _Found(
        path=path,
        plate=match["plate"],
        well=well,
        site=int(match["site"] or 1),
        wave=str(int(match["wave"] or 1)),
        step=None if place["step"] is None else int(place["step"]),
        time=None if place["time"] is None else int(place["time"]),
        bare=not (match["site"] or match["wave"] or match["guid"]),
    )


def _one_plate(found: Sequence[_Found], folder: Path) -> str:
    first = {image.plate: image.path for image in reversed(found)}
    if len(first) > 1:
        shown = ", ".join(f"{plate} ({path})" for plate, path in sorted(first.items())[:5])
        raise InputError(
            f"expected the images of one plate in {folder}, found {len(first)}: {shown}: "
            "give each plate a folder of its own"
        )
    return next(iter(first))


def _plate_name(folder: Path, plate: str) -> str:
    """Name a plate as its files do where its folder or one above bears that name, else by folder.

    An export may write any name into its files, so plates side by side may share one.
    """
    path = folder.resolve()
    above = (path, *path.parents[:2])
    return plate if plate in {parent.name for parent in above} else path.name


def _choose_plan(plans: Sequence[str], plate: str, folder: Path) -> str | None:
    """Take the HTD file nearest to the top: MetaXpress copies it into each inner folder."""
    top = min((path.count("/") for path in plans), default=0)
    nearest = [path for path in plans if path.count("/") == top]
    named = [path for path in nearest if Path(path).stem == plate] or nearest
    if len(named) > 1:
        raise InputError(
            f"expected one HTD file for {plate} in {folder}, found {', '.join(named[:5])}: "
            "leave the one that describes the plate"
        )
    return named[0] if named else None


def _try_plan(folder: Path, htd: str | None) -> tuple[AcquisitionPlan | None, list[str]]:
    """Read the HTD file; one that is damaged costs its promises, which is said, not the plate."""
    if htd is None:
        return None, []
    try:
        return read_plan(folder / htd), []
    except InputError as error:
        return None, [f"a readable {htd}: {error}"]


def _count_from_zero(found: Sequence[_Found]) -> list[ImageFile]:
    steps = sorted({image.step for image in found if image.step is not None})
    z = {step: rank for rank, step in enumerate(steps)}
    start = _first_time(found)
    return [
        ImageFile(
            path=image.path,
            well=image.well,
            field=image.site,
            channel=image.wave,
            z=None if image.step is None else z[image.step],
            t=None if image.time is None else image.time - start,
        )
        for image in found
    ]


def _first_time(found: Iterable[_Found]) -> int:
    return min(1, min((image.time for image in found if image.time is not None), default=1))


def _read_facts(folder: Path, images: Sequence[ImageFile], wave: str) -> _Facts:
    """Ask the first files of a channel for its name and pixel size; damaged ones say nothing."""
    for image in [image for image in images if image.channel == wave][:_TRIES]:
        try:
            plane, tagged_um = read_metaseries(folder / image.path)
        except ImageFault:
            continue
        return _Facts(
            wave_name=str(plane.get("_IllumSetting_", "")).strip(),
            pixel_size_um=_calibrated_um(plane) or tagged_um,
        )
    return _Facts()


def _calibrated_um(plane: Mapping[str, Any]) -> float | None:
    size = plane.get("spatial-calibration-x")
    in_um = plane.get("spatial-calibration-units") in {"um", "µm"}
    return size if in_um and isinstance(size, float) and size > 0 else None


def _label_channels(
    waves: Sequence[str], plan: AcquisitionPlan | None, facts: Mapping[str, _Facts]
) -> dict[str, str]:
    promised = plan.waves if plan else {}
    names = {wave: promised.get(wave) or facts[wave].wave_name for wave in waves}
    return label_channels(names, prefix="w")


def _find_absent(
    images: Sequence[ImageFile], plan: AcquisitionPlan | None, waves: Sequence[str]
) -> tuple[ImageFile, ...]:
    """Expect each site in each well: of those that the HTD file promises, or of those found."""
    wells = {image.well for image in images} | (plan.wells if plan else frozenset())
    sites = {image.field for image in images} | set(range(1, plan.n_sites + 1) if plan else ())
    expected = [FieldKey(well, site) for well in wells for site in sites]
    return sort_images(find_absent(images, expected), waves)


def _list_missing(
    found: Sequence[_Found],
    images: Sequence[ImageFile],
    absent: Sequence[ImageFile],
    plan: AcquisitionPlan | None,
) -> list[str]:
    steps = [image.step for image in found if image.step is not None]
    return [
        *(_list_broken_promises(found, images, plan) if plan else ()),
        *list_gaps(steps, kind="z-steps", spell="ZStep_{}"),
        *list_absent(images, absent, prefix="w"),
    ]


def _list_broken_promises(
    found: Sequence[_Found], images: Sequence[ImageFile], plan: AcquisitionPlan
) -> Iterator[str]:
    where = f"promised by {plan.name}: no image"
    waves = {image.channel for image in images}
    yield from (f"wave w{w} ({name}) {where}" for w, name in plan.waves.items() if w not in waves)
    start = _first_time(found)
    times = {image.time if image.time is not None else start for image in found}
    for time in range(start, start + plan.n_times):
        if time not in times:
            yield f"time point {time} of {plan.n_times} {where}"
    steps = {image.step for image in found if image.step is not None}
    if len(steps) < plan.n_steps:
        yield f"{plan.n_steps - len(steps)} of {plan.n_steps} z-steps {where}"
