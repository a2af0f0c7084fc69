import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from phenopipe.errors import InputError
from phenopipe.ingest.detect import find_plates, read_layout, recognise_folder
from phenopipe.ingest.layouts import find_layouts

# A user's own package, as pip installs it: a module, and an entry point in its metadata.
OWN_LAYOUT = """
from pathlib import Path
from phenopipe.ingest.index import PlateIndex, ImageFile
from phenopipe.plates import Well

class Bench:
    name = "bench"
    def recognise(self, folder):
        return "it has a bench.txt" if (folder / "bench.txt").exists() else None
    def read(self, folder):
        image = ImageFile("a.tif", Well(0, 0), 1, "1")
        return PlateIndex(folder, "bench", "", "mine", (image,), {"1": "DNA"}, (8, 12))

layout = Bench()
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package that adds a layout under the name."""

    def put(name, value="bench_layout:layout"):
        site = tmp_path / "site"
        site.mkdir()
        (site / "bench_layout.py").write_text(OWN_LAYOUT)
        info = site / "bench_layout-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-layout\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[phenopipe.layouts]\n{name} = {value}\n")
        monkeypatch.syspath_prepend(site)

    return put


def write_plate(folder, *names):
    for name in names or ("TimePoint_1/P1_A01_s1_w1.TIF",):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, np.ones((4, 4), "uint16"))
    return folder


def test_says_which_layout_fits_and_why(tmp_path):
    index = read_layout(write_plate(tmp_path / "P1"))
    assert index.layout == "imagexpress"
    assert index.reason.startswith("TimePoint_1/P1_A01_s1_w1.TIF is named ")
    assert read_layout(tmp_path / "P1", "imagexpress").reason.startswith("asked for by name; ")
    assert read_layout(str(tmp_path / "P1")) == index


def test_reads_a_layout_that_a_package_adds(tmp_path, install):
    install("bench")
    (tmp_path / "plate").mkdir()
    (tmp_path / "plate" / "bench.txt").touch()
    index = read_layout(tmp_path / "plate")
    assert (index.layout, index.reason, index.plate) == ("bench", "it has a bench.txt", "mine")


def test_refuses_a_folder_that_two_layouts_fit(tmp_path, install):
    install("bench")
    write_plate(tmp_path / "P1")
    (tmp_path / "P1" / "bench.txt").touch()
    with pytest.raises(InputError, match=r"one layout to fit .* found 2 \(imagexpress: .*bench: "):
        read_layout(tmp_path / "P1")
    assert read_layout(tmp_path / "P1", "imagexpress").layout == "imagexpress"
    assert read_layout(tmp_path / "P1", "bench").layout == "bench"


def test_refuses_a_package_that_takes_a_name_or_cannot_be_imported(tmp_path, install):
    install("imagexpress")
    with pytest.raises(InputError, match="found a second at bench_layout:layout"):
        read_layout(tmp_path)


def test_refuses_a_package_whose_layout_cannot_be_imported(tmp_path, install):
    install("bench", "bench_layout:nothing")
    with pytest.raises(InputError, match="expected a layout at bench_layout:nothing"):
        read_layout(tmp_path)


@pytest.mark.parametrize("read", [read_layout, find_plates])
def test_refuses_what_is_no_plate(tmp_path, read):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="found no file named like one"):
        read(tmp_path)
    with pytest.raises(InputError, match="found nothing at"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="found a file at"):
        read(tmp_path / "notes.txt")
    with pytest.raises(InputError, match=r"auto or .*imagexpress.* found 'harmonium'"):
        read(tmp_path, "harmonium")


def test_finds_plates_in_folders_of_folders_and_their_inner_folders_belong_to_them(tmp_path):
    write_plate(tmp_path / "E1" / "P1", "TimePoint_1/ZStep_1/P1_A01_s1_w1.TIF")
    write_plate(tmp_path / "E1" / "P2", "2024-04-22/17/P2_A01_s1_w1.tif")
    write_plate(tmp_path / "E2" / "deep" / "P3", "P3_A01_w1.tif")
    write_plate(tmp_path / ".trash" / "P4")
    (tmp_path / "truth").mkdir()
    (tmp_path / "platemap.csv").touch()
    found = [str(path.relative_to(tmp_path)) for path in find_plates(tmp_path)]
    assert found == ["E1/P1", "E1/P2", "E2/deep/P3"]
    assert find_plates(tmp_path / "E1" / "P1") == [tmp_path / "E1" / "P1"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_refuses_a_folder_that_cannot_be_read(tmp_path):
    closed = write_plate(tmp_path / "P1") / "TimePoint_1"
    closed.chmod(0)
    try:
        with pytest.raises(InputError, match="check the path and your rights"):
            read_layout(tmp_path / "P1")
    finally:
        closed.chmod(0o755)


def test_finds_the_real_plates(shared):
    folder = shared("plates/imagexpress")
    names = [path.name for path in find_plates(folder)]
    assert names == [
        "1well-3C-2S-Zmix-T",
        "Projection-Mix",
        "SingleChannel",
        "9987_Plate_3420",
        "9987_Plate_3434",
        "9987_Plate_3435",
    ]
    assert [Path(plate).parent.name for plate in find_plates(folder / "ImageXpress_exported")] == [
        "ImageXpress_exported"
    ] * 3


# Every real folder that is a vendor's plate. Of rxrx and cpg there are no real images, and the
# real OME-TIFFs are of no plate.
CV8000 = "CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack"
REAL = {
    "imagexpress/ImageXpress/Projection-Mix": "imagexpress",
    "imagexpress/ImageXpress/SingleChannel": "imagexpress",
    "imagexpress/ImageXpress/1well-3C-2S-Zmix-T": "imagexpress",
    "imagexpress/ImageXpress_exported/9987_Plate_3420": "imagexpress",
    "imagexpress/ImageXpress_exported/9987_Plate_3434": "imagexpress",
    "imagexpress/ImageXpress_exported/9987_Plate_3435": "imagexpress",
    "harmony/Version1": "harmony",
    "harmony/Version1/images": "harmony",
    "harmony/Version7": "harmony",
    "harmony/Version7/images": "harmony",
    f"cellvoyager/CV8000/{CV8000}_20230918_135839": "cellvoyager",
    f"cellvoyager/CV8000/{CV8000}_20230918_135839/{CV8000}": "cellvoyager",
    "arrayscan/test-data/d1": "arrayscan",
    "arrayscan/test-data-results-m/d1": "arrayscan",
    "arrayscan/test-data-results-m/d3": "arrayscan",
    "ngff/single-plane-hcs.zarr": "ome-zarr",
}


@pytest.mark.parametrize("folder", REAL)
def test_one_layout_recognises_a_real_plate(shared, folder):
    fitting = recognise_folder(shared("plates") / folder, find_layouts())
    assert list(fitting) == [REAL[folder]]


def test_no_real_folder_is_claimed_by_two_layouts(shared):
    layouts = find_layouts()
    assert {"rxrx", "cpg", "ome-tiff", *REAL.values()} <= set(layouts)
    top = shared("plates")
    for folder in [top, *(path for path in top.rglob("*") if path.is_dir())]:
        assert len(recognise_folder(folder, layouts)) <= 1, folder


def test_other_vendors_folders_are_not_taken_for_imagexpress(shared):
    plates = shared("plates")
    for vendor in ("harmony", "cellvoyager", "arrayscan", "sbs96", "odd_tiffs"):
        with pytest.raises(InputError, match="found no file named like one"):
            find_plates(plates / vendor, "imagexpress")
