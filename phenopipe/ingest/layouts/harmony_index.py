"""The index of Harmony: ``Index.idx.xml``, ``Index.xml`` or ``Index.ref.xml``.

One schema in three spellings. V1 and V5 hold all that is known of an image in its own element;
V7 keeps what a channel's images share (name, resolution) in ``Maps/Map/Entry``. V1 and V5 count
time points from 0, V7 from 1. Lengths stand in metres, with the unit as an attribute.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

from phenopipe.errors import InputError
from phenopipe.ingest.layouts.records import ImageRecord, parse_time
from phenopipe.ingest.layouts.shape import well_at
from phenopipe.ingest.layouts.xml_file import XML_ERRORS, local_name, read_root, stream_elements
from phenopipe.plates import PLATE_SHAPES

_ROOT = "EvaluationInputData"
_UM = {"m": 1e6, "mm": 1e3, "um": 1.0, "µm": 1.0, "μm": 1.0, "nm": 1e-3}
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)


@dataclass
class HarmonyIndex:
    """What an index of Harmony says of its plate.

    Parameters
    ----------
    plate
        The plate's name; empty where there is none.
    shape
        Rows and columns, where the index has them.
    records
        The images, in the index's order; paths are relative to the index.
    names
        Name of each channel, by its number as text.
    pixel_sizes_um
        Side of a pixel of each channel, in micrometres.
    """

    plate: str = ""
    shape: tuple[int, int] | None = None
    records: list[ImageRecord] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    pixel_sizes_um: dict[str, float] = field(default_factory=dict)

    @property
    def pixel_size_um(self) -> float | None:
        """The one pixel size of the channels that have images; None if there is not one."""
        used = {record.channel for record in self.records}
        sizes = [size for channel, size in self.pixel_sizes_um.items() if channel in used]
        same = all(math.isclose(size, sizes[0], rel_tol=1e-6) for size in sizes)
        return sizes[0] if sizes and same else None


def is_index(path: Path) -> bool:
    """Tell whether the file begins as an index of Harmony does."""
    try:
        return read_root(path)[0] == _ROOT
    except XML_ERRORS:
        return False


def read_index(path: Path) -> HarmonyIndex:
    """Read an index of Harmony.

    Raises
    ------
    InputError
        If it cannot be read as XML, is another XML file, or an image in it lacks its file,
        well, field, plane or channel.
    """
    try:
        if (root := read_root(path)[0]) != _ROOT:
            raise ValueError(f"its root is {root}, not {_ROOT}")
        return _collect(stream_elements(path, {"Plate", "Entry", "Image"}))
    except XML_ERRORS as error:
        raise InputError(
            f"expected an index of Harmony in {path}, found one that cannot be read ({error}): "
            "copy it anew from the microscope, or remove it to go by the files' names"
        ) from error


def _collect(elements: Iterable[Element]) -> HarmonyIndex:
    index = HarmonyIndex()
    records: dict[str, ImageRecord] = {}
    for element in elements:
        kind, children = local_name(element.tag), _children(element)
        if kind == "Plate":
            index.plate = index.plate or _text(children, "PlateID") or _text(children, "Name")
            index.shape = index.shape or _shape(children)
        elif kind == "Entry":
            _keep_channel(index, element.get("ChannelID", ""), children)
        elif "URL" in children:
            # Wells name their images too, by id alone: these have no URL.
            record = _record(children)
            if records.setdefault(record.path, record) != record:
                raise ValueError(f"it lists {record.path} as two images")
            _keep_channel(index, record.channel, children)
    if not records:
        raise ValueError("it lists no image")
    index.records = list(records.values())
    return index


def _children(element: Element) -> dict[str, Element]:
    return {local_name(child.tag): child for child in element}


def _text(children: Mapping[str, Element], name: str) -> str:
    return (children[name].text or "").strip() if name in children else ""


def _shape(children: Mapping[str, Element]) -> tuple[int, int] | None:
    if "PlateRows" not in children or "PlateColumns" not in children:
        return None
    shape = _number(children, "PlateRows"), _number(children, "PlateColumns")
    most = PLATE_SHAPES[1536]
    if not (1 <= shape[0] <= most[0] and 1 <= shape[1] <= most[1]):
        raise ValueError(f"its plate has {shape[0]} x {shape[1]} wells")
    return shape


def _keep_channel(index: HarmonyIndex, token: str, children: Mapping[str, Element]) -> None:
    if not _NUMBER.fullmatch(token):
        return
    channel = str(int(token))
    name = _text(children, "ChannelName")
    if name and index.names.setdefault(channel, name) != name:
        raise ValueError(f"channel {channel} is both {index.names[channel]} and {name}")
    if size := _um(children, "ImageResolutionX"):
        index.pixel_sizes_um.setdefault(channel, size)


def _record(children: Mapping[str, Element]) -> ImageRecord:
    height = _um(children, "AbsPositionZ")
    y = _um(children, "PositionY")
    return ImageRecord(
        path=_text(children, "URL").replace("\\", "/"),
        well=well_at(_number(children, "Row"), _number(children, "Col")),
        field=_number(children, "FieldID"),
        channel=str(_number(children, "ChannelID")),
        plane=_number(children, "PlaneID"),
        time=_number(children, "TimepointID") if "TimepointID" in children else 0,
        x_um=_um(children, "PositionX"),
        # Harmony's y grows upwards, the image's downwards.
        y_um=None if y is None else 0.0 - y,
        z_um=_um(children, "PositionZ") if height is None else height,
        acquired=parse_time(_text(children, "AbsTime")),
    )


def _number(children: Mapping[str, Element], name: str) -> int:
    text = _text(children, name)
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{name} is {text!r}, not a number" if text else f"no {name}")
    return int(text)


def _um(children: Mapping[str, Element], name: str) -> float | None:
    """Read a length in micrometres; None where there is none, or in a unit that is none."""
    text = _text(children, name)
    factor = _UM.get(children[name].get("Unit", "m")) if name in children else None
    if not text or factor is None:
        return None
    value = float(text) * factor
    return value if math.isfinite(value) else None
