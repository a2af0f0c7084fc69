"""Screens in each layout: the same pixels, with that vendor's names and tables.

The index is compared with a real one of Harmony, the metadata with RxRx3's own description.
"""

import csv
import hashlib
import json
import re
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import imagecodecs
import numpy as np
import pytest
import tifffile

from phenopipe.errors import InputError
from phenopipe.ingest import find_plates, read_layout
from phenopipe.ingest.platemap import find_platemap, read_platemap, rows_of_plate
from phenopipe.plates import FieldKey, PlateKey, Well
from phenopipe.simulate import CHANNELS, ScreenDesign, simulate_screen
from phenopipe.simulate.harmony import NAMESPACE
from phenopipe.simulate.vendors import VENDORS

DESIGN = ScreenDesign(sites=2, size_px=64)
PLATE = PlateKey("Batch1", "Plate1")
FIELDS = [
    FieldKey(Well(row, column), site) for row in range(8) for column in range(12) for site in (1, 2)
]


def _draw(folder: Path, layout: str) -> Path:
    return simulate_screen(folder, layout=layout, plates=1, wells=96, design=DESIGN, workers=1)


@pytest.fixture(scope="module")
def screens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("screens")
    return {layout: _draw(folder / layout, layout) for layout in VENDORS}


def _read(path: Path) -> np.ndarray:
    return (
        imagecodecs.png_decode(path.read_bytes())
        if path.suffix == ".png"
        else tifffile.imread(path)
    )


def _bad(screen: Path, kind: str) -> set[Path]:
    with (screen / "truth" / "bad_files.csv").open(newline="") as file:
        return {screen / row["path"] for row in csv.DictReader(file) if row["kind"] == kind}


def _images(screen: Path) -> set[Path]:
    return {path for path in screen.rglob("*") if path.suffix.lower() in {".tif", ".tiff", ".png"}}


def _digest(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _index(screen: Path) -> ET.Element:
    (path,) = screen.rglob("Index.idx.xml")
    return ET.parse(path).getroot()  # noqa: S314 - written by this test


def _values(image: ET.Element) -> dict[str, str]:
    return {element.tag.removeprefix(f"{{{NAMESPACE}}}"): element.text for element in image}


@pytest.mark.parametrize("layout", VENDORS)
def test_every_image_is_there_but_the_missing(screens, layout):
    screen = screens[layout]
    expected = {
        screen / VENDORS[layout].name_image(PLATE, field, wave)
        for field in FIELDS
        for wave in range(1, 7)
    }
    assert _images(screen) == expected - _bad(screen, "missing")
    assert len(_bad(screen, "missing")) == 6 + 1
    assert _bad(screen, "missing") < expected


def test_the_pixels_are_the_same_in_every_layout(screens):
    truncated = _bad(screens["imagexpress"], "truncated")
    for field in FIELDS[::8]:
        for wave in range(1, 7):
            paths = [
                screens[name] / VENDORS[name].name_image(PLATE, field, wave) for name in VENDORS
            ]
            if paths[0] in truncated or not paths[0].exists():
                continue
            first, *others = map(_read, paths)
            assert first.dtype == np.uint16
            assert all(np.array_equal(first, other) for other in others)
            assert all(first.dtype == other.dtype for other in others)


@pytest.mark.parametrize("layout", VENDORS)
def test_truncated_files_cannot_be_read_in_any_layout(screens, layout):
    (path,) = _bad(screens[layout], "truncated")
    with pytest.raises(Exception):  # noqa: B017, PT011 - each codec raises its own kind
        _read(path)


@pytest.mark.parametrize("layout", ["harmony", "rxrx"])
def test_the_same_arguments_give_the_same_bytes_in_each_layout(screens, layout, tmp_path):
    assert _digest(_draw(tmp_path / "again", layout)) == _digest(screens[layout])


@pytest.mark.parametrize("layout", VENDORS)
def test_a_plate_is_read_in_the_layout_that_it_is_written_in(screens, layout):
    (folder,) = find_plates(screens[layout])
    index = read_layout(folder)
    assert (index.layout, index.plate, index.shape) == (layout, "Plate1", (8, 12))
    assert {folder / image.path for image in index.images} == _images(screens[layout])
    assert index.ignored == ()
    assert len(index.images) + len(index.absent) == 96 * 2 * 6
    assert folder.parent.name == "Batch1"


@pytest.mark.parametrize(
    ("layout", "name"),
    [("imagexpress", "platemap.csv"), ("harmony", "platemap.csv"), ("rxrx", "metadata.csv")],
)
def test_a_screen_has_one_platemap(screens, layout, name):
    assert find_platemap(screens[layout]) == screens[layout] / name


def test_harmonys_index_keeps_stains_pixel_size_and_places(screens):
    (folder,) = find_plates(screens["harmony"])
    index = read_layout(folder)
    assert tuple(index.channels.values()) == CHANNELS
    assert index.pixel_size_um == pytest.approx(1.3)
    assert index.expected == 96 * 2 * 6
    places = [index.places[FieldKey(Well(3, 4), site)] for site in (1, 2)]
    assert [place.x_um for place in places] == pytest.approx([-32 * 1.3, 32 * 1.3])
    assert places[0].acquired < places[1].acquired


def test_the_truth_is_the_same_but_for_the_paths(screens):
    truths = [json.loads((path / "truth/truth.json").read_text()) for path in screens.values()]
    assert [truth.pop("layout", None) for truth in truths] == [None, "harmony", "rxrx"]
    assert truths[0] == truths[1] == truths[2]


def test_a_screen_of_another_layout_is_refused(screens):
    with pytest.raises(InputError, match="another layout"):
        _draw(screens["harmony"], "imagexpress")
    with pytest.raises(InputError, match="another layout"):
        _draw(screens["imagexpress"], "rxrx")


def test_the_index_of_harmony_lists_each_image_once_and_knows_the_lost_ones(screens):
    images = [_values(image) for image in _index(screens["harmony"]).iter(f"{{{NAMESPACE}}}Image")]
    urls = [image["URL"] for image in images if "URL" in image]
    assert len(urls) == len(set(urls)) == 96 * 2 * 6
    found = {path.name for path in _images(screens["harmony"])}
    lost = {path.name for path in _bad(screens["harmony"], "missing")}
    assert set(urls) == found | lost


def test_the_index_of_harmony_says_what_the_file_names_say(screens):
    for image in _index(screens["harmony"]).iterfind(f"./{{{NAMESPACE}}}Images/*"):
        values = _values(image)
        names = ("Row", "Col", "FieldID", "PlaneID", "ChannelID", "FlimID")
        row, column, field, plane, channel, flim = (int(values[name]) for name in names)
        url = f"r{row:02d}c{column:02d}f{field:02d}p{plane:02d}-ch{channel}sk1fk1fl{flim}.tiff"
        assert values["URL"] == url
        assert values["ChannelName"] == CHANNELS[channel - 1]


def test_fields_of_harmony_stand_side_by_side_around_the_wells_middle_in_metres(screens):
    images = _index(screens["harmony"]).findall(f"./{{{NAMESPACE}}}Images/*")
    left, right = (
        next(v for v in map(_values, images) if v["FieldID"] == field) for field in ("1", "2")
    )
    assert float(left["ImageResolutionX"]) == pytest.approx(1.3e-6)
    assert float(right["PositionX"]) - float(left["PositionX"]) == pytest.approx(64 * 1.3e-6)
    assert float(right["PositionX"]) + float(left["PositionX"]) == 0


def test_images_of_harmony_are_taken_one_after_the_other(screens):
    images = map(_values, _index(screens["harmony"]).iterfind(f"./{{{NAMESPACE}}}Images/*"))
    times = [datetime.fromisoformat(image["AbsTime"]) for image in images]
    assert times == sorted(set(times))
    assert times[0].utcoffset().total_seconds() == 0


def test_the_index_is_of_the_elements_and_units_of_a_real_one(screens, shared):
    real = ET.parse(shared("plates/harmony/Version1/images/Index.idx.xml")).getroot()  # noqa: S314

    def shapes(root):
        kinds = {(e.tag, child.tag, child.get("Unit")) for e in root.iter() for child in e}
        return {(root.tag, None, None), *kinds}

    assert shapes(_index(screens["harmony"])) <= shapes(real)


def test_metadata_have_the_columns_that_rxrx3_describes(screens, shared):
    described = shared("plates/tables/rxrx_rxrx3.md").read_text()
    columns = re.findall(r"^\| (\w+)\s+\|", described, re.MULTILINE)[1:]
    with (screens["rxrx"] / "metadata.csv").open(newline="") as file:
        assert csv.DictReader(file).fieldnames == [*columns, "zfpkm"]
    assert not (screens["rxrx"] / "platemap.csv").exists()


def test_metadata_say_what_the_platemap_says(screens):
    ours, rxrx = (
        rows_of_plate(read_platemap(screens[layout] / name), PLATE)
        for layout, name in [("imagexpress", "platemap.csv"), ("rxrx", "metadata.csv")]
    )
    assert rxrx["well"].tolist() == ours["well"].tolist()
    assert rxrx["gene"].tolist() == ours["gene"].tolist()
    assert rxrx["zfpkm"].tolist() == pytest.approx(ours["zfpkm"].tolist(), nan_ok=True)
    # RxRx3 knows an untreated well as a negative control too.
    untreated = ours["perturbation"].isin(["NTC", "EMPTY"])
    assert (rxrx["control_type"] == "negative").tolist() == untreated.tolist()
    treated = ours.loc[~untreated, "guide"].str.replace("_g", "_guide_")
    assert rxrx.loc[~untreated, "perturbation"].tolist() == treated.tolist()
