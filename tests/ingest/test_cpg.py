import csv
import gzip
from datetime import datetime

import numpy as np
import pytest
import tifffile

from phenopipe.errors import InputError
from phenopipe.ingest import find_plates, read_layout
from phenopipe.ingest.images import read_image
from phenopipe.ingest.index import Place
from phenopipe.ingest.layouts import find_layouts
from phenopipe.ingest.layouts.cpg import Cpg
from phenopipe.plates import FieldKey, Well

TABLES = "plates/tables/load_data_version{}.csv"
IMAGES = "plates/harmony/Version1/images"
A01 = Well.parse("A01")


def read(folder):
    return Cpg().read(folder)


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_table(folder, rows, name="load_data.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    opened = gzip.open if name.endswith(".gz") else open
    with opened(folder / name, "wt", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def write_images(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        tifffile.imwrite(folder / name, np.ones((4, 4), "uint16"))


def make_rows(path="", *, wells=("A01", "B02"), sites=(1, 2), channels=("OrigDNA", "OrigER")):
    """Make the rows of a plate whose files are named ``<well>_s<site>_<channel>.tif``."""
    return [
        {"Metadata_Plate": "BR1", "Metadata_Well": well, "Metadata_Site": str(site)}
        | {f"FileName_{c}": f"{well}_s{site}_{c}.tif" for c in channels}
        | {f"PathName_{c}": path for c in channels}
        for well in wells
        for site in sites
    ]


def name_files(rows):
    return [name for row in rows for column, name in row.items() if column.startswith("FileName_")]


# --- the published tables ------------------------------------------------------------------------


def test_a_published_table_with_its_images(shared, tmp_path):
    images = shared(IMAGES)
    (row,) = read_rows(shared(TABLES.format(1)))
    row |= {column: f"{images}/" for column in row if column.startswith("PathName_")}
    index = read_layout(write_table(tmp_path / "BR", [row]))
    assert (index.layout, index.plate, index.shape) == ("cpg", "BR00121482", (8, 12))
    assert list(index.channels.values()) == ["RNA", "ER", "AGP", "Mito", "Brightfield", "DNA"]
    assert index.channels["OrigDNA"] == "DNA"
    assert index.expected == len(index.images) == 6
    assert (index.missing, index.absent, index.ignored) == ((), (), ())
    assert index.metadata_files == ("load_data.csv",)
    for image in index.images:
        name = row[f"FileName_{image.channel}"]
        assert (image.field_key, image.z, image.t, image.page) == (
            FieldKey(A01, 1),
            None,
            None,
            None,
        )
        found = read_image(index.folder / image.path)
        np.testing.assert_array_equal(found, tifffile.imread(images / name), strict=True)


def test_positions_and_times_are_those_of_the_table(shared, tmp_path):
    (row,) = read_rows(shared(TABLES.format(5)))
    write_images(tmp_path / "images", name_files([row]))
    index = read(write_table(tmp_path, [row]))
    assert index.pixel_size_um == pytest.approx(0.59798, abs=1e-5)
    # The earliest of its six images is the digital phase contrast.
    first = datetime.fromisoformat("2023-03-23T14:52:40.420-04:00")
    assert index.places == {
        FieldKey(A01, 1): Place(-322.907, 322.907, pytest.approx(135336.205), first)
    }


@pytest.mark.parametrize("version", [1, 5, 7])
def test_each_published_table_is_read_whole(shared, tmp_path, version):
    rows = read_rows(shared(TABLES.format(version)))
    write_images(tmp_path / "images", name_files(rows))
    index = read(write_table(tmp_path, rows))
    named = [c.removeprefix("FileName_") for c in rows[0] if c.startswith("FileName_")]
    assert list(index.channels) == named
    assert {i.path: i.channel for i in index.images} == {
        f"images/{rows[0][f'FileName_{c}']}": c for c in named
    }


def test_tables_of_other_names_are_no_plates(shared, tmp_path):
    assert Cpg().recognise(shared("plates/harmony/Version1")) is None
    assert Cpg().recognise(shared("plates/tables")) is None
    (tmp_path / "load_data_version1.csv").touch()
    assert Cpg().recognise(tmp_path) is None


# --- where the images are ------------------------------------------------------------------------


def test_the_gallerys_own_folders(tmp_path):
    source = tmp_path / "cpg0016-jump/source_4"
    batch = "2021_04_26_Batch1"
    images = source / f"images/{batch}/images/BR1__2021-05-02T16_02_51-Measurement1/Images"
    other = source / f"images/{batch}/images/BR2__2021-05-03T16_02_51-Measurement1/Images"
    bucket = "/home/ubuntu/bucket/projects/2021_04_26_Production"
    tables = source / f"workspace/load_data_csv/{batch}"
    for plate, folder in (("BR1", images), ("BR2", other)):
        path = f"{bucket}/{batch}/images/{folder.parent.name}/Images/"
        rows = [row | {"Metadata_Plate": plate} for row in make_rows(path)]
        write_images(folder, name_files(rows))
        write_table(tables / plate, rows)
        illumination = {
            f"{column}_Illum{dye}": value
            for dye in ("DNA", "ER")
            for column, value in (
                ("PathName", f"{bucket}/{batch}/illum/{plate}"),
                ("FileName", f"{plate}_Illum{dye}.npy"),
            )
        }
        write_table(tables / plate, [r | illumination for r in rows], "load_data_with_illum.csv")
    function = source / f"images/{batch}/illum/BR1/BR1_IllumDNA.npy"
    function.parent.mkdir(parents=True)
    np.save(function, np.ones((4, 4)))
    assert find_plates(tables) == [tables / "BR1", tables / "BR2"]
    index = read_layout(tables / "BR1")
    assert index.reason == "load_data_with_illum.csv lists its images"
    found = {(index.folder / image.path).resolve() for image in index.images}
    assert found == set(images.iterdir())
    assert index.expected == len(index.images) == 8
    ((channel, path),) = index.illumination.items()
    assert (channel, (index.folder / path).resolve()) == ("OrigDNA", function)
    assert index.missing == ("illumination function of OrigER: no BR1_IllumER.npy",)
    assert index.ignored == (("load_data.csv", "load_data_with_illum.csv is read instead"),)


def test_one_name_is_not_enough_above_the_tables_folder(tmp_path):
    rows = make_rows("/there/P1/Images")
    write_images(tmp_path / "Images", name_files(rows))
    with pytest.raises(InputError, match=r"expected the 8 images .* found none \(such as A01_s1"):
        read(write_table(tmp_path / "P1", rows))


@pytest.mark.parametrize(
    ("written", "lies"),
    [
        ("", "."),
        ("Images", "Images"),
        ("../elsewhere", "../elsewhere"),
        (r"D:\screens\P1\Images", "Images"),
        ("/mnt/screens/P1/Images", "."),
        ("/mnt/screens/P1/Images", "../P1/Images"),
    ],
)
def test_images_are_found_by_the_end_of_their_path(tmp_path, written, lies):
    rows = make_rows(written)
    folder = write_table(tmp_path / "P1", rows)
    write_images(folder / lies, name_files(rows))
    index = read(folder)
    found = sorted((folder / image.path).resolve() for image in index.images)
    assert found == sorted((folder / lies / name).resolve() for name in name_files(rows))
    assert "\\" not in "".join(image.path for image in index.images)


def test_urls_are_read_as_paths(tmp_path):
    row = {"Metadata_Plate": "P", "Metadata_Well": "C4", "Metadata_Site": "3"}
    urls = {"URL_DNA": "s3://bucket/run%201/P1/Images/a.tif", "URL_ER": "https://x/P1/Images/b.tif"}
    folder = write_table(tmp_path / "tables", [row | urls])
    write_images(tmp_path / "run 1/P1/Images", ["a.tif"])
    write_images(tmp_path / "P1/Images", ["b.tif"])
    assert [(i.path, i.channel) for i in read(folder).images] == [
        ("../run 1/P1/Images/a.tif", "DNA"),
        ("../P1/Images/b.tif", "ER"),
    ]


def test_listed_images_that_are_not_there_are_absent(tmp_path):
    rows = make_rows("Images")
    folder = write_table(tmp_path / "P1", rows)
    there = [name for name in name_files(rows) if name != "A01_s2_OrigER.tif" and "B02" not in name]
    write_images(folder / "Images", [*there, "B02_s1_OrigDNA.tif", "stray.tif"])
    index = read(folder)
    assert index.expected == 8
    assert index.missing == (
        "A01 field 2: no image of OrigER",
        "B02 field 1: no image of OrigER",
        "B02 field 2: no image",
    )
    assert len(index.absent) == 4
    assert index.ignored == (("Images/stray.tif", "not named in load_data.csv"),)


def test_a_channel_without_any_image_is_told(tmp_path):
    rows = make_rows()
    folder = write_table(tmp_path / "P1", rows)
    write_images(folder, [name for name in name_files(rows) if "DNA" in name])
    assert "OrigER promised by load_data.csv: no image" in read(folder).missing


def test_an_illumination_function_beside_the_images_is_metadata(tmp_path):
    rows = [row | {"FileName_IllumOrigDNA": "dna.npy"} for row in make_rows()]
    folder = write_table(tmp_path / "P1", rows)
    write_images(folder, [n for n in name_files(rows) if n.endswith("tif")])
    np.save(folder / "dna.npy", np.ones((4, 4)))
    index = read(folder)
    assert index.illumination == {"OrigDNA": "dna.npy"}
    assert index.metadata_files == ("dna.npy", "load_data.csv")
    assert index.ignored == ()


# --- rows in other spellings ---------------------------------------------------------------------


def test_a_packed_table(tmp_path):
    rows = make_rows()
    folder = write_table(tmp_path / "P1", rows, "load_data.csv.gz")
    write_images(folder, name_files(rows))
    assert len(read(folder).images) == 8


@pytest.mark.parametrize(
    ("told", "well"),
    [
        ({"Metadata_Well": "p24"}, "P24"),
        ({"Metadata_Row": "2", "Metadata_Col": "3"}, "B03"),
        ({"Metadata_Row": "32", "Metadata_Col": "48"}, "AF48"),
        ({"Metadata_Row": "B", "Metadata_Column": "3"}, "B03"),
    ],
)
def test_wells(tmp_path, told, well):
    (row,) = make_rows(wells=["A01"], sites=[1])
    del row["Metadata_Well"]
    write_images(tmp_path, name_files([row]))
    assert {str(i.well) for i in read(write_table(tmp_path, [row | told])).images} == {well}


@pytest.mark.parametrize(("told", "field"), [("0", 0), ("12", 12), ("3.0", 3)])
def test_sites(tmp_path, told, field):
    (row,) = make_rows(wells=["A01"], sites=[told])
    write_images(tmp_path, name_files([row]))
    assert {i.field for i in read(write_table(tmp_path, [row])).images} == {field}


def test_planes_and_time_points_count_from_zero(tmp_path):
    rows = [
        row
        | {"Metadata_PlaneID": str(plane), "Metadata_TimepointID": str(time)}
        | {"FileName_OrigDNA": f"p{plane}t{time}.tif", "Metadata_AbsPositionZ": str(plane * 2e-6)}
        for row in make_rows(wells=["A01"], sites=[1], channels=["OrigDNA"])
        for plane in (1, 2, 3)
        for time in (0, 1)
    ]
    write_images(tmp_path, name_files(rows))
    index = read(write_table(tmp_path, rows))
    assert {i.path: (i.z, i.t) for i in index.images} == {
        f"p{plane}t{time}.tif": (plane - 1, time) for plane in (1, 2, 3) for time in (0, 1)
    }
    assert index.z_step_um == 2.0


def test_labels_lose_orig_only_where_they_stay_unique(tmp_path):
    rows = make_rows(channels=("OrigDNA", "DNA", "OrigER"))
    write_images(tmp_path, name_files(rows))
    labels = {"OrigDNA": "OrigDNA", "DNA": "DNA", "OrigER": "ER"}
    assert read(write_table(tmp_path, rows)).channels == labels


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"Metadata_Plate": "BR2"}, r"expected one Metadata_Plate .* found 2: BR1, BR2"),
        ({"Metadata_Plate": ""}, r"expected one Metadata_Plate .* found 2: none, BR1"),
        ({"Metadata_Well": "Z99"}, r"in row 2 of load_data.csv, found 'Z99'"),
        ({"Metadata_Site": "left"}, r"Metadata_Site in row 2 of load_data.csv, found 'left'"),
        ({"Metadata_Well": "B02"}, r"expected one file for OrigDNA of B02 field 1"),
        ({"FileName_OrigER": "B02_s1_OrigER.tif"}, r"B02_s1_OrigER.tif more often"),
        ({"Frame_OrigER": "2"}, r"files of one plane, found Frame_OrigER 2 in row 2"),
        ({"FileName_IllumDNA": "a.npy"}, r"expected one illumination function for OrigDNA"),
    ],
)
def test_a_table_that_cannot_be_is_refused(tmp_path, change, told):
    rows = [row | {k: "b.npy" for k in change if "Illum" in k} for row in make_rows()]
    rows = [{**row, **{k: row.get(k, "") for k in change}} for row in rows]
    rows[0] |= change
    write_images(tmp_path, name_files(make_rows()))
    with pytest.raises(InputError, match=told):
        read(write_table(tmp_path, rows))


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe\x00", b'FileName_DNA\n"a'])
@pytest.mark.parametrize("name", ["load_data.csv", "load_data.csv.gz"])
def test_a_damaged_table_is_told(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"expected (a LoadData table|rows with FileName)"):
        read_layout(tmp_path)


def test_a_packed_table_that_was_damaged_is_told(tmp_path):
    packed = bytearray(gzip.compress(b"FileName_DNA\na.tif\n" * 50))
    packed[12:20] = b"damaged!"
    (tmp_path / "load_data.csv.gz").write_bytes(packed)
    with pytest.raises(InputError, match="expected a LoadData table"):
        read_layout(tmp_path)


def test_no_other_layout_takes_its_folder(tmp_path):
    rows = make_rows()
    folder = write_table(tmp_path / "P1", rows)
    write_images(folder, name_files(rows))
    assert [n for n, layout in find_layouts().items() if layout.recognise(folder)] == ["cpg"]
