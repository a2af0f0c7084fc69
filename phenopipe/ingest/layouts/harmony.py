r"""PerkinElmer and Revvity Harmony: Opera Phenix and Operetta.

``<plate>__<date>-Measurement 1/Images/`` holds an index (``Index.idx.xml`` or ``Index.xml``) and
one file an image, ``r01c01f01p01-ch1sk1fk1fl1.tiff``: row, column, field, plane, channel, time.
Either folder is the plate.

What is decided here, where the vendor leaves it open:

- The index says what each file is; a file that it does not list is no image of the plate. Where
  there is no index, or one that cannot be read, the names alone say it.
- A channel is its number, labelled by its ChannelName in the index, else ``ch1``: the same
  number is another stain on another plate.
- z is the rank of the plane, t that of the time point, among all that the index lists.
- A field's place is that of its first image: PositionX and PositionY from the well's centre, y
  turned to grow downwards, and AbsPositionZ.
- The plate's name is PlateID in the index, else the folder's up to ``__<date>``.
- Flat-field profiles in the index are Harmony's own and are not applied.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from phenopipe.errors import InputError
from phenopipe.ingest.index import PlateIndex
from phenopipe.ingest.layouts.absence import list_gaps
from phenopipe.ingest.layouts.folders import list_folder, walk_files
from phenopipe.ingest.layouts.harmony_index import is_index, read_index
from phenopipe.ingest.layouts.listing import Listing, index_plate
from phenopipe.ingest.layouts.records import ImageRecord
from phenopipe.ingest.layouts.shape import well_at

_NAME = re.compile(
    r"r(?P<row>\d{2})c(?P<column>\d{2})f(?P<field>\d{1,4})p(?P<plane>\d{1,4})"
    r"-ch(?P<channel>\d{1,3})sk(?P<time>\d{1,6})fk\d{1,6}fl\d{1,6}\.tiff?",
    re.IGNORECASE | re.ASCII,
)
_SPELLED = "r<row>c<column>f<field>p<plane>-ch<channel>sk<time>fk1fl1.tiff"
# In this order: the first that is there and is one is the plate's.
_INDEXES = ("index.idx.xml", "index.xml", "index.ref.xml")
_IMAGES = "images"
_MEASUREMENT = re.compile(r"(?P<plate>.+?)__\d{4}-\d{2}-\d{2}T.*", re.DOTALL)


class Harmony:
    """The layout of Harmony; see the module's text."""

    name = "harmony"

    def recognise(self, folder: Path) -> str | None:
        """Say why the folder, or its ``Images``, is a plate of Harmony; None where neither is."""
        inner = _find_images(folder)
        return None if inner is None else _recognise(folder, inner)

    def read(self, folder: Path) -> PlateIndex:
        """Index every file of one Harmony plate's folder.

        Raises
        ------
        InputError
            If the folder holds no image of Harmony, two files for the same image, or a well
            that lies off the plate.
        """
        inner = _find_images(folder) or ""
        paths = list(walk_files(folder))
        index, unread = _try_index(folder, inner)
        listing = index or _list_by_name(folder, inner, paths, unread)
        there = set(paths)
        found = [record for record in listing.records if record.path in there]
        if not found:
            raise InputError(_say_nothing_found(folder, listing, unread))
        used = {record.path for record in found} | set(listing.metadata_files)
        return index_plate(
            listing,
            found,
            folder=folder,
            layout=self.name,
            reason=self.recognise(folder) or "its files are named like one",
            prefix="ch",
            ignored=[
                (path, _why_ignored(path, inner, listing)) for path in paths if path not in used
            ],
        )


def _find_images(folder: Path) -> str | None:
    """Find where the plate's images lie: in the folder (``""``) or in its ``Images/``."""
    if _recognise(folder, "") is not None:
        return ""
    _, folders = list_folder(folder)
    inner = [f"{name}/" for name in folders if name.lower() == _IMAGES]
    return next((name for name in inner if _recognise(folder, name) is not None), None)


def _recognise(folder: Path, inner: str) -> str | None:
    if index := _find_index(folder, inner):
        return f"{index} is an index of Harmony"
    files, _ = list_folder(folder / inner)
    named = next((name for name in files if _NAME.fullmatch(name)), None)
    return None if named is None else f"{inner}{named} is named {_SPELLED}"


def _find_index(folder: Path, inner: str) -> str | None:
    named = _name_indexes(folder, inner)
    return next((path for path in named if is_index(folder / path)), None)


def _name_indexes(folder: Path, inner: str) -> list[str]:
    files, _ = list_folder(folder / inner)
    named = [name for name in files if name.lower() in _INDEXES]
    return [inner + name for name in sorted(named, key=lambda name: _INDEXES.index(name.lower()))]


def _try_index(folder: Path, inner: str) -> tuple[Listing | None, list[str]]:
    """Read the index; a damaged one costs what it alone knows, which is said, not the plate."""
    named = _name_indexes(folder, inner)
    path = _find_index(folder, inner) or next(iter(named), None)
    if path is None:
        return None, ["an index (Index.idx.xml): channels' names, pixel size, places and times"]
    try:
        index = read_index(folder / path)
    except InputError as error:
        return None, [f"a readable {path}: {error}"]
    return Listing(
        by=path,
        records=tuple(_put_below(inner, index.records)),
        plate=index.plate or _name_by_folder(folder),
        names=index.names,
        shape=index.shape,
        shape_by=path,
        pixel_size_um=index.pixel_size_um,
        metadata_files=(path,),
    ), []


def _put_below(inner: str, records: Iterable[ImageRecord]) -> Iterator[ImageRecord]:
    for record in records:
        yield replace(record, path=inner + record.path)


def _list_by_name(folder: Path, inner: str, paths: Sequence[str], unread: list[str]) -> Listing:
    read = [_read_name(path, inner) for path in paths]
    records = tuple(record for record in read if isinstance(record, ImageRecord))
    planes = [record.plane for record in records if record.plane is not None]
    times = [record.time for record in records]
    gaps = [
        *list_gaps(planes, kind="planes", spell="p{:02}"),
        *list_gaps(times, kind="time points", spell="sk{}"),
    ]
    return Listing(
        by="",
        records=records,
        plate=_name_by_folder(folder),
        lacking=(*unread, *gaps),
        metadata_files=tuple(_name_indexes(folder, inner)[:1]),
    )


def _read_name(path: str, inner: str) -> ImageRecord | str:
    """Read an image file's name, or say why it is none of the plate's images."""
    place, _, name = path.rpartition("/")
    match = _NAME.fullmatch(name)
    if name.startswith("."):
        return "hidden file"
    if match is None:
        return f"not named {_SPELLED}"
    if place != inner.rstrip("/"):
        return "outside the folder of the plate's images"
    try:
        well = well_at(int(match["row"]), int(match["column"]))
    except ValueError as error:
        return str(error)
    return ImageRecord(
        path=path,
        well=well,
        field=int(match["field"]),
        channel=str(int(match["channel"])),
        plane=int(match["plane"]),
        time=int(match["time"]),
    )


def _why_ignored(path: str, inner: str, listing: Listing) -> str:
    read = _read_name(path, inner)
    return read if isinstance(read, str) else f"not listed in {listing.by}"


def _name_by_folder(folder: Path) -> str:
    path = folder.resolve()
    name = path.parent.name if path.name.lower() == _IMAGES else path.name
    match = _MEASUREMENT.fullmatch(name)
    return match["plate"] if match else name


def _say_nothing_found(folder: Path, listing: Listing, unread: Sequence[str]) -> str:
    if listing.records:
        first = listing.records[0].path
        return (
            f"expected the {len(listing.records)} images that {listing.by} lists in {folder}, "
            f"found none of them (first: {first}): copy the plate's images beside the index"
        )
    return (
        f"expected images named {_SPELLED} in {folder}, found none"
        f"{''.join(f'; {line}' for line in unread)}: give the plate's own folder"
    )
