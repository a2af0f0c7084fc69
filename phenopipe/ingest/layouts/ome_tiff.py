"""OME-TIFF plates: ``.ome.tif`` files whose OME-XML tells of a plate, its wells and their images.

One file may hold all images, or a set of files; the OME-XML stands in each file, or in a companion
(``.companion.ome``) that they name. Only the XML is read here, no pixels.

What is decided here, where the format leaves it open:

- A well's place is its Row and Column; what a plate's naming conventions make of them (A1, 1A) is
  for display.
- A field's number is its WellSample's Index, counted from the well's first where the indices run
  on from well to well; where they do neither, fields count from 0 in their order.
- Further plate acquisitions are further fields.
- A place on the channel axis is the channel where it has one name on the whole plate; else the
  name is.
- Positions without a unit of length (``reference frame``) are left out.
- The plate is named as the XML says if its folder, or one of two above it, bears that name; else
  it has the folder's.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import tifffile

from phenopipe.errors import InputError
from phenopipe.ingest.image_fault import ImageFault, name_faults
from phenopipe.ingest.index import ImageFile, Place, PlateIndex, find_absent, sort_images
from phenopipe.ingest.layouts.absence import list_absent, list_unmet
from phenopipe.ingest.layouts.channel_axis import name_channels
from phenopipe.ingest.layouts.duplicates import refuse_duplicates
from phenopipe.ingest.layouts.folders import list_folder, walk_files
from phenopipe.ingest.layouts.labels import label_channels
from phenopipe.ingest.layouts.ome_xml import (
    MOST_BYTES,
    OmeDocument,
    OmeImage,
    OmePlate,
    OmeSample,
    parse_ome_xml,
)
from phenopipe.ingest.layouts.shape import fit_shape
from phenopipe.plates import PLATE_SHAPES, FieldKey, Well

_IMAGES = (".ome.tif", ".ome.tiff", ".ome.tf2", ".ome.tf8", ".ome.btf")
_COMPANION = ".companion.ome"
# How many files are opened to see whether one tells of a plate.
_TRIES = 3


@dataclass(frozen=True)
class _Field:
    """One field: its well, sample and image, and the path of each file that the image names."""

    id: str
    well: Well
    sample: OmeSample
    image: OmeImage
    files: Mapping[str, str]


@dataclass
class _Reading:
    """What the files of a folder told: plates with the file that tells of them, and fields.

    `broken` says why, by path; `without_plate` are the files whose XML tells of no plate.
    """

    plates: dict[str, OmePlate] = field(default_factory=dict)
    fields: list[_Field] = field(default_factory=list)
    companions: set[str] = field(default_factory=set)
    broken: dict[str, str] = field(default_factory=dict)
    without_plate: set[str] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)


class OmeTiff:
    """The layout of OME-TIFF plates; see the module's text."""

    name = "ome-tiff"

    def recognise(self, folder: Path) -> str | None:
        """Say why the folder is an OME-TIFF plate; None where no file's OME-XML tells of one."""
        for path in _sources(list_folder(folder)[0])[:_TRIES]:
            try:
                document = _read_document(folder, path)
                if document.elsewhere:
                    document = _read_document(folder, _beside(path, document.elsewhere))
            except ValueError:
                continue
            if document.plates:
                return f"the OME-XML of {path} tells of a plate"
        return None

    def read(self, folder: Path) -> PlateIndex:
        """Index the images of an OME-TIFF plate.

        Raises
        ------
        InputError
            If no file's OME-XML tells of a plate, or several plates are told of, a well lies off
            the plate, two planes are the same, or none of the files named is there.
        """
        paths = list(walk_files(folder))
        reading = _read_all(folder, paths)
        name, shape = _one_plate(reading, folder)
        tokens, names = name_channels({f.id: f.image.labels for f in reading.fields}, folder)
        keys = _number_fields(reading.fields)
        promised = list(_list_images(reading.fields, keys, tokens))
        images = sort_images([i for i in promised if i.path], list(names))
        if not images:
            raise InputError(
                f"expected the files that the OME-XML in {folder} names, found none of them: "
                "copy the plate anew, or give its files the names that they had"
            )
        refuse_duplicates(_with_pages(images), folder, prefix="c")
        found = find_absent(images, {image.field_key for image in promised})
        absent = sort_images(found, list(names))
        nodes = [f.image for f in reading.fields]
        return PlateIndex(
            folder=folder,
            layout=self.name,
            reason=self.recognise(folder) or "its OME-XML tells of a plate",
            plate=_name_plate(folder, name),
            images=images,
            channels=label_channels(names, prefix="c"),
            shape=fit_shape({i.well for i in images}, shape, by="the OME-XML", folder=folder),
            ignored=tuple(_list_ignored(paths, images, reading)),
            missing=(
                *(f"the OME-XML of {path}: {why}" for path, why in reading.broken.items()),
                *reading.lost,
                *list_unmet(images, promised, by="the OME-XML", prefix="c"),
                *list_absent(images, absent, prefix="c"),
            ),
            absent=absent,
            pixel_size_um=_first(image.pixel_size_um for image in nodes),
            metadata_files=tuple(sorted(reading.companions)),
            z_step_um=_first(i.z_step_um for i in nodes if i.sizes["z"] > 1),
            time_step_s=_first(i.time_step_s for i in nodes if i.sizes["t"] > 1),
            places=_find_places(reading.fields, keys),
            expected=len({(image.field_key, image.plane) for image in promised}),
        )


# --- reading ----------------------------------------------------------------------------------


def _sources(paths: Iterable[str]) -> list[str]:
    """Give the paths that may hold OME-XML: companions first, since they hold it for others."""
    plain = [path for path in paths if not path.rpartition("/")[2].startswith(".")]
    companions = [path for path in plain if path.lower().endswith(_COMPANION)]
    return companions + [path for path in plain if path.lower().endswith(_IMAGES)]


def _read_document(folder: Path, path: str) -> OmeDocument:
    return parse_ome_xml(_read_xml(folder / path))


def _read_xml(path: Path) -> bytes:
    """Read the text of a companion, or a TIFF's first ImageDescription."""
    try:
        if path.name.lower().endswith(_COMPANION):
            with path.open("rb") as file:
                return file.read(MOST_BYTES + 1)
        with name_faults(path), tifffile.TiffFile(path, is_ome=False) as tiff:
            return str(tiff.pages.first.description).encode()
    except (OSError, ImageFault) as error:
        raise ValueError(str(error)) from error


def _beside(path: str, name: str) -> str:
    """Give the path of a file that another names; the name itself where it leads elsewhere."""
    plain = PurePosixPath(name.replace("\\", "/"))
    inner = path.rpartition("/")[0]
    return str(PurePosixPath(inner) / (plain.name if plain.is_absolute() else plain))


def _read_all(folder: Path, paths: Sequence[str]) -> _Reading:
    """Read each OME-XML once: a file that another's XML names has nothing of its own to tell."""
    reading = _Reading()
    there = set(paths)
    covered: set[str] = set()
    waiting = _sources(paths)
    while waiting:
        path = waiting.pop(0)
        if path in covered:
            continue
        covered.add(path)
        try:
            document = _read_document(folder, path)
        except ValueError as error:
            reading.broken[path] = str(error)
            continue
        if document.elsewhere:
            companion = _beside(path, document.elsewhere)
            waiting[:0] = [companion] if companion in there else []
            continue
        if document.plates:
            covered |= _add_plate(reading, document, path, there)
        else:
            reading.without_plate.add(path)
    return reading


def _add_plate(reading: _Reading, document: OmeDocument, path: str, there: set[str]) -> set[str]:
    """Add the fields that a document tells of; gives the files that it names."""
    named = {plane.file for image in document.images.values() for plane in image.planes}
    files = {name: _beside(path, name) if name else path for name in named}
    files = {name: file for name, file in files.items() if file in there}
    if path.lower().endswith(_COMPANION):
        reading.companions.add(path)
        files.pop("", None)
    for plate in document.plates:
        reading.plates[path] = plate
        for sample in plate.samples:
            image = document.images.get(sample.image)
            if image is None:
                reading.lost.append(f"{sample.image} of the OME-XML of {path}: not described")
                continue
            well = _well(sample, path)
            reading.fields.append(_Field(f"{path} {sample.image}", well, sample, image, files))
    if len(document.plates) > 1:
        names = ", ".join(plate.name for plate in document.plates)
        raise InputError(
            f"expected one plate in the OME-XML of {path}, found {len(document.plates)}: {names}: "
            "save each plate by itself"
        )
    return set(files.values())


def _well(sample: OmeSample, path: str) -> Well:
    rows, columns = PLATE_SHAPES[1536]
    if sample.row >= rows or sample.column >= columns:
        raise InputError(
            f"expected wells of a plate of up to {rows} x {columns} in the OME-XML of {path}, "
            f"found row {sample.row} and column {sample.column}: correct its OME-XML"
        )
    return Well(sample.row, sample.column)


def _one_plate(reading: _Reading, folder: Path) -> tuple[str, tuple[int, int] | None]:
    if not reading.fields:
        told = [f"{path}: {why}" for path, why in reading.broken.items()]
        told += [f"{path} tells of no plate" for path in sorted(reading.without_plate)]
        raise InputError(
            f"expected OME-TIFF files (*.ome.tif) in {folder} whose OME-XML tells of a plate and "
            f"its wells, found {'; '.join(told[:3]) or 'none'}: name another layout, or give a "
            "pattern of the file names"
        )
    names = {plate.name: path for path, plate in reversed(reading.plates.items())}
    if len(names) > 1:
        shown = ", ".join(f"{name} ({path})" for name, path in sorted(names.items())[:5])
        raise InputError(
            f"expected the images of one plate in {folder}, found {len(names)}: {shown}: "
            "give each plate a folder of its own"
        )
    shapes = {plate.shape for plate in reading.plates.values()}
    return next(iter(names)), next(iter(shapes)) if len(shapes) == 1 else None


# --- fields and images --------------------------------------------------------------------------


def _number_fields(fields: Sequence[_Field]) -> dict[str, FieldKey]:
    """Give each image's field, by the indices of its well's samples; see the module's text."""
    # Files of a set that were renamed each tell of all samples again.
    wells: dict[Well, dict[tuple[int | None, str], list[str]]] = defaultdict(dict)
    for found in fields:
        sample = (found.sample.index, found.sample.image)
        wells[found.well].setdefault(sample, []).append(found.id)
    most = max(map(len, wells.values()))
    numbers = _count_indices({well: [i for i, _ in own] for well, own in wells.items()}, most)
    return {
        name: FieldKey(well, number)
        for well, own in wells.items()
        for names, number in zip(own.values(), numbers[well], strict=True)
        for name in names
    }


def _count_indices(
    indices: Mapping[Well, Sequence[int | None]], most: int
) -> dict[Well, list[int]]:
    """Count fields by their indices where these start anew in each well, or run on in blocks.

    Examples
    --------
    >>> a01, a02 = Well.parse("A01"), Well.parse("A02")
    >>> list(_count_indices({a01: [0, 1], a02: [0, 2]}, 2).values())
    [[0, 1], [0, 2]]
    >>> list(_count_indices({a01: [0, 1], a02: [3]}, 2).values())
    [[0, 1], [1]]
    >>> list(_count_indices({a01: [0, 0], a02: [None]}, 2).values())
    [[0, 1], [0]]
    """
    known = {well: [i for i in own if i is not None] for well, own in indices.items()}
    uses = Counter(i for own in known.values() for i in own)
    told = all(len(set(known[well])) == len(own) for well, own in indices.items())
    if told and (len(known) == 1 or max(uses.values()) > 1):
        return known
    blocks = [{i // most for i in own} for own in known.values()]
    apart = len({frozenset(block) for block in blocks}) == len(blocks)
    if told and apart and all(len(block) == 1 for block in blocks):
        return {well: [i % most for i in own] for well, own in known.items()}
    return {well: list(range(len(own))) for well, own in indices.items()}


def _list_images(
    fields: Sequence[_Field],
    keys: Mapping[str, FieldKey],
    tokens: Mapping[str, Sequence[str]],
) -> Iterator[ImageFile]:
    """Give each plane that the sizes promise; without a path where its file is not there."""
    films = any(f.image.sizes["t"] > 1 for f in fields)
    for found in fields:
        key, sizes = keys[found.id], found.image.sizes
        where = {(p.c, p.z, p.t): p for p in found.image.planes}
        for t in range(sizes["t"]):
            for c in range(sizes["c"]):
                for z in range(sizes["z"]):
                    plane = where.get((c, z, t))
                    path = "" if plane is None else found.files.get(plane.file, "")
                    yield ImageFile(
                        path=path,
                        well=key.well,
                        field=key.field,
                        channel=tokens[found.id][c],
                        z=z if sizes["z"] > 1 else None,
                        t=t if films else None,
                        page=plane.ifd if plane is not None and path else None,
                    )


def _with_pages(images: Iterable[ImageFile]) -> Iterator[ImageFile]:
    """Name each plane's page in its path, so that two of one file are told apart."""
    return (replace(image, path=f"{image.path} (page {image.page})") for image in images)


# --- the plate's facts --------------------------------------------------------------------------


def _name_plate(folder: Path, told: str) -> str:
    path = folder.resolve()
    above = (path, *path.parents[:2])
    return told if told in {parent.name for parent in above} else path.name


def _first(values: Iterable[float | None]) -> float | None:
    return next((value for value in values if value and value > 0), None)


def _find_places(fields: Sequence[_Field], keys: Mapping[str, FieldKey]) -> dict[FieldKey, Place]:
    """Take the image's place, and the sample's where the image tells none."""
    places: dict[FieldKey, Place] = {}
    for found in fields:
        own, sample = found.image.place, found.sample.place
        if own.x_um is None and own.y_um is None:
            own = replace(own, x_um=sample.x_um, y_um=sample.y_um)
        if own != Place():
            places.setdefault(keys[found.id], own)
    return dict(sorted(places.items()))


def _list_ignored(
    paths: Iterable[str], images: Iterable[ImageFile], reading: _Reading
) -> Iterator[tuple[str, str]]:
    used = {image.path for image in images} | reading.companions
    for path in sorted(paths):
        if path in used:
            continue
        if path in reading.broken:
            yield path, "its OME-XML cannot be read"
        elif path in reading.without_plate:
            yield path, "its OME-XML tells of no plate"
        else:
            yield path, "not named in the OME-XML of the plate"
