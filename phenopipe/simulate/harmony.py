"""Write a plate as Harmony exports it: one TIFF an image, and ``Index.idx.xml`` of them all."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from phenopipe.plates import PLATE_SHAPES, FieldKey, PlateKey, Well
from phenopipe.simulate.design import CHANNELS, ScreenDesign
from phenopipe.simulate.library import list_wells
from phenopipe.simulate.plan import plate_number
from phenopipe.simulate.tables import Row, write_csv
from phenopipe.simulate.tiff import write_tiff

NAMESPACE = "http://www.perkinelmer.com/PEHH/HarmonyV5"

# The first plate is measured on this day, each other on the day after the one before.
_FIRST_DAY = datetime(2025, 1, 6, 8, tzinfo=UTC)
_AN_IMAGE = timedelta(seconds=0.25)
# Focus above the plate's bottom, and from the stage's zero: the same everywhere.
_FOCUS_M = "2E-06"
_STAGE_M = "0.135"
_UNITS = {
    **dict.fromkeys(("ImageResolutionX", "ImageResolutionY"), "m"),
    **dict.fromkeys(("PositionX", "PositionY", "PositionZ", "AbsPositionZ"), "m"),
    "MeasurementTimeOffset": "s",
}


class Harmony:
    """A plate in ``<experiment>/<plate>__<date>-Measurement 1/Images``, with its index."""

    def name_image(self, key: PlateKey, field: FieldKey, wave: int) -> str:
        """Name one image's file under the screen's folder; waves count from 1.

        Examples
        --------
        >>> Harmony().name_image(PlateKey("Batch1", "Plate1"), FieldKey(Well(1, 2), 1), 6)
        'Batch1/Plate1__2025-01-06T08_00_00-Measurement 1/Images/r02c03f01p01-ch6sk1fk1fl1.tiff'
        """
        return f"{_folder(key)}/{_name(field, wave)}"

    def write_image(self, path: Path, pixels: NDArray[np.uint16], *, pixel_size_um: float) -> None:
        """Write one image as an uncompressed TIFF that says its pixel size."""
        write_tiff(path, pixels, pixel_size_um=pixel_size_um)

    def write_plan(self, root: Path, key: PlateKey, *, wells: int, design: ScreenDesign) -> None:
        """Write the plate's index: every image that was taken, also those that get lost later."""
        folder = root / _folder(key)
        folder.mkdir(parents=True)
        index = _index(key, wells=wells, design=design)
        ET.indent(index)
        content = ET.tostring(index, encoding="unicode")
        text = f'<?xml version="1.0" encoding="utf-8"?>\n{content}\n'
        (folder / "Index.idx.xml").write_text(text, encoding="utf-8", newline="\n")

    def write_platemap(self, root: Path, rows: Sequence[Row]) -> None:
        """Write ``platemap.csv`` beside the experiments' folders."""
        write_csv(root / "platemap.csv", rows)


def _folder(key: PlateKey) -> str:
    return f"{key}__{_started(key):%Y-%m-%dT%H_%M_%S}-Measurement 1/Images"


def _name(field: FieldKey, wave: int) -> str:
    row, column = field.well.row + 1, field.well.column + 1
    return f"r{row:02d}c{column:02d}f{field.field:02d}p01-ch{wave}sk1fk1fl1.tiff"


def _started(key: PlateKey) -> datetime:
    return _FIRST_DAY + timedelta(days=plate_number(key) - 1)


def _index(key: PlateKey, *, wells: int, design: ScreenDesign) -> ET.Element:
    places = list_wells(wells)
    index = ET.Element("EvaluationInputData", {"xmlns": NAMESPACE, "Version": "1"})
    _add(index, {"User": "phenopipe", "InstrumentType": "Phenix"})
    plate = ET.SubElement(ET.SubElement(index, "Plates"), "Plate")
    _add(plate, _describe_plate(key, wells))
    for well in places:
        ET.SubElement(plate, "Well", id=_well_id(well))
    listed = ET.SubElement(index, "Wells")
    for well in places:
        element = ET.SubElement(listed, "Well")
        _add(element, {"id": _well_id(well), "Row": well.row + 1, "Col": well.column + 1})
        for field, wave in _list_images([well], design.sites):
            ET.SubElement(element, "Image", id=_image_id(field, wave))
    images = ET.SubElement(index, "Images")
    for number, (field, wave) in enumerate(_list_images(places, design.sites)):
        image = ET.SubElement(images, "Image", Version="1")
        _add(image, _describe_image(field, wave, design))
        _add(image, _place_image(field, design) | {"AbsTime": _spell_time(key, number)})
    return index


def _add(parent: ET.Element, values: Mapping[str, object]) -> None:
    for tag, value in values.items():
        unit = {"Unit": _UNITS[tag]} if tag in _UNITS else {}
        ET.SubElement(parent, tag, unit).text = str(value)


def _list_images(wells: Sequence[Well], sites: int) -> Iterator[tuple[FieldKey, int]]:
    for well, site in product(wells, range(1, sites + 1)):
        for wave in range(1, len(CHANNELS) + 1):
            yield FieldKey(well, site), wave


def _well_id(well: Well) -> str:
    return f"{well.row + 1:02d}{well.column + 1:02d}"


def _image_id(field: FieldKey, wave: int) -> str:
    return f"{_well_id(field.well)}K1F{field.field}P1R{wave}"


def _spell_time(key: PlateKey, number: int) -> str:
    """Say when one image was taken, the plate's first having number 0."""
    taken = _started(key) + number * _AN_IMAGE
    return taken.isoformat(timespec="milliseconds")


def _describe_plate(key: PlateKey, wells: int) -> dict[str, object]:
    rows, columns = PLATE_SHAPES[wells]
    return {
        "PlateID": key.plate,
        "MeasurementID": f"{key.experiment}-{key.plate}",
        "MeasurementStartTime": _spell_time(key, 0),
        "Name": key.plate,
        "PlateTypeName": f"{wells} simulated",
        "PlateRows": rows,
        "PlateColumns": columns,
    }


def _describe_image(field: FieldKey, wave: int, design: ScreenDesign) -> dict[str, object]:
    return {
        "id": _image_id(field, wave),
        "State": "Ok",
        "URL": _name(field, wave),
        "Row": field.well.row + 1,
        "Col": field.well.column + 1,
        "FieldID": field.field,
        "PlaneID": 1,
        "TimepointID": 0,
        "ChannelID": wave,
        "FlimID": 1,
        "ChannelName": CHANNELS[wave - 1],
        "ImageType": "Signal",
        "AcquisitionType": "NonConfocal",
        "IlluminationType": "Epifluorescence",
        "ChannelType": "Fluorescence",
        "ImageSizeX": design.size_px,
        "ImageSizeY": design.size_px,
        "BinningX": 1,
        "BinningY": 1,
        "MaxIntensity": 65535,
    }


def _place_image(field: FieldKey, design: ScreenDesign) -> dict[str, object]:
    """Say where a field lies from its well's middle: fields stand in one row, left to right."""
    pixel_m = design.pixel_size_um * 1e-6
    from_middle = field.field - (design.sites + 1) / 2
    return {
        "ImageResolutionX": f"{pixel_m:.9G}",
        "ImageResolutionY": f"{pixel_m:.9G}",
        "PositionX": f"{from_middle * design.size_px * pixel_m:.9G}",
        "PositionY": "0",
        "PositionZ": _FOCUS_M,
        "AbsPositionZ": _STAGE_M,
        "MeasurementTimeOffset": "0",
    }
