import re
from collections import Counter
from itertools import product

import numpy as np
import pytest
import tifffile

from phenopipe.errors import InputError
from phenopipe.ingest import read_layout
from phenopipe.ingest.layouts.htd import read_plan
from phenopipe.ingest.layouts.imagexpress import ImageXpress
from phenopipe.simulate import ScreenDesign, simulate_screen

# The pattern that is known to hold on the real files, written apart from the layout's own.
KNOWN = re.compile(
    r"^(?P<plate>.+?)_(?P<well>[A-Z]{1,2}\d{2})(?:_s(?P<site>\d+?))?(?:_w(?P<channel>\d+?))?"
    r"(?P<thumb>_thumb)?_?\[?(?P<guid>[0-9A-F]{8}-(?:[0-9A-F]{4}-){3}[0-9A-F]{12})?\]?\.tiff?$",
    re.IGNORECASE,
)
GUID = "045200D6-DAE1-4224-AFDE-9EFD107D85EB"


def read(folder):
    return ImageXpress().read(folder)


def write_images(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, np.ones((4, 4), "uint16"))
    return folder


def write_screen_plate(folder, *, without=(), wells=("A01", "A02", "B01"), sites=2, waves=3):
    """Write the plate that an export of `wells` x `sites` x `waves` leaves behind."""
    planned = product(wells, range(1, sites + 1), range(1, waves + 1))
    names = [f"TimePoint_1/P1_{well}_s{site}_w{wave}.TIF" for well, site, wave in planned]
    return write_images(folder, [name for name in names if name not in without])


def htd_text(*, wells="TRUE, TRUE, TRUE", sites="TRUE, TRUE", waves=3, times=1, steps=0):
    return "\r\n".join(
        [
            '"HTSInfoFile", Version 1.0',
            f'"TimePoints", {times}',
            f'"ZSeries", {"TRUE" if steps else "FALSE"}',
            f'"ZSteps", {steps}',
            '"XWells", 3',
            '"YWells", 2',
            f'"WellsSelection1", {wells}',
            '"WellsSelection2", FALSE, FALSE, FALSE',
            '"Sites", TRUE',
            f'"SiteSelection1", {sites}',
            f'"NWavelengths", {waves}',
            *(f'"WaveName{number}", "dye é{number}"' for number in range(1, waves + 1)),
            '"EndFile"',
        ]
    )


# --- the real plates: wells x sites, and how many images each channel has in each z and t -----

DATABASE, EXPORT = "plates/imagexpress/ImageXpress", "plates/imagexpress/ImageXpress_exported"
REAL = {
    f"{DATABASE}/Projection-Mix": (
        ["E07", "E08"],
        [1, 2],
        # w3 is only projected, w4 is only in the lowest step: both are legal.
        {(c, None, None): 4 for c in "123"}
        | {(c, z, None): 4 for c in "12" for z in range(3)}
        | {("4", 0, None): 4},
        {"1": "FITC_05_w1", "2": "FITC_05_w2", "3": "FITC_05_w3", "4": "FITC_05_w4"},
        1.3668,
    ),
    f"{DATABASE}/SingleChannel": (
        ["E07", "E08"],
        [1, 2],
        {("1", z, None): 4 for z in (None, 0, 1)},
        {"1": "FITC_05"},
        1.3668,
    ),
    f"{DATABASE}/1well-3C-2S-Zmix-T": (
        ["C07"],
        [1, 2],
        {(c, None, t): 2 for c in "123" for t in (0, 1)},
        {"1": "FITC", "2": "Cy3", "3": "Texas Red"},
        13.5504,
    ),
    f"{EXPORT}/9987_Plate_3420": (["B02"], [1], {("1", None, 0): 1}, {"1": "DAPI"}, 1.3672),
    f"{EXPORT}/9987_Plate_3434": (
        ["B02", "B03"],
        [1, 2],
        {(c, z, 0): 4 for c in "123" for z in range(3)},
        {"1": "DAPI", "2": "FITC", "3": "Texas Red"},
        1.3672,
    ),
    f"{EXPORT}/9987_Plate_3435": (
        ["B02", "B03"],
        [1, 2],
        {(c, None, t): 4 for c in "12" for t in (0, 1)},
        {"1": "DAPI", "2": "FITC"},
        1.3672,
    ),
}


@pytest.mark.parametrize("name", REAL, ids=lambda name: name.rpartition("/")[2])
def test_reads_a_real_plate(shared, name):
    wells, sites, planes, channels, pixel_size = REAL[name]
    index = read(shared(name))
    assert [str(well) for well in index.wells] == wells
    assert sorted({field.field for field in index.fields}) == sites
    assert Counter(image.plane for image in index.images) == planes
    assert dict(index.channels) == channels
    assert index.pixel_size_um == pixel_size
    assert index.shape == (8, 12)
    assert index.absent == ()


@pytest.mark.parametrize("name", REAL, ids=lambda name: name.rpartition("/")[2])
def test_every_real_file_is_an_image_or_metadata_or_ignored_with_a_reason(shared, name):
    folder = shared(name)
    index = read(folder)
    images = [image.path for image in index.images]
    ignored = [path for path, _ in index.ignored]
    on_disk = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    assert sorted([*images, *ignored, *index.metadata_files]) == sorted(on_disk)
    assert {reason for _, reason in index.ignored} <= {"thumbnail"}


@pytest.mark.parametrize("name", REAL, ids=lambda name: name.rpartition("/")[2])
def test_reads_real_names_as_the_known_pattern_does(shared, name):
    for image in read(shared(name)).images:
        known = KNOWN.match(image.path.rpartition("/")[2])
        assert known is not None
        assert known["thumb"] is None
        assert str(image.well) == known["well"]
        assert image.field == int(known["site"] or 1)
        assert image.channel == (known["channel"] or "1")


def test_thumbnails_of_the_database_are_ignored(shared):
    assert len(read(shared(f"{DATABASE}/Projection-Mix")).ignored) == 40
    assert ImageXpress().recognise(shared(DATABASE)) is None  # one thumbnail, no image


def test_plates_exported_under_one_name_stay_apart(shared):
    plates = [read(shared(name)).plate for name in REAL if name.startswith(EXPORT)]
    assert plates == ["9987_Plate_3420", "9987_Plate_3434", "9987_Plate_3435"]
    assert read(shared(f"{DATABASE}/SingleChannel")).plate == "SingleChannel"


def test_an_inner_folder_is_still_its_plate(shared):
    assert read(shared(f"{DATABASE}/Projection-Mix/2023-02-21/1334")).plate == "Projection-Mix"


def test_says_what_the_htd_file_promises_and_the_folder_lacks(shared):
    assert read(shared(f"{EXPORT}/9987_Plate_3420")).missing == ()
    assert read(shared(f"{EXPORT}/9987_Plate_3434")).missing == (
        "wave w4 (Cy5) promised by 9987.HTD: no image",
    )
    assert read(shared(f"{EXPORT}/9987_Plate_3435")).missing == (
        "wave w3 (Texas Red) promised by 9987.HTD: no image",
        "wave w4 (Cy5) promised by 9987.HTD: no image",
        *(f"time point {t} of 6 promised by 9987.HTD: no image" for t in (3, 4, 5, 6)),
    )


# --- the plates of one's own: what is absent, and what is refused -----------------------------


def test_names_the_image_the_site_and_the_well_that_are_absent(tmp_path):
    gone = [f"TimePoint_1/P1_A02_s2_w{wave}.TIF" for wave in (1, 2, 3)]
    write_screen_plate(tmp_path, without=["TimePoint_1/P1_A01_s1_w2.TIF", *gone])
    index = read(tmp_path)
    assert index.missing == (
        "A01 field 1: no image of w2 t=0",
        "A02 field 2: no image",
    )
    absent = [(str(image.field_key), image.channel, image.path) for image in index.absent]
    assert absent == [
        ("A01 field 1", "2", ""),
        *(("A02 field 2", wave, "") for wave in "123"),
    ]


def test_expects_the_wells_and_sites_that_the_htd_file_selects(tmp_path):
    write_screen_plate(tmp_path, wells=["A01", "A03"], sites=1)
    (tmp_path / "P1.HTD").write_bytes(htd_text().encode("latin-1"))
    index = read(tmp_path)
    assert index.missing == (
        "A01 field 2: no image",
        "well A02: no image",
        "A03 field 2: no image",
    )
    assert len(index.absent) == (1 + 2 + 1) * 3
    assert index.shape == (2, 3)
    assert index.metadata_files == ("P1.HTD",)
    assert dict(index.channels) == {"1": "dye é1", "2": "dye é2", "3": "dye é3"}


def test_expects_the_z_steps_that_the_htd_file_counts(tmp_path):
    write_images(tmp_path, [f"ZStep_{n}/P1_A01_s{s}_w1.TIF" for n in (1, 2, 5) for s in (1, 2)])
    text = htd_text(wells="TRUE, FALSE, FALSE", waves=1, steps=5)
    (tmp_path / "P1.HTD").write_bytes(text.encode("latin-1"))
    index = read(tmp_path)
    assert {(image.path[:7], image.z) for image in index.images} == {
        ("ZStep_1", 0),
        ("ZStep_2", 1),
        ("ZStep_5", 2),
    }
    assert index.missing == (
        "2 of 5 z-steps promised by P1.HTD: no image",
        "z-steps between ZStep_2 and ZStep_5: no image",
    )
    assert index.absent == ()


@pytest.mark.parametrize("first", [0, 1])
def test_time_counts_from_zero(tmp_path, first):
    folders = [f"TimePoint_{first + step}" for step in (0, 1, 3)]
    write_images(tmp_path, [f"{folder}/P1_A01_w1.TIF" for folder in folders])
    assert [image.t for image in read(tmp_path).images] == [0, 1, 3]


@pytest.mark.parametrize(
    ("name", "site", "wave"),
    [
        (f"P1_A01_s3_w2{GUID}.tif", 3, "2"),
        (f"P1_A01_s3_w12{GUID}.tif", 3, "12"),
        (f"P1_A01_s3{GUID}.tif", 3, "1"),
        (f"P1_A01_w2_[{GUID}].tif", 1, "2"),
        ("P1_A01_s3_w2.TIF", 3, "2"),
        ("p1_a01_S3_W2.tiff", 3, "2"),
        ("P1_A01.TIF", 1, "1"),
    ],
)
def test_reads_every_spelling_of_a_name(tmp_path, name, site, wave):
    index = read(write_images(tmp_path, [name]))
    (image,) = index.images
    assert (str(image.well), image.field, image.channel) == ("A01", site, wave)
    assert dict(index.channels) == {wave: f"w{wave}"}


def test_a_bare_name_is_a_plates_only_beside_an_htd_file(tmp_path):
    write_images(tmp_path, ["chessboard_GRAY_U16.tif"])
    assert ImageXpress().recognise(tmp_path) is None
    (tmp_path / "chessboard_GRAY.HTD").touch()
    assert ImageXpress().recognise(tmp_path) == (
        "chessboard_GRAY_U16.tif is named <plate>_<well>.tif, and chessboard_GRAY.HTD is there"
    )


def test_wells_and_plate_of_1536(tmp_path):
    folder = tmp_path / "my_B02_plate"
    folder.mkdir()
    index = read(write_images(folder, ["my_B02_plate_AF48_s1_w1.TIF"]))
    assert (index.plate, str(index.wells[0]), index.shape) == ("my_B02_plate", "AF48", (32, 48))


def test_ignores_with_a_reason(tmp_path):
    write_images(
        tmp_path,
        [
            "P1_A01_s1_w1.TIF",
            "._P1_A01_s1_w1.TIF",
            "P1_A01_s1_w1_thumb.TIF",
            "P1_A01_s1_w1 (2).TIF",
            "P1_ZZ99_s1_w1.TIF",
            "masks/P1_A01_s1_w1.TIF",
        ],
    )
    assert dict(read(tmp_path).ignored) == {
        "._P1_A01_s1_w1.TIF": "hidden file",
        "P1_A01_s1_w1 (2).TIF": "not named <plate>_<well>[_s<site>][_w<wave>].tif",
        "P1_A01_s1_w1_thumb.TIF": "thumbnail",
        "P1_ZZ99_s1_w1.TIF": "no plate has a well ZZ99",
        "masks/P1_A01_s1_w1.TIF": "outside the plate's TimePoint_n and ZStep_n folders",
    }


def test_refuses_two_plates_in_one_folder(tmp_path):
    write_images(tmp_path, ["P1_A01_s1_w1.TIF", "P2_A01_s1_w1.TIF"])
    with pytest.raises(InputError, match=r"one plate in .*, found 2: P1 \(P1_A01.*P2 \(P2_A01"):
        read(tmp_path)


def test_refuses_two_files_for_one_image(tmp_path):
    write_images(tmp_path, ["2024-04-22/17/P1_A01_s1_w1.tif", "2024-04-23/18/P1_A01_s1_w1.tif"])
    with pytest.raises(InputError, match=r"A01 field 1 .*22/17/.* and .*23/18/.*: move one away"):
        read(tmp_path)


def test_refuses_a_well_outside_the_plate_of_the_htd_file(tmp_path):
    write_images(tmp_path, ["P1_A01_s1_w1.TIF", "P1_C01_s1_w1.TIF"])
    (tmp_path / "P1.HTD").write_bytes(htd_text().encode("latin-1"))
    with pytest.raises(InputError, match=r"2 x 3 plate in P1\.HTD, found C01"):
        read(tmp_path)


def test_refuses_two_htd_files_side_by_side(tmp_path):
    write_screen_plate(tmp_path)
    for name in ("P2.HTD", "P3.HTD"):
        (tmp_path / name).write_bytes(htd_text().encode("latin-1"))
    with pytest.raises(InputError, match=r"one HTD file for P1 .* found P2\.HTD, P3\.HTD"):
        read(tmp_path)
    (tmp_path / "P1.HTD").write_bytes(htd_text().encode("latin-1"))
    assert read(tmp_path).shape == (2, 3)


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe\x00", b'"XWells", 3\n"YWells", 99999\n'])
def test_a_damaged_htd_file_costs_its_promises_and_not_the_plate(tmp_path, damage):
    write_screen_plate(tmp_path)
    (tmp_path / "P1.HTD").write_bytes(damage)
    index = read(tmp_path)
    assert len(index.images) == 18
    assert len(index.missing) == 1
    assert index.missing[0].startswith("a readable P1.HTD: expected an HTD file of MetaXpress")
    with pytest.raises(InputError, match="copy it anew"):
        read_plan(tmp_path / "P1.HTD")


def test_waves_and_sites_that_were_not_collected_are_not_promised(tmp_path):
    text = htd_text(sites="TRUE, FALSE", waves=2).replace(
        '"EndFile"', '"WaveCollect1", 1\r\n"WaveCollect2", 0\r\n"EndFile"'
    )
    (tmp_path / "P1.HTD").write_bytes(text.encode("latin-1"))
    plan = read_plan(tmp_path / "P1.HTD")
    assert (plan.n_sites, dict(plan.waves)) == (1, {"1": "dye é1"})
    assert {str(field) for field in plan.fields} == {f"A0{n} field 1" for n in (1, 2, 3)}


def test_a_damaged_first_image_does_not_cost_the_channels_name(tmp_path, shared):
    source = shared(f"{EXPORT}/9987_Plate_3435/TimePoint_1")
    for path in source.glob("*.TIF"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "9987_B02_s1_w1.TIF").write_bytes(b"II*\x00")
    assert dict(read(tmp_path).channels) == {"1": "DAPI", "2": "FITC"}


def test_the_htd_file_promises_so_many_images(tmp_path):
    design = ScreenDesign(size_px=64, sites=2)
    screen = simulate_screen(tmp_path / "screen", plates=1, wells=96, workers=1, design=design)
    (folder,) = screen.glob("Batch1/*")
    assert read_layout(folder).expected == 96 * 2 * 6
