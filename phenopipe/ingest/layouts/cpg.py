"""Plates of the Cell Painting Gallery and JUMP: images as a CellProfiler LoadData table lists them.

``workspace/load_data_csv/<batch>/<plate>/load_data[_with_illum].csv`` names in each row the images
of one field: FileName and PathName (or URL) of each channel, with Metadata_Plate, _Well and _Site.

What is decided here, where the table leaves it open:

- The folder that holds the table is the plate's; of two tables, the one with illumination
  functions is read. Tables of other names (``load_data_version1.csv``) are not looked at.
- A PathName is mostly of the machine on which the table was made. The images are looked for there,
  then below the table's folder, the folders above it and their ``images`` by the longest end of
  the PathName that is there (above by two names at least, since the images of all plates may be
  named alike), then in the table's folder itself.
- A channel's label is its name in the table, without JUMP's ``Orig`` where that stays unique.
- Positions are in metres from the well's centre with y upwards, as pe2loaddata takes them from
  Harmony's index.
"""

import csv
import gzip
import io
import os
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from phenopipe.errors import InputError
from phenopipe.ingest.index import PlateIndex, find_absent, sort_images
from phenopipe.ingest.layouts.absence import list_absent, list_unmet
from phenopipe.ingest.layouts.duplicates import refuse_duplicates
from phenopipe.ingest.layouts.folders import list_folder, walk_files
from phenopipe.ingest.layouts.records import (
    ImageRecord,
    count_images,
    find_places,
    find_time_step_s,
    find_z_step_um,
    parse_time,
)
from phenopipe.plates import Well, plate_shape, row_name

_TABLES = tuple(
    f"load_data{kind}.csv{packed}" for kind in ("_with_illum", "") for packed in ("", ".gz")
)
# A 1,536-well plate with 16 fields and 200 columns has some 50 MB.
_MOST_BYTES = 256 * 2**20
# From a plate's load_data_csv folder to the source's folder, where images lie, are four.
_LEVELS_UP = 5
_NUMBER = re.compile(r"\d{1,6}", re.ASCII)
_COLUMN = re.compile(r"\d{1,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a table says that a file lies: a folder as written, and the file's name."""

    folder: str
    name: str


@dataclass(frozen=True)
class _Table:
    """The rows of a LoadData table, and its channels in the order of its columns."""

    name: str
    rows: Sequence[Mapping[str, str]]
    channels: Sequence[str]


class Cpg:
    """The layout of the Cell Painting Gallery; see the module's text."""

    name = "cpg"

    def recognise(self, folder: Path) -> str | None:
        """Say why the folder is a plate of the gallery; None where it has no LoadData table."""
        name = next(iter(_find_tables(folder)), None)
        return None if name is None else f"{name} lists its images"

    def read(self, folder: Path) -> PlateIndex:
        """Index the images that a LoadData table lists.

        Raises
        ------
        InputError
            If there is no such table, it is damaged, names no image or several plates, or two
            files for the same image, or none of its images is there.
        """
        table = _read_table(folder)
        plate = _one_plate(table, folder)
        functions = _list_functions(table)
        listed = list(_list_records(table))
        finder = _find_folders([*(source for _, source in listed), *functions.values()], folder)
        records = [replace(record, path=finder.get(source, "")) for record, source in listed]
        found = [record for record in records if record.path]
        _check_found(found, listed, folder)
        planes = {r.plane for r in records if r.plane is not None}
        times = {r.time for r in records}
        images = sort_images(count_images(found, planes=planes, times=times), table.channels)
        refuse_duplicates(images, folder, prefix="")
        promised = count_images(records, planes=planes, times=times)
        absent = find_absent(images, {image.field_key for image in promised})
        illumination = {t: finder[source] for t, source in functions.items() if source in finder}
        metadata = [table.name, *(p for p in illumination.values() if not p.startswith("../"))]
        return PlateIndex(
            folder=folder,
            layout=self.name,
            reason=self.recognise(folder) or "a table lists its images",
            plate=plate,
            images=images,
            channels=_label_channels(table.channels),
            shape=plate_shape([image.well for image in images]),
            ignored=tuple(_list_ignored(folder, table, {r.path for r in found} | set(metadata))),
            missing=(
                *list_unmet(images, promised, by=table.name, prefix=""),
                *list_absent(images, absent, prefix=""),
                *_list_lost_functions(functions, illumination),
            ),
            absent=sort_images(absent, table.channels),
            pixel_size_um=_find_pixel_size_um(table.rows),
            metadata_files=tuple(sorted(set(metadata))),
            z_step_um=find_z_step_um(found),
            time_step_s=find_time_step_s(found),
            places=find_places(found),
            illumination=illumination,
            expected=len(set(promised)),
        )


# --- the table --------------------------------------------------------------------------------


def _find_tables(folder: Path) -> list[str]:
    names = set(list_folder(folder)[0])
    return [name for name in _TABLES if name in names]


def _read_table(folder: Path) -> _Table:
    names = _find_tables(folder)
    if not names:
        raise InputError(
            f"expected load_data.csv or load_data_with_illum.csv in {folder}, found neither: "
            "give the folder that holds it"
        )
    path = folder / names[0]
    try:
        reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), strict=True)
        rows = [{k: (v or "").strip() for k, v in row.items() if k} for row in reader]
        columns = [name for name in reader.fieldnames or () if name]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise InputError(
            f"expected a LoadData table in {path}, found {error}: copy or save it anew as UTF-8"
        ) from error
    named = (_channel_of(column) for column in columns)
    channels = list(dict.fromkeys(c for c in named if c and not c.startswith("Illum")))
    if not channels or not rows:
        raise InputError(
            f"expected rows with FileName_<channel> or URL_<channel> in {path}, found {len(rows)} "
            f"rows of {len(columns)} columns: make the table anew"
        )
    return _Table(names[0], rows, channels)


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        content = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
        data = content.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise OSError(f"more than {_MOST_BYTES} bytes")
    return data.decode("utf-8-sig")


def _channel_of(column: str) -> str | None:
    kind, _, channel = column.partition("_")
    return channel if kind in ("FileName", "URL") and channel else None


def _one_plate(table: _Table, folder: Path) -> str:
    plates = sorted({row.get("Metadata_Plate", "") for row in table.rows})
    if len(plates) > 1 or not plates[0]:
        shown = ", ".join(plate or "none" for plate in plates[:5])
        raise InputError(
            f"expected one Metadata_Plate in {folder / table.name}, found {len(plates)}: {shown}: "
            "give each plate a table and a folder of its own"
        )
    return plates[0]


def _list_records(table: _Table) -> Iterator[tuple[ImageRecord, _Source]]:
    """Give each image that the table lists, and where it says that its file lies."""
    for number, row in enumerate(table.rows, 2):
        where = f"row {number} of {table.name}"
        well = _read_well(row, where)
        field = _read_number(row, ("Metadata_Site", "Metadata_FieldID"), where)
        plane = _read_number(row, ("Metadata_PlaneID",), where)
        time = _read_number(row, ("Metadata_TimepointID",), where)
        for channel in table.channels:
            source = _read_source(row, channel)
            _refuse_frames(row, channel, where)
            if source:
                record = ImageRecord("", well, field, channel, plane, time)
                yield _place(record, row, channel), source


def _read_well(row: Mapping[str, str], where: str) -> Well:
    text = row.get("Metadata_Well", "")
    if not text:
        line = row.get("Metadata_Row", "")
        column = row.get("Metadata_Col", "") or row.get("Metadata_Column", "")
        number = _COLUMN.fullmatch(line)
        text = (row_name(int(line) - 1) if number and int(line) else line) + column
    try:
        return Well.parse(text)
    except InputError as error:
        raise InputError(
            f"expected Metadata_Well, or Metadata_Row and Metadata_Col, in {where}, found "
            f"{text!r}: correct the table"
        ) from error


def _read_number(row: Mapping[str, str], columns: Sequence[str], where: str) -> int:
    """Read the first of the columns that is there; a table without them has one of the kind."""
    for column in columns:
        text = row.get(column, "")
        # pandas writes whole numbers with a decimal point where a column has gaps.
        plain = text.removesuffix(".0")
        if _NUMBER.fullmatch(plain):
            return int(plain)
        if text:
            raise InputError(
                f"expected a number as {column} in {where}, found {text!r}: correct the table"
            )
    return 1


def _read_source(row: Mapping[str, str], channel: str) -> _Source | None:
    name = row.get(f"FileName_{channel}", "")
    folder = row.get(f"PathName_{channel}", "")
    url = row.get(f"URL_{channel}", "")
    if url and not (name and folder):
        folder, _, own = unquote(urlsplit(url).path).rpartition("/")
        name = name or own
    return _Source(folder, name) if name and "/" not in name and "\\" not in name else None


def _refuse_frames(row: Mapping[str, str], channel: str, where: str) -> None:
    for column in (f"Frame_{channel}", f"Series_{channel}"):
        if row.get(column, "") not in ("", "0", "0.0"):
            raise InputError(
                f"expected files of one plane, found {column} {row[column]} in {where}: "
                "save each plane as a file of its own"
            )


def _place(record: ImageRecord, row: Mapping[str, str], channel: str) -> ImageRecord:
    y = _micrometres(row.get("Metadata_PositionY", ""))
    heights = (row.get(f"Metadata_AbsPositionZ{end}", "") for end in (f"_{channel}", ""))
    return replace(
        record,
        x_um=_micrometres(row.get("Metadata_PositionX", "")),
        y_um=None if y is None else 0.0 - y,
        z_um=next((z for z in map(_micrometres, heights) if z is not None), None),
        acquired=_read_time(row, channel),
    )


def _read_time(row: Mapping[str, str], channel: str) -> datetime | None:
    try:
        return parse_time(row.get(f"Metadata_AbsTime_{channel}") or row.get("Metadata_AbsTime"))
    except ValueError:
        return None


def _micrometres(metres: str) -> float | None:
    try:
        size = float(metres) * 1e6
    except ValueError:
        return None
    # Rounded to a picometre: what is finer comes from the conversion.
    return round(size, 6) if abs(size) < 1e9 else None


def _find_pixel_size_um(rows: Iterable[Mapping[str, str]]) -> float | None:
    sizes = (_micrometres(row.get("Metadata_ImageResolutionX", "")) for row in rows)
    return next((size for size in sizes if size and 0 < size < 1000), None)


def _label_channels(channels: Sequence[str]) -> dict[str, str]:
    short = {channel: channel.removeprefix("Orig") or channel for channel in channels}
    uses = Counter(short.values())
    return {c: label if uses[label] == 1 else c for c, label in short.items()}


def _list_functions(table: _Table) -> dict[str, _Source]:
    """Find where each channel's illumination function lies: ``IllumDNA`` for ``OrigDNA``."""
    functions: dict[str, _Source] = {}
    for channel in table.channels:
        names = (f"Illum{channel}", f"Illum{channel.removeprefix('Orig')}")
        read = (_read_source(row, name) for row in table.rows for name in names)
        sources = sorted({source for source in read if source}, key=lambda s: (s.folder, s.name))
        if len(sources) > 1:
            raise InputError(
                f"expected one illumination function for {channel} in {table.name}, found "
                f"{', '.join(source.name for source in sources[:3])}: give each plate a table of "
                "its own"
            )
        if sources:
            functions[channel] = sources[0]
    return functions


# --- files ------------------------------------------------------------------------------------


def _find_folders(sources: Iterable[_Source], folder: Path) -> dict[_Source, str]:
    """Find the files that are there; gives their paths relative to the table's folder."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for source in sources:
        wanted[source.folder].add(source.name)
    found: dict[_Source, str] = {}
    for written, names in wanted.items():
        for candidate in _list_candidates(written, folder):
            there = names & set(_list_files(candidate))
            if there:
                inner = Path(os.path.relpath(candidate, folder)).as_posix()
                start = "" if inner == "." else f"{inner}/"
                found |= {_Source(written, name): start + name for name in there}
                break
    return found


def _list_candidates(written: str, folder: Path) -> Iterator[Path]:
    """Give the folders that a PathName may mean, the likeliest first; see the module's text."""
    yield folder / written
    parts = [p for p in re.split(r"[/\\]+", written) if p not in ("", ".", "..") and ":" not in p]
    above = [folder, *folder.resolve().parents[:_LEVELS_UP]]
    bases = [base for up in above for base in (up, up / "images")]
    for start in range(len(parts)):
        # Above the table's folder one name is not enough: each plate there may have its "Images".
        near = bases if start < len(parts) - 1 else [folder]
        yield from (base.joinpath(*parts[start:]) for base in near)
    yield folder


def _list_files(folder: Path) -> list[str]:
    try:
        return list_folder(folder)[0]
    except (InputError, ValueError):
        return []


def _check_found(
    found: Sequence[ImageRecord], listed: Sequence[tuple[ImageRecord, _Source]], folder: Path
) -> None:
    if not found:
        source = listed[0][1] if listed else _Source("", "none")
        raise InputError(
            f"expected the {len(listed)} images that the table in {folder} lists, found none "
            f"(such as {source.name} in {source.folder or folder}): copy them below it or beside it"
        )
    twice = [path for path, n in Counter(record.path for record in found).items() if n > 1]
    if twice:
        raise InputError(
            f"expected each file once in the table in {folder}, found {twice[0]} more often: "
            "correct the table"
        )


def _list_lost_functions(
    functions: Mapping[str, _Source], there: Mapping[str, str]
) -> Iterator[str]:
    for channel, source in functions.items():
        if channel not in there:
            yield f"illumination function of {channel}: no {source.name}"


def _list_ignored(folder: Path, table: _Table, used: set[str]) -> Iterator[tuple[str, str]]:
    for path in walk_files(folder):
        if path not in used:
            other = f"{table.name} is read instead"
            yield path, other if path in _TABLES else f"not named in {table.name}"
