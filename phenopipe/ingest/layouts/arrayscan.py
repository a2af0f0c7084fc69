"""Cellomics ArrayScan and Thermo CellInsight: ``<plate>_<well>f<field>d<channel>``, one folder.

The microscope writes ``.C01`` (or older ``.DIB``) files; exports lie beside them as ``.tif``.

What is decided here, where the vendor leaves it open:

- Fields and channels keep the microscope's numbers, which count from 0.
- ``o<n>`` files are masks of the microscope's own segmentation: kept apart, as ignored.
- Where several files hold one plane, the microscope's own ``.C01`` is read rather than its export
  ``.tif``, which may have fewer bits, and either rather than a ``.DIB``; the others are ignored.
- Channels bear no names in the files: a label is the vendor's token, ``d0``.
- The plate's name is the one in the file names: it holds the instrument and the time of the run.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phenopipe.errors import InputError
from phenopipe.ingest.index import ImageFile, PlateIndex, find_absent, sort_images
from phenopipe.ingest.layouts.absence import expect_fields, list_absent
from phenopipe.ingest.layouts.duplicates import refuse_duplicates
from phenopipe.ingest.layouts.folders import list_folder, walk_files
from phenopipe.plates import Well, plate_shape

_NAME = re.compile(
    r"(?P<plate>.+)_(?P<well>[A-P]\d{2})f(?P<field>\d{2,3})(?P<kind>[do])(?P<channel>\d{1,2})"
    r"\.(?P<format>c01|tif|dib)",
    re.IGNORECASE | re.ASCII,
)
_SHAPE = "<plate>_<well>f<field>d<channel>.C01 or .tif"
# The format that is read where several hold one plane, before those after it.
_PREFERENCE = ("c01", "tif", "dib")


@dataclass(frozen=True, slots=True)
class _Found:
    """One image file as its name tells, with the plate and the format that it names."""

    image: ImageFile
    plate: str
    format: str


class ArrayScan:
    """The layout of ArrayScan and CellInsight; see the module's text."""

    name = "arrayscan"

    def recognise(self, folder: Path) -> str | None:
        """Say why the folder is an ArrayScan plate; None where no image in it is named like one."""
        names, _ = list_folder(folder)
        found = next((name for name in names if isinstance(_classify(name), _Found)), None)
        return None if found is None else f"{found} is named {_SHAPE}"

    def read(self, folder: Path) -> PlateIndex:
        """Index every file of one ArrayScan plate's folder.

        Raises
        ------
        InputError
            If the folder holds no plate, two plates, or two files of one format for one image.
        """
        found, ignored = _sort_files(folder)
        if not found:
            raise InputError(
                f"expected images named {_SHAPE} in {folder}, found none among {len(ignored)} "
                "files: give the plate's own folder"
            )
        plate = _one_plate(found, folder)
        chosen, copies = _choose_formats(found)
        tokens = sorted({image.channel for image in chosen}, key=int)
        channels = {token: f"d{token}" for token in tokens}
        images = sort_images(chosen, tokens)
        refuse_duplicates(images, folder, prefix="d")
        absent = sort_images(find_absent(images, expect_fields(images)), tokens)
        return PlateIndex(
            folder=folder,
            layout=self.name,
            reason=f"{images[0].path} is named {_SHAPE}",
            plate=plate,
            images=images,
            channels=channels,
            shape=plate_shape([image.well for image in images]),
            ignored=tuple(sorted(ignored + copies)),
            missing=tuple(list_absent(images, absent, prefix="d")),
            absent=absent,
        )


def _sort_files(folder: Path) -> tuple[list[_Found], list[tuple[str, str]]]:
    found: list[_Found] = []
    ignored: list[tuple[str, str]] = []
    for path in walk_files(folder):
        image = _classify(path)
        if isinstance(image, _Found):
            found.append(image)
        else:
            ignored.append((path, image))
    return found, ignored


def _classify(path: str) -> _Found | str:
    """Read an image file's name, or say why it is none of the plate's images."""
    inner, _, name = path.rpartition("/")
    match = _NAME.fullmatch(name)
    if name.startswith("."):
        return "hidden file"
    if match is None:
        return f"not named {_SHAPE}"
    if inner:
        return "in a folder inside the plate's"
    if match["kind"] in "oO":
        return "mask"
    try:
        well = Well.parse(match["well"])
    except InputError:
        return f"no plate has a well {match['well']}"
    channel = str(int(match["channel"]))
    image = ImageFile(path=path, well=well, field=int(match["field"]), channel=channel)
    return _Found(image, plate=match["plate"], format=match["format"].lower())


def _one_plate(found: Sequence[_Found], folder: Path) -> str:
    first = {file.plate: file.image.path for file in reversed(found)}
    if len(first) > 1:
        shown = ", ".join(f"{plate} ({path})" for plate, path in sorted(first.items())[:5])
        raise InputError(
            f"expected the images of one plate in {folder}, found {len(first)}: {shown}: "
            "give each plate a folder of its own"
        )
    return next(iter(first))


def _choose_formats(found: Sequence[_Found]) -> tuple[list[ImageFile], list[tuple[str, str]]]:
    """Part the files into those that are read, and copies of these in another format."""
    best: dict[tuple[Well, int, str], _Found] = {}
    chosen: list[ImageFile] = []
    copies: list[tuple[str, str]] = []
    for file in sorted(found, key=lambda file: _PREFERENCE.index(file.format)):
        key = (file.image.well, file.image.field, file.image.channel)
        first = best.setdefault(key, file)
        if first.format == file.format:
            chosen.append(file.image)
        else:
            copies.append((file.image.path, f"same plane as {first.image.path}"))
    return chosen, copies
