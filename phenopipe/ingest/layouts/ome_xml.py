"""OME-XML as OME-TIFF files and their companions hold it: plates, wells, and where planes lie."""

import io
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from xml.parsers import expat

from phenopipe.ingest.index import Place
from phenopipe.ingest.layouts.records import parse_time
from phenopipe.ingest.layouts.xml_file import local_name

# Some 300 bytes for each plane of a 1,536-well plate with 16 fields, 6 channels and 4 z-steps.
MOST_BYTES = 256 * 2**20
_MOST_PLANES = 10**5
_MICROMETRES = {
    "pm": 1e-6,
    "Å": 1e-4,
    "nm": 1e-3,
    "µm": 1.0,
    "um": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "in": 25_400.0,
}
_SECONDS = {"ns": 1e-9, "µs": 1e-6, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class OmePlane:
    """Where one plane lies: the file's name, empty for the file that holds the XML, and the IFD."""

    c: int
    z: int
    t: int
    file: str
    ifd: int


@dataclass(frozen=True)
class OmeImage:
    """One image: its sizes, names of channels, planes, and what is told of space and time."""

    sizes: Mapping[str, int]
    labels: tuple[str, ...]
    planes: tuple[OmePlane, ...]
    pixel_size_um: float | None = None
    z_step_um: float | None = None
    time_step_s: float | None = None
    place: Place = field(default_factory=Place)


@dataclass(frozen=True)
class OmeSample:
    """One field of a well: row and column from 0, its index if told, its image, its position."""

    row: int
    column: int
    index: int | None
    image: str
    place: Place


@dataclass(frozen=True)
class OmePlate:
    """A plate: its name, its rows and columns if told, and its fields in the document's order."""

    name: str
    shape: tuple[int, int] | None
    samples: tuple[OmeSample, ...]


@dataclass
class OmeDocument:
    """What one OME-XML text tells.

    `images` are by their ID. `elsewhere` is the name of the companion that holds all, where the
    text says no more than that.
    """

    plates: list[OmePlate] = field(default_factory=list)
    images: dict[str, OmeImage] = field(default_factory=dict)
    elsewhere: str = ""


def parse_ome_xml(data: bytes) -> OmeDocument:
    """Read an OME-XML text.

    Raises
    ------
    ValueError
        If it is not OME-XML, is larger than `MOST_BYTES`, declares a document type, or tells what
        cannot be.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has {len(data)} bytes, more than {MOST_BYTES}")
    try:
        own = _read_root(data)
        document = OmeDocument()
        for element in _stream(data):
            name = local_name(element.tag)
            if name == "BinaryOnly":
                document.elsewhere = element.get("MetadataFile", "")
            elif name == "Plate":
                document.plates.append(_read_plate(element))
            elif name == "Image":
                document.images[element.get("ID", "")] = _read_image(element, own)
    except (ET.ParseError, expat.ExpatError, LookupError) as error:
        raise ValueError(f"it is not XML: {error}") from error
    return document


def _stream(data: bytes) -> Iterator[ET.Element]:
    """Give the elements below the root as they end, then forget their content."""
    depth = 0
    # A text without a document type cannot declare entities.
    for event, element in ET.iterparse(io.BytesIO(data), events=("start", "end")):  # noqa: S314
        depth += 1 if event == "start" else -1
        if event == "end" and depth == 1:
            yield element
            element.clear()


def _read_root(data: bytes) -> str:
    """Read the document's own UUID; refuse another root than OME, and a document type."""
    roots: list[tuple[str, str]] = []

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type")

    def keep(name: str, attributes: dict[str, str]) -> None:
        if not roots:
            roots.append((local_name(name), attributes.get("UUID", "")))

    parser = expat.ParserCreate(namespace_separator="}")
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = keep
    for start in range(0, len(data), 2**16):
        parser.Parse(data[start : start + 2**16])
        if roots:
            break
    if not roots or roots[0][0] != "OME":
        raise ValueError("its root is not OME")
    return roots[0][1]


# --- plates -----------------------------------------------------------------------------------


def _read_plate(plate: ET.Element) -> OmePlate:
    rows, columns = _number(plate, "Rows"), _number(plate, "Columns")
    found = tuple(
        OmeSample(
            row=_whole(well, "Row"),
            column=_whole(well, "Column"),
            index=_number(sample, "Index"),
            image=image,
            place=Place(_length(sample, "PositionX"), _length(sample, "PositionY")),
        )
        for well in _children(plate, "Well")
        for sample in _children(well, "WellSample")
        if (image := _image_of(sample))
    )
    shape = (rows, columns) if rows and columns else None
    return OmePlate(plate.get("Name", "") or plate.get("ID", ""), shape, found)


def _image_of(sample: ET.Element) -> str:
    reference = next(_children(sample, "ImageRef"), None)
    return "" if reference is None else reference.get("ID", "")


# --- images -----------------------------------------------------------------------------------


def _read_image(image: ET.Element, own: str) -> OmeImage:
    pixels = next(_children(image, "Pixels"), None)
    if pixels is None:
        raise ValueError(f"image {image.get('ID')} has no Pixels")
    channels = list(_children(pixels, "Channel"))
    sizes = {axis: _whole(pixels, f"Size{axis.upper()}") for axis in "czt"}
    if any(int(channel.get("SamplesPerPixel", "1")) > 1 for channel in channels):
        # A plane of colours counts as one.
        sizes["c"] = len(channels)
    if min(sizes.values()) < 1 or math.prod(sizes.values()) > _MOST_PLANES:
        raise ValueError(f"image {image.get('ID')} has sizes {sizes}")
    labels = [channel.get("Name", "").strip() for channel in channels]
    planes = list(_children(pixels, "Plane"))
    return OmeImage(
        sizes=sizes,
        labels=tuple([*labels, *[""] * sizes["c"]][: sizes["c"]]),
        planes=tuple(_list_planes(pixels, sizes, own)),
        pixel_size_um=_pixel_size_um(pixels),
        z_step_um=_length(pixels, "PhysicalSizeZ", unit="µm"),
        time_step_s=_duration(pixels, "TimeIncrement") or _time_step_s(planes),
        place=_find_place(image, planes),
    )


def _list_planes(pixels: ET.Element, sizes: Mapping[str, int], own: str) -> Iterator[OmePlane]:
    """Say where each plane lies, as the TiffData elements tell; the first that tells it counts."""
    order = pixels.get("DimensionOrder", "XYZCT")[2:].lower()
    if sorted(order) != ["c", "t", "z"]:
        raise ValueError(f"its DimensionOrder is {pixels.get('DimensionOrder')!r}")
    total = math.prod(sizes.values())
    seen: set[int] = set()
    for block in _children(pixels, "TiffData"):
        first = {axis: _number(block, f"First{axis.upper()}") or 0 for axis in order}
        if any(first[axis] >= sizes[axis] for axis in order):
            raise ValueError(f"TiffData starts at {first} of {dict(sizes)}")
        start = first[order[0]] + sizes[order[0]] * (
            first[order[1]] + sizes[order[1]] * first[order[2]]
        )
        ifd = _number(block, "IFD")
        told = _number(block, "PlaneCount")
        count = told if told is not None else (total if ifd is None else 1)
        file = _file_of(block, own)
        for step in range(min(count, total - start)):
            if start + step not in seen:
                seen.add(start + step)
                yield _plane(start + step, order, sizes, file, (ifd or 0) + step)


def _plane(number: int, order: str, sizes: Mapping[str, int], file: str, ifd: int) -> OmePlane:
    at = {}
    for axis in order:
        number, at[axis] = divmod(number, sizes[axis])
    return OmePlane(**at, file=file, ifd=ifd)


def _file_of(block: ET.Element, own: str) -> str:
    uuid = next(_children(block, "UUID"), None)
    if uuid is None or (own and (uuid.text or "").strip() == own):
        return ""
    return uuid.get("FileName", "")


def _pixel_size_um(pixels: ET.Element) -> float | None:
    """Give the side of a pixel where it is square, as cameras' are."""
    x, y = (_length(pixels, f"PhysicalSize{axis}", unit="µm") for axis in "XY")
    return x if x and x > 0 and (y is None or abs(y - x) <= 0.001 * x) else None


def _time_step_s(planes: list[ET.Element]) -> float | None:
    """Take the interval of time points from when the first channel's planes were taken."""
    taken = sorted(
        (_whole(plane, "TheT"), seconds)
        for plane in planes
        if plane.get("TheC") == "0" == plane.get("TheZ")
        and (seconds := _duration(plane, "DeltaT")) is not None
    )
    steps = [b - a for (n, a), (m, b) in pairwise(taken) if m == n + 1]
    step = median(steps) if steps else 0.0
    return round(step, 3) if step > 0 else None


def _find_place(image: ET.Element, planes: list[ET.Element]) -> Place:
    """Say where and when the first plane was taken, else the stage's label."""
    stage = next(_children(image, "StageLabel"), None)
    plane = planes[0] if planes else None
    at: dict[str, float | None] = {}
    for axis in "XYZ":
        first = None if plane is None else _length(plane, f"Position{axis}")
        at[axis] = _length(stage, axis) if first is None and stage is not None else first
    return Place(at["X"], at["Y"], at["Z"], _find_time(image, plane))


def _find_time(image: ET.Element, plane: ET.Element | None) -> datetime | None:
    date = next(_children(image, "AcquisitionDate"), None)
    try:
        start = parse_time((date.text or "").strip() if date is not None else None)
        after = None if plane is None else _duration(plane, "DeltaT")
        return start if start is None or after is None else start + timedelta(seconds=after)
    except (ValueError, OverflowError):
        return None


# --- attributes -------------------------------------------------------------------------------


def _children(element: ET.Element, name: str) -> Iterator[ET.Element]:
    """Give the children of that name, of whatever version's namespace."""
    return (child for child in element if local_name(child.tag) == name)


def _number(element: ET.Element, name: str) -> int | None:
    text = element.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{local_name(element.tag)} has {name} {text!r}")
    return int(text)


def _whole(element: ET.Element, name: str) -> int:
    number = _number(element, name)
    if number is None:
        raise ValueError(f"{local_name(element.tag)} has no {name}")
    return number


def _length(element: ET.Element, name: str, *, unit: str = "reference frame") -> float | None:
    """Read a length in micrometres; positions of no unit are of the microscope's own frame."""
    return _quantity(element, name, element.get(f"{name}Unit", unit), _MICROMETRES)


def _duration(element: ET.Element, name: str) -> float | None:
    return _quantity(element, name, element.get(f"{name}Unit", "s"), _SECONDS)


def _quantity(
    element: ET.Element, name: str, unit: str, units: Mapping[str, float]
) -> float | None:
    # The schema's micro sign, and the Greek letter that some write for it.
    factor = units.get(unit.replace("\N{GREEK SMALL LETTER MU}", "\N{MICRO SIGN}"))
    try:
        value = float(element.get(name, ""))
    except ValueError:
        return None
    return value * factor if factor is not None and math.isfinite(value) else None
