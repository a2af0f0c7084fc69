r"""Yokogawa CellVoyager: CV7000 and CV8000.

``<name>_<yyyymmdd>_<hhmmss>/<plate>/`` holds ``MeasurementData.mlf``, ``MeasurementDetail.mrf``,
a ``.mes``, the correction images (``DC_…`` dark, ``SC_…`` shading), and one file an image,
``<plate>_D08_T0001F001L01A01Z01C01.tif``: time, field, timeline, action, plane, channel. Either
folder is the plate.

What is decided here, where the vendor leaves it open:

- The ``.mlf`` says what each file is; a file that it does not list is no image of the plate.
  Where there is none, or one that cannot be read, the names alone say it.
- A channel is its number, labelled by its fluorophore or target in the ``.mes``, else ``C1``.
- z is the rank of the plane, t that of the time point. How timelines and actions of one protocol
  are told apart stands with `order_shots`.
- A field's place is that of its first image, from the well's centre, y turned to grow downwards.
- The plate's name is the sample plate's in the ``.mrf``, or the measurement's title where the
  former is just a product (``AssayPlate_Greiner_#655090``); else the folder's.
- Labs keep the TIFFs compressed as PNGs beside an unchanged ``.mlf``: a ``.png`` stands for the
  ``.tif`` listed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from phenopipe.errors import InputError
from phenopipe.ingest.index import PlateIndex
from phenopipe.ingest.layouts.absence import list_gaps
from phenopipe.ingest.layouts.cellvoyager_index import (
    Detail,
    Shot,
    is_mlf,
    order_shots,
    read_mes,
    read_mlf,
    read_mrf,
)
from phenopipe.ingest.layouts.folders import list_folder, walk_files
from phenopipe.ingest.layouts.listing import Listing, index_plate
from phenopipe.ingest.layouts.records import ImageRecord
from phenopipe.plates import Well

_T = TypeVar("_T")

_NAME = re.compile(
    r"(?P<plate>.+)_(?P<well>[A-Z]{1,2}\d{2})_T(?P<time>\d{4})F(?P<field>\d{3,4})L(?P<timeline>\d{2})"
    r"A(?P<action>\d{2})Z(?P<plane>\d{2,3})C(?P<channel>\d{2})\.(?:tiff?|png)",
    re.IGNORECASE | re.ASCII,
)
_SPELLED = "<plate>_<well>_T<time>F<field>L<timeline>A<action>Z<plane>C<channel>.tif"
_CORRECTION = re.compile(r"(?:DC|SC)_.*\.tiff?", re.IGNORECASE | re.DOTALL)
_MLF, _MRF = "measurementdata.mlf", "measurementdetail.mrf"
_SETTINGS = (".mes", ".mrf", ".mlf", ".wpi", ".wpp", ".xml", ".log")
_DATED = re.compile(r".*\d{8}_\d{6}", re.DOTALL)
_PRODUCT = re.compile(r"AssayPlate_.*", re.IGNORECASE | re.DOTALL)


class CellVoyager:
    """The layout of CV7000 and CV8000; see the module's text."""

    name = "cellvoyager"

    def recognise(self, folder: Path) -> str | None:
        """Say why the folder, or the one inside it, is a plate of a CellVoyager; None if neither.

        The folder above the plate's is its own only where it bears the date and time of the
        measurement and holds that one folder.
        """
        inner = _find_images(folder)
        return None if inner is None else _recognise(folder, inner)

    def read(self, folder: Path) -> PlateIndex:
        """Index every file of one CellVoyager plate's folder.

        Raises
        ------
        InputError
            If the folder holds no image of a CellVoyager, two files for the same image, or a
            well that lies off the plate.
        """
        inner = _find_images(folder) or ""
        paths = list(walk_files(folder))
        listing = _make_listing(folder, inner, paths)
        found = _find_files(listing.records, paths)
        if not found:
            raise InputError(_say_nothing_found(folder, listing))
        used = {record.path for record in found} | set(listing.metadata_files)
        return index_plate(
            listing,
            found,
            folder=folder,
            layout=self.name,
            reason=self.recognise(folder) or "its files are named like one",
            prefix="C",
            ignored=[
                (path, _why_ignored(path, inner, listing)) for path in paths if path not in used
            ],
        )


def _find_images(folder: Path) -> str | None:
    """Find where the plate's images lie: in the folder (``""``) or in the only one inside it."""
    if _recognise(folder, "") is not None:
        return ""
    _, folders = list_folder(folder)
    if len(folders) != 1 or not _DATED.fullmatch(folder.resolve().name):
        return None
    inner = f"{folders[0]}/"
    return None if _recognise(folder, inner) is None else inner


def _recognise(folder: Path, inner: str) -> str | None:
    files, _ = list_folder(folder / inner)
    mlf = next((name for name in files if name.lower() == _MLF), None)
    if mlf and is_mlf(folder / inner / mlf):
        return f"{inner}{mlf} lists the images of a CellVoyager"
    named = next((name for name in files if _NAME.fullmatch(name)), None)
    return None if named is None else f"{inner}{named} is named {_SPELLED}"


def _make_listing(folder: Path, inner: str, paths: Sequence[str]) -> Listing:
    """Read the three files; one that is damaged or not there costs what it alone knows."""
    own = [path for path in paths if path.rpartition("/")[0] == inner.rstrip("/")]
    by_name = {path.removeprefix(inner).lower(): path for path in own}
    lacking: list[str] = []
    mlf, mrf = by_name.get(_MLF), by_name.get(_MRF)
    measurement = _try(read_mlf, folder, mlf, "MeasurementData.mlf: places and times", lacking)
    detail = _try(read_mrf, folder, mrf, "MeasurementDetail.mrf: pixel size", lacking)
    mes = _choose_settings(own, by_name, detail)
    names = _try(read_mes, folder, mes, "a .mes: channels' names", lacking)
    shots = measurement.shots if measurement else _read_names(own)
    records = [replace(record, path=inner + record.path) for record in order_shots(shots)]
    return Listing(
        by=mlf if mlf and measurement else "",
        records=tuple(records),
        plate=_name_plate(folder, inner, detail),
        names=names or {},
        shape=detail.shape if detail else None,
        shape_by=mrf or "",
        pixel_size_um=detail.pixel_size_um({r.channel for r in records}) if detail else None,
        lacking=(*lacking, *(measurement.failures if measurement else _list_gaps(shots))),
        failed=measurement.failed if measurement else frozenset(),
        metadata_files=tuple(path for path in (mlf, mrf, mes) if path),
    )


def _try(
    read: Callable[[Path], _T], folder: Path, path: str | None, what: str, lacking: list[str]
) -> _T | None:
    if path is None:
        lacking.append(what)
        return None
    try:
        return read(folder / path)
    except InputError as error:
        lacking.append(f"a readable {path}: {error}")
        return None


def _choose_settings(
    own: Sequence[str], by_name: Mapping[str, str], detail: Detail | None
) -> str | None:
    """Take the settings that the ``.mrf`` names, or the only ones that are there."""
    if detail and (named := by_name.get(detail.settings.lower())):
        return named
    found = [path for path in own if path.lower().endswith(".mes")]
    return found[0] if len(found) == 1 else None


def _read_names(own: Sequence[str]) -> tuple[Shot, ...]:
    read = [_read_name(path.rpartition("/")[2]) for path in own]
    return tuple(shot for shot in read if isinstance(shot, Shot))


def _read_name(name: str) -> Shot | str:
    """Read an image file's name, or say why it is none of the plate's images."""
    match = _NAME.fullmatch(name)
    if name.startswith("."):
        return "hidden file"
    if match is None:
        return f"not named {_SPELLED}"
    try:
        well = Well.parse(match["well"])
    except InputError:
        return f"no plate has a well {match['well']}"
    return Shot(
        path=name,
        well=well,
        field=int(match["field"]),
        channel=str(int(match["channel"])),
        timeline=int(match["timeline"]),
        action=int(match["action"]),
        time=int(match["time"]),
        plane=int(match["plane"]),
    )


def _list_gaps(shots: Sequence[Shot]) -> list[str]:
    return [
        *list_gaps([shot.plane for shot in shots], kind="planes", spell="Z{:02}"),
        *list_gaps([shot.time for shot in shots], kind="time points", spell="T{:04}"),
    ]


def _find_files(records: Sequence[ImageRecord], paths: Sequence[str]) -> list[ImageRecord]:
    there = set(paths)
    found = []
    for record in records:
        packed = record.path.rpartition(".")[0] + ".png"
        if record.path in there:
            found.append(record)
        elif packed in there:
            found.append(replace(record, path=packed))
    return found


def _why_ignored(path: str, inner: str, listing: Listing) -> str:
    place, _, name = path.rpartition("/")
    read = _read_name(name)
    if _CORRECTION.fullmatch(name):
        return "correction image"
    if name.lower().endswith(_SETTINGS):
        return "the microscope's own settings and logs"
    if isinstance(read, str):
        return read
    if place != inner.rstrip("/"):
        return "outside the folder of the plate's images"
    return f"not listed in {listing.by}"


def _name_plate(folder: Path, inner: str, detail: Detail | None) -> str:
    told = detail.plate if detail else ""
    if detail and detail.title and (not told or _PRODUCT.fullmatch(told)):
        return detail.title
    return told or inner.rstrip("/") or folder.resolve().name


def _say_nothing_found(folder: Path, listing: Listing) -> str:
    if listing.records:
        return (
            f"expected the {len(listing.records)} images that {listing.by} lists in {folder}, "
            f"found none of them (first: {listing.records[0].path}): copy the plate's images "
            f"beside {listing.by}"
        )
    return (
        f"expected images named {_SPELLED} in {folder}, found none"
        f"{''.join(f'; {line}' for line in listing.lacking)}: give the plate's own folder"
    )
