"""OME-Zarr plates made elsewhere: version 0.4 (Zarr 2) and 0.5 (Zarr 3).

``<plate>.zarr/<row>/<column>/<image>/<array>``: plate, well and image metadata say what there is.
An image file of the index is the folder of a full-resolution array, and a page one plane of it.

What is decided here, where the format leaves it open:

- A field's number is the number with which its image's path begins: ``0``, ``1z``, ``0_mip``. A
  z-stack and a projection of the same number are one field. Where the paths have no such numbers,
  or two images of a well share one, the well's images count from 1 in the order of its list.
- Several acquisitions of a plate are further fields, since the format does not say which fields
  of two acquisitions show the same place. With other channels they are refused.
- Where each place on the channel axis has one name on the whole plate, it is the channel; where
  images differ in this (a stack without the channel that its projection has), the name is.
- A plate of which no image has more than one z-step has single planes, even where there is a z
  axis; else an image of one step is a projection, unless only stacks have a z axis.
- The plate is named as its metadata say if its folder, or one of two above it, bears that name;
  else it has the folder's, without ``.ome.zarr``.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from phenopipe.errors import InputError
from phenopipe.ingest.index import ImageFile, Place, PlateIndex, find_absent, sort_images
from phenopipe.ingest.layouts.absence import list_absent
from phenopipe.ingest.layouts.channel_axis import name_channels
from phenopipe.ingest.layouts.duplicates import refuse_duplicates
from phenopipe.ingest.layouts.folders import list_folder
from phenopipe.ingest.layouts.labels import label_channels
from phenopipe.ingest.layouts.ngff import (
    NODE_FILES,
    ImageNode,
    PlateNode,
    find_plate_file,
    read_image_node,
    read_plate_node,
    read_well_node,
)
from phenopipe.ingest.layouts.shape import fit_shape
from phenopipe.ingest.zarr_image import ARRAY_FILES
from phenopipe.plates import FieldKey, Well, row_name

_NUMBER = re.compile(r"(\d{1,6})(?!\d)", re.ASCII)
_SUFFIX = re.compile(r"(\.ome)?\.zarr$", re.IGNORECASE)
_OTHERS = {
    "labels": "labels, not images",
    "tables": "tables, not images",
    "OME": "metadata of the whole, not images",
}


@dataclass(frozen=True)
class _Field:
    """One image of a well: its path in the plate and in the well, and what its metadata tell."""

    path: str
    name: str
    well: Well
    acquisition: int | None
    node: ImageNode

    @property
    def array(self) -> str:
        return f"{self.path}/{self.node.array}"

    @property
    def has_z(self) -> bool:
        return "z" in self.node.axes


@dataclass
class _Plate:
    """A plate's metadata as read: its images, and what could not be read.

    `broken` says why, by path; `lost` has the well and the image's path in it, empty where the
    well itself could not be read.
    """

    node: PlateNode
    wells: dict[str, Well]
    fields: list[_Field] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    lost: list[tuple[Well, str]] = field(default_factory=list)


class OmeZarr:
    """The layout of OME-Zarr plates; see the module's text."""

    name = "ome-zarr"

    def recognise(self, folder: Path) -> str | None:
        """Say why the folder is an OME-Zarr plate; None where its metadata tell of no plate."""
        file = find_plate_file(folder)
        return None if file is None else f"{file.name} says that it is an OME-Zarr plate"

    def read(self, folder: Path) -> PlateIndex:
        """Index every array and folder of one OME-Zarr plate.

        Raises
        ------
        InputError
            If the plate's own metadata are damaged or of another version, no image can be read,
            or images have channels that cannot be told apart.
        """
        plate = _read_plate(folder)
        if not plate.fields:
            why = next(iter(plate.broken.values()), "no well")
            raise InputError(f"expected images in the OME-Zarr plate {folder}, found none: {why}")
        _check_acquisitions(plate.fields, folder)
        tokens, names = name_channels({f.path: _labels(f.node) for f in plate.fields}, folder)
        keys = _number_fields(plate.fields)
        images = sort_images(_list_images(plate.fields, keys, tokens), list(names))
        refuse_duplicates(images, folder, prefix="c")
        absent = sort_images(find_absent(images, _expect(plate, keys)), list(names))
        nodes = [field.node for field in plate.fields]
        return PlateIndex(
            folder=folder,
            layout=self.name,
            reason=self.recognise(folder) or "its metadata tell of a plate",
            plate=_name_plate(folder, plate.node.name),
            images=images,
            channels=label_channels(names, prefix="c"),
            shape=_find_shape(plate, images, folder),
            ignored=tuple(sorted(_list_ignored(folder, plate))),
            missing=(
                *plate.broken.values(),
                *_list_blank(folder, plate.fields),
                *list_absent(images, absent, prefix="c"),
            ),
            absent=absent,
            pixel_size_um=next(filter(None, map(_pixel_size_um, nodes)), None),
            metadata_files=tuple(sorted(_list_metadata(folder, plate))),
            z_step_um=_first_step(nodes, "z"),
            time_step_s=_first_step(nodes, "t"),
            places=_find_places(plate, keys),
            expected=len(images) + len(absent),
        )


# --- reading ----------------------------------------------------------------------------------


def _read_plate(folder: Path) -> _Plate:
    """Read the metadata of plate, wells and images; what is damaged below the plate is told."""
    node = read_plate_node(folder)
    plate = _Plate(node, {well.path: _parse_well(well.path, folder) for well in node.wells})
    for path, well in plate.wells.items():
        try:
            images = read_well_node(folder / path)
        except InputError as error:
            plate.broken[path] = f"well {well}: {error}"
            plate.lost.append((well, ""))
            continue
        for image in {image.path: image for image in images}.values():
            inner = f"{path}/{image.path}"
            try:
                found = read_image_node(folder / inner)
            except InputError as error:
                plate.broken[inner] = f"image {inner}: {error}"
                plate.lost.append((well, image.path))
            else:
                plate.fields.append(_Field(inner, image.path, well, image.acquisition, found))
    return plate


def _parse_well(path: str, folder: Path) -> Well:
    try:
        return Well.parse(path.replace("/", ""))
    except InputError as error:
        raise InputError(
            f"expected the path of a well such as B/03 in {folder}, found {path!r}: "
            "convert the plate"
        ) from error


def _check_acquisitions(fields: Sequence[_Field], folder: Path) -> None:
    """Refuse acquisitions that took other channels: their fields would each lack some."""
    channels: dict[tuple[bool, int | None], set[str]] = defaultdict(set)
    for found in fields:
        stacked = found.node.sizes.get("z", 1) > 1
        channels[stacked, found.acquisition] |= set(_labels(found.node))
    for kind in (False, True):
        told = {a: names for (stacked, a), names in channels.items() if stacked == kind}
        if len({frozenset(names) for names in told.values()}) > 1:
            shown = "; ".join(f"{a}: {', '.join(sorted(names))}" for a, names in told.items())
            raise InputError(
                f"expected the same channels in all acquisitions of {folder}, found {shown}: "
                "make each acquisition a plate of its own"
            )


def _labels(node: ImageNode) -> list[str]:
    """Give the name of each place on the channel axis; empty where there is none."""
    size = node.sizes.get("c", 1)
    return [*node.labels, *[""] * size][:size]


def _number_fields(fields: Sequence[_Field]) -> dict[str, tuple[FieldKey, bool]]:
    """Give each image's field, and whether it is a z-stack, by the image's path."""
    stacked = _find_stacks(fields)
    keys = {
        f.path: (FieldKey(f.well, n), stacked[f.path])
        for f in fields
        if (n := _read_number(f.name)) is not None
    }
    if len(set(keys.values())) == len(fields):
        return keys
    count: dict[tuple[Well, bool], int] = defaultdict(int)
    for found in fields:
        kind = (found.well, stacked[found.path])
        count[kind] += 1
        keys[found.path] = (FieldKey(found.well, count[kind]), kind[1])
    return keys


def _read_number(name: str) -> int | None:
    match = _NUMBER.match(name)
    return int(match[1]) if match else None


def _find_stacks(fields: Sequence[_Field]) -> dict[str, bool]:
    several = any(found.node.sizes.get("z", 1) > 1 for found in fields)
    only_stacks_have_z = not all(found.has_z for found in fields)
    return {
        found.path: found.has_z and (found.node.sizes["z"] > 1 or only_stacks_have_z)
        if several or only_stacks_have_z
        else False
        for found in fields
    }


def _list_images(
    fields: Sequence[_Field],
    keys: Mapping[str, tuple[FieldKey, bool]],
    tokens: Mapping[str, Sequence[str]],
) -> Iterator[ImageFile]:
    """Give an image for each plane of each array, in the order of its leading axes."""
    several_times = any(found.node.sizes.get("t", 1) > 1 for found in fields)
    for found in fields:
        key, stacked = keys[found.path]
        leading = found.node.axes[:-2]
        planes = product(*(range(found.node.sizes[axis]) for axis in leading))
        for page, position in enumerate(planes):
            at = dict(zip(leading, position, strict=True))
            yield ImageFile(
                path=found.array,
                well=key.well,
                field=key.field,
                channel=tokens[found.path][at.get("c", 0)],
                z=at["z"] if stacked else None,
                t=at.get("t", 0) if several_times else None,
                page=page if leading else None,
            )


def _expect(plate: _Plate, keys: Mapping[str, tuple[FieldKey, bool]]) -> set[FieldKey]:
    """Expect the fields that wells list; of a well that cannot be read, those of the others."""
    found = {key for key, _ in keys.values()}
    numbers = {key.field for key in found}
    lost = {FieldKey(well, n) for well, name in plate.lost if not name for n in numbers}
    if any(_read_number(image.name) != keys[image.path][0].field for image in plate.fields):
        return found | lost
    told = ((well, _read_number(name)) for well, name in plate.lost)
    return found | lost | {FieldKey(well, n) for well, n in told if n is not None}


# --- the plate's facts --------------------------------------------------------------------------


def _name_plate(folder: Path, told: str) -> str:
    """Name a plate as its metadata do where a folder bears that name, else by its folder."""
    path = folder.resolve()
    names = [_SUFFIX.sub("", part.name) for part in (path, *path.parents[:2])]
    return told if told in names else names[0]


def _find_shape(plate: _Plate, images: Sequence[ImageFile], folder: Path) -> tuple[int, int]:
    """Take the plate's size from its rows and columns, unless it lists those in use only."""
    rows = [row.name.upper() for row in plate.node.rows]
    columns = [column.name.lstrip("0") for column in plate.node.columns]
    n_rows, n_columns = len(rows), len(columns)
    whole = rows == [row_name(n) for n in range(n_rows)] and columns == [
        str(n + 1) for n in range(n_columns)
    ]
    told = (n_rows, n_columns) if whole else None
    return fit_shape({i.well for i in images}, told, by="the plate's metadata", folder=folder)


def _pixel_size_um(node: ImageNode) -> float | None:
    """Give the side of a pixel where it is square, as cameras' are."""
    y, x = node.steps.get("y"), node.steps.get("x")
    return x if x and y and abs(x - y) <= 0.001 * x else None


def _first_step(nodes: Iterable[ImageNode], axis: str) -> float | None:
    steps = (node.steps.get(axis) for node in nodes if node.sizes.get(axis, 1) > 1)
    return next(filter(None, steps), None)


def _find_places(plate: _Plate, keys: Mapping[str, tuple[FieldKey, bool]]) -> dict[FieldKey, Place]:
    starts = {a.id: _parse_start(a.starttime) for a in plate.node.acquisitions}
    places: dict[FieldKey, Place] = {}
    # Some writers put a translation of zero everywhere: that is no place.
    moved = any(any(found.node.origin.values()) for found in plate.fields)
    for found in plate.fields:
        at = found.node.origin if moved else {}
        start = starts.get(found.acquisition) if found.acquisition is not None else None
        place = Place(at.get("x"), at.get("y"), at.get("z"), start)
        if place != Place():
            places.setdefault(keys[found.path][0], place)
    return dict(sorted(places.items()))


def _parse_start(seconds: float | None) -> datetime | None:
    """Read the seconds since 1970; milliseconds, as some write, lead past the year 9999."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


# --- every file and folder -----------------------------------------------------------------------


def _list_blank(folder: Path, fields: Iterable[_Field]) -> Iterator[str]:
    """Name the arrays without any chunk: Zarr reads them as blank, a copy may have lost them."""
    for found in fields:
        files, folders = list_folder(folder / found.array)
        if not folders and set(files) <= {*ARRAY_FILES, *NODE_FILES}:
            yield f"pixels of {found.array}: it has no chunk, so it reads as blank"


def _groups(plate: _Plate) -> set[str]:
    """Name the folders that hold what the metadata name: rows, wells, images and their inner."""
    paths = [*plate.wells, *(found.array for found in plate.fields)]
    inner = {str(above) for path in paths for above in Path(path).parents}
    return inner | {path for path in plate.wells if path not in plate.broken}


def _list_metadata(folder: Path, plate: _Plate) -> Iterator[str]:
    for group in _groups(plate):
        inner = "" if group == "." else f"{group}/"
        yield from (inner + name for name in NODE_FILES if (folder / inner / name).is_file())


def _list_ignored(folder: Path, plate: _Plate) -> Iterator[tuple[str, str]]:
    """Give each file that is no metadata, and each folder that is no array, with the reason."""
    groups = _groups(plate)
    arrays = {found.array for found in plate.fields}
    levels = {f"{found.path}/{level}" for found in plate.fields for level in found.node.levels}
    smaller = levels | {str(above) for level in levels for above in Path(level).parents}
    for group in sorted(groups):
        if not (folder / group).is_dir():
            continue
        inner = "" if group == "." else f"{group}/"
        files, folders = list_folder(folder / group)
        yield from ((inner + name, "not a file of OME-Zarr") for name in files if _stray(name))
        for name in folders:
            path = inner + name
            if path in groups or path in arrays:
                continue
            yield path, _why_ignored(path, smaller, plate.broken)


def _stray(name: str) -> bool:
    return name not in NODE_FILES


def _why_ignored(path: str, smaller: set[str], broken: Mapping[str, str]) -> str:
    if path in broken:
        return "its metadata cannot be read"
    if path in smaller:
        return "a smaller copy of the image"
    return _OTHERS.get(path.rpartition("/")[2], "not named in the plate's metadata")
