import re
from collections import Counter

import numpy as np
import pytest
import tifffile
import zarr

from phenopipe import compute
from phenopipe.errors import InputError
from phenopipe.ingest.detect import find_plates, read_layout
from phenopipe.ingest.images import read_image
from phenopipe.ingest.layouts.arrayscan import ArrayScan
from phenopipe.ingest.plate import ingest_plate
from phenopipe.lake import Lake

# The pattern that is known to hold on the real files, written apart from the layout's own.
KNOWN = re.compile(r"^(.+)_([A-P]\d{2})f(\d{2,3})([do])(\d+)\.(tif|dib|c01)$", re.IGNORECASE)
VENDOR, EXPORT = "plates/arrayscan/test-data/d1", "plates/arrayscan/test-data-results-m"
REAL = {
    VENDOR: ("MFGTMP_120628160001", "C18", 3, (16, 24), ".C01"),
    f"{EXPORT}/d1": ("MFGTMP_120628160001", "C18", 3, (16, 24), ".tif"),
    f"{EXPORT}/d3": ("AS_09125_050116110001", "A01", 6, (8, 12), ".tif"),
}


def write_images(folder, names, shape=(4, 4)):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, np.ones(shape, "uint16"))
    return folder


# --- the real plates --------------------------------------------------------------------------


@pytest.mark.parametrize("name", REAL)
def test_reads_a_real_plate(shared, name):
    plate, well, n_fields, shape, suffix = REAL[name]
    index = read_layout(shared(name))
    assert (index.layout, index.plate, index.shape) == ("arrayscan", plate, shape)
    assert [str(field) for field in index.fields] == [f"{well} field {n}" for n in range(n_fields)]
    assert dict(index.channels) == {"0": "d0", "1": "d1", "2": "d2"}
    assert Counter(image.channel for image in index.images) == dict.fromkeys("012", n_fields)
    assert {image.path[-4:] for image in index.images} == {suffix}
    assert {image.plane[1:] for image in index.images} == {(None, None)}
    assert (index.missing, index.absent) == ((), ())


@pytest.mark.parametrize("name", REAL)
def test_reads_real_names_as_the_known_pattern_does(shared, name):
    folder = shared(name)
    index = read_layout(folder)
    known = {path.name: KNOWN.match(path.name) for path in folder.iterdir()}
    assert {
        image.path: (str(image.well), image.field, image.channel) for image in index.images
    } == {file: (m[2], int(m[3]), m[5]) for file, m in known.items() if m[4] == "d"}
    assert dict(index.ignored) == {file: "mask" for file, m in known.items() if m[4] == "o"}


def test_finds_the_real_plates(shared):
    folder = shared("plates/arrayscan")
    found = [str(path.relative_to(folder)) for path in find_plates(folder)]
    assert found == ["test-data/d1", "test-data-results-m/d1", "test-data-results-m/d3"]


def test_the_microscopes_files_hold_the_pixels_of_their_export(shared):
    vendor, export = read_layout(shared(VENDOR)), read_layout(shared(f"{EXPORT}/d1"))
    assert len(vendor.images) == 9
    for own, exported in zip(vendor.images, export.images, strict=True):
        assert own.field_key == exported.field_key
        assert own.plane == exported.plane
        theirs = tifffile.imread(export.folder / exported.path)
        np.testing.assert_array_equal(read_image(vendor.folder / own.path), theirs)


def test_reads_the_microscopes_own_file_where_its_export_lies_beside_it(shared, tmp_path):
    for folder in (shared(VENDOR), shared(f"{EXPORT}/d1")):
        for path in folder.iterdir():
            (tmp_path / path.name).symlink_to(path)
    index = read_layout(tmp_path)
    assert [image.path for image in index.images] == [
        image.path for image in read_layout(shared(VENDOR)).images
    ]
    reasons = Counter(reason.partition(" as ")[0] for _, reason in index.ignored)
    assert reasons == {"same plane": 9, "mask": 3}
    name = "MFGTMP_120628160001_C18f00d0"
    assert dict(index.ignored)[f"{name}.tif"] == f"same plane as {name}.C01"


def test_a_field_numbered_0_reaches_the_plate_image(shared, tmp_path):
    lake = Lake(tmp_path / "lake")
    with compute.client("threads", workers=1) as client:
        made = ingest_plate(shared(f"{EXPORT}/d1"), lake, client=client, experiment="E1")
    plate = zarr.open_group(f"{lake.root}/{made.thing}", mode="r")
    for field in range(3):
        pixels = plate[f"C/18/{field}/0"]
        for channel in range(3):
            name = f"MFGTMP_120628160001_C18f0{field}d{channel}.tif"
            theirs = tifffile.imread(shared(f"{EXPORT}/d1") / name)
            np.testing.assert_array_equal(pixels[channel], theirs)


# --- the plates of one's own ------------------------------------------------------------------


def test_keeps_channels_in_the_order_of_their_numbers(tmp_path):
    index = read_layout(write_images(tmp_path, [f"P_A01f000d{n}.tif" for n in (10, 2, 0)]))
    assert list(index.channels) == ["0", "2", "10"]
    assert [image.channel for image in index.images] == ["0", "2", "10"]


def test_names_what_is_absent(tmp_path):
    names = [f"P_{well}f0{f}d{c}.tif" for well in ("A01", "B02") for f in (0, 1) for c in (0, 1)]
    gone = {"P_A01f00d1.tif", "P_B02f01d0.tif", "P_B02f01d1.tif"}
    index = read_layout(write_images(tmp_path, [name for name in names if name not in gone]))
    assert index.missing == ("A01 field 0: no image of d1", "B02 field 1: no image")
    assert len(index.absent) == 3


def test_ignores_with_a_reason(tmp_path):
    names = ["P_A01f00d0.TIF", "p_a01f00o0.tif", "._P_A01f00d0.tif", "old/P_A01f00d0.tif"]
    write_images(tmp_path, [*names, "P_A01f00d0.DIB", "P_A99f00d0.tif", "P.MDB"])
    assert read_layout(tmp_path).ignored == (
        ("._P_A01f00d0.tif", "hidden file"),
        ("P.MDB", "not named <plate>_<well>f<field>d<channel>.C01 or .tif"),
        ("P_A01f00d0.DIB", "same plane as P_A01f00d0.TIF"),
        ("P_A99f00d0.tif", "no plate has a well A99"),
        ("old/P_A01f00d0.tif", "in a folder inside the plate's"),
        ("p_a01f00o0.tif", "mask"),
    )


def test_a_folder_of_masks_is_no_plate(tmp_path):
    write_images(tmp_path, ["P_A01f00o0.tif"])
    assert ArrayScan().recognise(tmp_path) is None
    with pytest.raises(InputError, match="found none among 1 files: give the plate's own folder"):
        ArrayScan().read(tmp_path)


def test_refuses_two_plates_and_two_files_for_one_image(tmp_path):
    write_images(tmp_path / "two", ["P1_A01f00d0.tif", "P2_A01f00d0.tif"])
    with pytest.raises(InputError, match=r"found 2: P1 \(P1_A01f00d0\.tif\), P2 \(P2_A01"):
        read_layout(tmp_path / "two")
    write_images(tmp_path / "twice", ["P1_A01f00d0.tif", "P1_A01f000d0.tif"])
    with pytest.raises(InputError, match=r"d0 of A01 field 0 .*f000d0\.tif and .*f00d0\.tif: move"):
        read_layout(tmp_path / "twice")
