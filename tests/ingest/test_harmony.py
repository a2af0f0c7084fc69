import csv
from datetime import UTC, datetime, timedelta, timezone
from itertools import product

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phenopipe.errors import InputError
from phenopipe.ingest.detect import find_plates, read_layout
from phenopipe.ingest.layouts import find_layouts
from phenopipe.ingest.layouts.harmony import Harmony
from phenopipe.ingest.layouts.harmony_index import read_index
from phenopipe.plates import FieldKey, Well

A01, B02 = Well.parse("A01"), Well.parse("B02")
NAMESPACES = {
    1: "http://www.perkinelmer.com/PEHH/HarmonyV5",
    5: "http://www.perkinelmer.com/PEHH/HarmonyV5",
    7: "43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7",
}


def read(folder):
    return Harmony().read(folder)


def spell(row, column, field, plane, channel, time):
    return f"r{row:02}c{column:02}f{field:02}p{plane:02}-ch{channel}sk{time}fk1fl1.tiff"


def write_images(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        tifffile.imwrite(folder / name, np.ones((4, 4), "uint16"))
    return folder


def list_keys(*, wells=((1, 1), (2, 2)), fields=(1, 2), planes=(1,), channels=(1, 2), times=(1,)):
    """Rows, columns, fields, planes, channels and times of a whole plate."""
    return [(*well, *rest) for well, *rest in product(wells, fields, planes, channels, times)]


def index_text(keys, *, names=("DNA", "ER"), version=5, start=1, plate="P1", shape=(8, 12)):
    """Write an index by the published schema: V7 keeps a channel's facts in Maps, others do not."""
    entries = [
        f'<Entry ChannelID="{number}">{channel_xml(name)}</Entry>'
        for number, name in enumerate(names, 1)
    ]
    maps = f"<Maps><Map>{''.join(entries)}</Map></Maps>" if version == 7 else ""
    images = [
        image_xml(key, "" if version == 7 else channel_xml(names[key[4] - 1]), start)
        for key in keys
    ]
    listed = "".join(f'<Image id="{number}" />' for number, _ in enumerate(keys))
    return (
        '\ufeff<?xml version="1.0" encoding="utf-8"?>\n'
        f'<EvaluationInputData Version="1" xmlns="{NAMESPACES[version]}">'
        f"<Plates><Plate><PlateID>{plate}</PlateID><Name>{plate}</Name>"
        f"<PlateRows>{shape[0]}</PlateRows><PlateColumns>{shape[1]}</PlateColumns>"
        '<Well id="0101" /></Plate></Plates>'
        f"<Wells><Well><id>0101</id>{listed}</Well></Wells>"
        f"{maps}<Images>{''.join(images)}</Images></EvaluationInputData>\n"
    )


def channel_xml(name):
    return (
        f"<ChannelName>{name}</ChannelName>"
        '<ImageResolutionX Unit="m">5.979760809567617E-07</ImageResolutionX>'
    )


def image_xml(key, channel, start):
    """One image: planes 1.5 um apart, time points a minute, fields on a diagonal."""
    row, column, field, plane, number, time = key
    taken = datetime(2023, 3, 23, 14, 52, tzinfo=UTC) + timedelta(minutes=time, seconds=plane)
    return (
        f'<Image Version="1"><id>x</id><URL>{spell(*key)}</URL><Row>{row}</Row><Col>{column}</Col>'
        f"<FieldID>{field}</FieldID><PlaneID>{plane}</PlaneID>"
        f"<TimepointID>{time - 1 + start}</TimepointID><ChannelID>{number}</ChannelID>{channel}"
        f'<PositionX Unit="m">{field * 1e-4}</PositionX>'
        f'<PositionY Unit="m">{field * 2e-4}</PositionY>'
        f'<AbsPositionZ Unit="m">{0.135 + plane * 1.5e-6:.9f}</AbsPositionZ>'
        f"<AbsTime>{taken.isoformat()}</AbsTime></Image>"
    )


def write_plate(folder, keys=None, *, without=(), index="Index.idx.xml", **options):
    keys = list_keys() if keys is None else keys
    images = write_images(folder / "Images", [spell(*key) for key in keys if key not in without])
    (images / index).write_text(index_text(keys, **options), encoding="utf-8")
    return folder


# --- the real plates, against the CSV that pe2loaddata published for each ---------------------


def read_load_data(path):
    """Rows of a published load_data CSV, with the stains that it has a file for."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    stains = [name.removeprefix("FileName_") for name in rows[0] if name.startswith("FileName_")]
    return rows, stains


def check_against_load_data(index, path, inner=""):
    rows, stains = read_load_data(path)
    files = {inner + row[f"FileName_{stain}"]: (row, stain) for row in rows for stain in stains}
    assert {image.path for image in index.images} == set(files)
    assert index.plate == rows[0]["Metadata_Plate"]
    for image in index.images:
        row, stain = files[image.path]
        assert str(image.well) == row["Metadata_Well"]
        assert image.field == int(row["Metadata_Site"])
        assert image.channel == row[f"Metadata_ChannelID_{stain}"]
        assert index.channels[image.channel] == row[f"Metadata_ChannelName_{stain}"]
        assert index.pixel_size_um == pytest.approx(float(row["Metadata_ImageResolutionX"]) * 1e6)
        place = index.places[image.field_key]
        times = [datetime.fromisoformat(row[f"Metadata_AbsTime_{s}"]) for s in known(row, stains)]
        heights = [float(row[f"Metadata_AbsPositionZ_{s}"]) for s in known(row, stains)]
        assert place.acquired == min(times)
        assert place.z_um == pytest.approx(heights[times.index(min(times))] * 1e6)
        assert place.x_um == pytest.approx(float(row["Metadata_PositionX"]) * 1e6)
        assert place.y_um == pytest.approx(-float(row["Metadata_PositionY"]) * 1e6)


def known(row, stains):
    return [stain for stain in stains if row.get(f"Metadata_AbsTime_{stain}")]


@pytest.mark.parametrize("inner", ["", "images"])
def test_reads_the_real_version_1_as_its_published_table(shared, inner):
    folder = shared("plates/harmony/Version1") / inner
    index = read(folder)
    table = shared("plates/tables/load_data_version1.csv")
    check_against_load_data(index, table, "" if inner else "images/")
    assert index.shape == (16, 24)
    assert index.expected == len(index.images) == 6
    assert {image.plane[1:] for image in index.images} == {(None, None)}
    assert (index.missing, index.absent, index.z_step_um, index.time_step_s) == ((), (), None, None)
    assert [path.rpartition("/")[2] for path in index.metadata_files] == ["Index.idx.xml"]


def test_every_real_file_is_an_image_or_metadata_or_ignored_with_a_reason(shared):
    folder = shared("plates/harmony/Version1")
    index = read(folder)
    told = [image.path for image in index.images] + [path for path, _ in index.ignored]
    on_disk = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    assert sorted([*told, *index.metadata_files]) == sorted(on_disk)


def test_channels_are_stains_and_not_numbers(shared):
    channels = {
        version: read_index(shared(f"plates/harmony/{path}")).names
        for version, path in {
            1: "Version1/images/Index.idx.xml",
            7: "Version7/images/Index.xml",
        }.items()
    }
    assert (channels[1]["5"], channels[7]["6"]) == ("HOECHST 33342", "HOECHST 33342")
    assert (channels[1]["1"], channels[7]["5"]) == ("Alexa 647", "Alexa 647")


def test_reads_the_real_version_7_with_its_channels_in_maps(shared, tmp_path):
    real = shared("plates/harmony/Version7/images/Index.xml")
    images = tmp_path / "Images"
    write_images(images, [spell(1, 1, 1, 1, channel, 1) for channel in range(1, 8)])
    (images / "Index.xml").write_bytes(real.read_bytes())
    index = read(tmp_path)
    check_against_load_data(index, shared("plates/tables/load_data_version7.csv"), "Images/")
    assert index.shape == (8, 12)
    assert index.channels["4"] == "405ex, 570-630-em)"


def test_a_real_index_without_any_image_is_refused_with_a_remedy(shared):
    with pytest.raises(InputError, match=r"the 7 images that images/Index\.xml lists .* none of"):
        read(shared("plates/harmony/Version7"))


def test_reads_a_version_5_of_the_published_schema_as_its_published_table(shared, tmp_path):
    """The index is rebuilt from the table, by the schema of V5; its images are our own."""
    table = shared("plates/tables/load_data_version5.csv")
    (row,), stains = read_load_data(table)
    images = [
        f"<Image Version='1'><URL>{row[f'FileName_{stain}']}</URL>"
        f"<Row>{row['Metadata_Row']}</Row><Col>{row['Metadata_Col']}</Col>"
        "<FieldID>1</FieldID><PlaneID>1</PlaneID><TimepointID>0</TimepointID>"
        f"<ChannelID>{row[f'Metadata_ChannelID_{stain}']}</ChannelID>"
        f"<ChannelName>{row[f'Metadata_ChannelName_{stain}']}</ChannelName>"
        f"<ImageResolutionX Unit='m'>{row['Metadata_ImageResolutionX']}</ImageResolutionX>"
        f"<PositionX Unit='m'>{row['Metadata_PositionX']}</PositionX>"
        f"<PositionY Unit='m'>{row['Metadata_PositionY']}</PositionY>"
        f"<AbsPositionZ Unit='m'>{row[f'Metadata_AbsPositionZ_{stain}']}</AbsPositionZ>"
        f"<AbsTime>{row[f'Metadata_AbsTime_{stain}']}</AbsTime></Image>"
        for stain in stains
    ]
    write_images(tmp_path, [row[f"FileName_{stain}"] for stain in stains])
    (tmp_path / "Index.idx.xml").write_text(
        f"<EvaluationInputData xmlns='{NAMESPACES[5]}'><Plates><Plate>"
        f"<Name>{row['Metadata_Plate']}</Name></Plate></Plates>"
        f"<Images>{''.join(images)}</Images></EvaluationInputData>"
    )
    index = read(tmp_path)
    check_against_load_data(index, table)
    assert index.channels["1"] == "Digital Phase Contrast"
    place = index.places[FieldKey(A01, 1)]
    assert place.acquired == datetime(
        2023, 3, 23, 14, 52, 40, 420_000, tzinfo=timezone(timedelta(hours=-4))
    )


# --- which folders are plates ------------------------------------------------------------------


def test_each_real_plate_is_found_once_and_by_this_layout_alone(shared):
    folder = shared("plates/harmony")
    assert [path.name for path in find_plates(folder)] == ["Version1", "Version7"]
    for name in ("Version1", "Version1/images", "Version7", "Version7/images"):
        reasons = {key: layout.recognise(folder / name) for key, layout in find_layouts().items()}
        assert {key for key, reason in reasons.items() if reason} == {"harmony"}
    assert read_layout(folder / "Version1").reason == "images/Index.idx.xml is an index of Harmony"


@pytest.mark.parametrize("vendor", ["imagexpress", "cellvoyager", "arrayscan", "sbs96", "tables"])
def test_other_vendors_folders_are_not_taken_for_harmony(shared, vendor):
    with pytest.raises(InputError, match="found no file named like one"):
        find_plates(shared(f"plates/{vendor}"), "harmony")


def test_finds_the_usual_export_once_and_names_it_by_its_folder(tmp_path):
    names = ["BR1__2021-03-29T16_51_44-Measurement 1", "BR2__2021-03-30T09_00_00-Measurement1"]
    for name in names:
        write_images(tmp_path / name / "Images", [spell(1, 1, 1, 1, 1, 1)])
    assert [path.name for path in find_plates(tmp_path)] == names
    plates = [read(tmp_path / name / inner).plate for name in names for inner in ("", "Images")]
    assert plates == ["BR1", "BR1", "BR2", "BR2"]


def test_an_index_of_something_else_is_no_plate(tmp_path):
    (tmp_path / "Index.xml").write_text("<html><body/></html>")
    assert Harmony().recognise(tmp_path) is None


# --- z, time, places ---------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "start"), [(5, 0), (7, 1)])
def test_planes_and_time_points_count_from_zero(tmp_path, version, start):
    keys = list_keys(planes=(1, 2, 3), times=(1, 2))
    index = read(write_plate(tmp_path, keys, version=version, start=start))
    for image in index.images:
        row, column, field, plane, channel, time = next(
            key for key in keys if image.path == f"Images/{spell(*key)}"
        )
        assert image.well == Well(row - 1, column - 1)
        assert (image.field, image.channel) == (field, str(channel))
        assert (image.z, image.t) == (plane - 1, time - 1)
    assert (index.z_step_um, index.time_step_s) == (1.5, 60.0)
    assert index.missing == ()


def test_places_are_in_micrometres_and_y_grows_downwards(tmp_path):
    place = read(write_plate(tmp_path)).places[FieldKey(B02, 2)]
    assert place.x_um == pytest.approx(200)
    assert place.y_um == pytest.approx(-400)
    assert place.z_um == pytest.approx(135_001.5)
    assert place.acquired == datetime(2023, 3, 23, 14, 53, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("spelled", "x_um"),
    [
        ('<PositionX Unit="mm">0.3</PositionX>', 300),
        ('<PositionX Unit="µm">300</PositionX>', 300),
        ("<PositionX>0.0003</PositionX>", 300),
        ('<PositionX Unit="furlong">3</PositionX>', None),
        ('<PositionX Unit="m">NaN</PositionX>', None),
        ("", None),
    ],
)
def test_reads_lengths_in_their_unit(tmp_path, spelled, x_um):
    keys = list_keys(wells=[(1, 1)], fields=[3], channels=[1])
    write_plate(tmp_path, keys)
    path = tmp_path / "Images/Index.idx.xml"
    text = path.read_text(encoding="utf-8")
    position = text[text.index("<PositionX") : text.index("<PositionY")]
    path.write_text(text.replace(position, spelled), encoding="utf-8")
    found = read(tmp_path).places[FieldKey(A01, 3)].x_um
    assert found == (None if x_um is None else pytest.approx(x_um))


def test_irregular_steps_are_not_known(tmp_path):
    keys = list_keys(times=(1, 2, 7))
    index = read(write_plate(tmp_path, keys))
    assert index.time_step_s is None
    assert sorted({image.t for image in index.images}) == [0, 1, 2]


def test_channels_of_one_name_are_told_apart(tmp_path):
    index = read(write_plate(tmp_path, names=("DNA", "DNA")))
    assert dict(index.channels) == {"1": "DNA_ch1", "2": "DNA_ch2"}


# --- what is missing ---------------------------------------------------------------------------


def test_names_what_the_index_lists_and_the_folder_lacks_at_the_highest_level(tmp_path):
    keys = list_keys(wells=[(1, 1), (2, 2), (3, 3)], channels=(1, 2, 3))
    without = [
        key
        for key in keys
        if key[:2] == (3, 3) or key[:3] == (2, 2, 1) or key[4] == 3 or key == (1, 1, 2, 1, 2, 1)
    ]
    index = read(write_plate(tmp_path, keys, without=without, names=("DNA", "ER", "AGP")))
    assert index.missing == (
        "ch3 promised by Images/Index.idx.xml: no image",
        "A01 field 2: no image of ch2",
        "B02 field 1: no image",
        "well C03: no image",
    )
    absent = [(str(image.field_key), image.channel) for image in index.absent]
    assert absent == [
        ("A01 field 2", "2"),
        *(("B02 field 1", channel) for channel in "12"),
        *((f"C03 field {field}", channel) for field in (1, 2) for channel in "12"),
    ]
    assert (index.expected, len(index.images)) == (18, 5)
    assert dict(index.channels) == {"1": "DNA", "2": "ER"}
    assert FieldKey(B02, 1) not in index.places


def test_a_plane_that_is_nowhere_leaves_its_gap(tmp_path):
    keys = list_keys(planes=(1, 2, 3))
    index = read(write_plate(tmp_path, keys, without=[key for key in keys if key[3] == 2]))
    assert sorted({image.z for image in index.images}) == [0, 2]
    assert index.missing == ("z=1 promised by Images/Index.idx.xml: no image",)
    assert index.absent == ()


def test_a_plate_of_which_most_wells_lack_is_told_well_by_well(tmp_path):
    wells = list(product(range(1, 9), range(1, 13)))
    keys = list_keys(wells=wells, fields=range(1, 10), channels=(1, 2))
    write_plate(tmp_path, keys, without=[key for key in keys if key[:2] != (1, 1)])
    index = read(tmp_path)
    assert index.missing == tuple(f"well {Well(r - 1, c - 1)}: no image" for r, c in wells[1:])
    assert len(index.absent) == 95 * 9 * 2


# --- by names alone ----------------------------------------------------------------------------


def test_names_alone_suffice(tmp_path):
    names = [spell(*key) for key in list_keys(planes=(1, 2), channels=(1, 5))]
    index = read(write_images(tmp_path / "P9" / "Images", names[:-1]))
    assert (index.plate, index.shape, index.expected) == ("P9", (8, 12), None)
    assert dict(index.channels) == {"1": "ch1", "5": "ch5"}
    assert {image.plane[1:] for image in index.images} == {(0, None), (1, None)}
    assert index.missing == (
        "an index (Index.idx.xml): channels' names, pixel size, places and times",
        "B02 field 2: no image of ch5 z=1",
    )
    assert (index.places, index.pixel_size_um, index.metadata_files) == ({}, None, ())


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("r02c23f12p01-ch11sk3fk1fl1.tiff", ("B23", 12, "11")),
        ("R32C48F001P01-CH1SK1FK1FL1.TIF", ("AF48", 1, "1")),
    ],
)
def test_reads_every_spelling_of_a_name(tmp_path, name, key):
    (image,) = read(write_images(tmp_path, [name])).images
    assert (str(image.well), image.field, image.channel) == key
    assert (image.z, image.t) == (None, None)


def test_gaps_in_the_names_are_told(tmp_path):
    keys = list_keys(planes=(1, 2, 5), times=(1, 3))
    index = read(write_images(tmp_path, [spell(*key) for key in keys]))
    assert sorted({image.z for image in index.images}) == [0, 1, 2]
    assert index.missing[1:] == (
        "planes between p02 and p05: no image",
        "time points between sk1 and sk3: no image",
    )


def test_ignores_with_a_reason(tmp_path):
    write_plate(tmp_path)
    images = tmp_path / "Images"
    write_images(images, [spell(2, 2, 9, 1, 1, 1), "._" + spell(1, 1, 1, 1, 1, 1), "notes.tiff"])
    write_images(images / "old", [spell(1, 1, 1, 1, 1, 1)])
    write_images(images, ["r33c01f01p01-ch1sk1fk1fl1.tiff"])
    (images / "Index.ref.xml").write_text(index_text(list_keys()), encoding="utf-8")
    unnamed = "not named r<row>c<column>f<field>p<plane>-ch<channel>sk<time>fk1fl1.tiff"
    assert dict(read(tmp_path).ignored) == {
        "Images/._r01c01f01p01-ch1sk1fk1fl1.tiff": "hidden file",
        "Images/Index.ref.xml": unnamed,
        "Images/notes.tiff": unnamed,
        "Images/old/r01c01f01p01-ch1sk1fk1fl1.tiff": "outside the folder of the plate's images",
        "Images/r02c02f09p01-ch1sk1fk1fl1.tiff": "not listed in Images/Index.idx.xml",
        "Images/r33c01f01p01-ch1sk1fk1fl1.tiff": "no plate has a well at row 33, column 1",
    }


# --- damage ------------------------------------------------------------------------------------

BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    b"]><EvaluationInputData>&b;</EvaluationInputData>"
)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (b"", "it has no element"),
        (b"\xff\xfe\x00", "no element found|not well-formed|it has no element"),
        (b"\x89PNG\r\n", "not well-formed"),
        (BOMB, "it declares a document type"),
        (BOMB.decode().encode("utf-16"), "it declares a document type"),
        (b"<html/>", "its root is html"),
        (b'<?xml version="1.0" encoding="klingon"?><EvaluationInputData/>', "encoding"),
        (b"<EvaluationInputData/>", "it lists no image"),
        (index_text(list_keys()).encode()[:3000], "unclosed|not well-formed|no element"),
        (index_text(list_keys()).replace("<FieldID>1<", "<FieldID>x<").encode(), "FieldID is 'x'"),
        (index_text(list_keys()).replace("<Row>2</Row>", "").encode(), "no Row"),
        (index_text(list_keys()).encode() + b"<more/>", "junk after document element"),
        (index_text(list_keys(), shape=(0, 12)).encode(), "its plate has 0 x 12 wells"),
        (index_text(list_keys()).replace("<AbsTime>2023", "<AbsTime>noon", 1).encode(), "noon"),
        (index_text(list_keys()).replace("<ChannelName>ER", "<ChannelName>DN", 1).encode(), "both"),
    ],
)
def test_a_damaged_index_costs_what_it_alone_knows_and_not_the_plate(tmp_path, damage, why):
    write_plate(tmp_path)
    path = tmp_path / "Images/Index.idx.xml"
    path.write_bytes(damage)
    index = read(tmp_path)
    assert len(index.images) == 8
    assert dict(index.channels) == {"1": "ch1", "2": "ch2"}
    assert index.missing[0].startswith("a readable Images/Index.idx.xml: expected an index of ")
    assert index.metadata_files == ("Images/Index.idx.xml",)
    with pytest.raises(InputError, match=rf"cannot be read \(.*({why}).*\): copy it anew"):
        read_index(path)


def test_a_damaged_index_without_images_is_refused(tmp_path):
    (tmp_path / "Index.idx.xml").write_bytes(b"<EvaluationInputData><Images>")
    with pytest.raises(InputError, match=r"found none; a readable Index\.idx\.xml: "):
        read(tmp_path)


def test_refuses_two_files_for_one_image(tmp_path):
    names = ["r01c01f01p01-ch1sk1fk1fl1.tiff", "r01c01f01p01-ch1sk1fk2fl1.tiff"]
    write_images(tmp_path, names)
    with pytest.raises(InputError, match=r"one file for ch1 of A01 field 1 .*fk1fl1.*fk2fl1"):
        read(tmp_path)


def test_refuses_a_well_off_the_plate_of_the_index(tmp_path):
    write_plate(tmp_path, list_keys(wells=[(1, 1), (9, 1)]))
    with pytest.raises(InputError, match=r"8 x 12 plate in Images/Index\.idx\.xml, found I01"):
        read(tmp_path)


def test_a_path_that_leads_out_of_the_plate_finds_nothing(tmp_path):
    write_plate(tmp_path / "P1")
    write_images(tmp_path, ["secret.tiff"])
    path = tmp_path / "P1/Images/Index.idx.xml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(spell(1, 1, 1, 1, 1, 1), "../../secret.tiff"), encoding="utf-8")
    index = read(tmp_path / "P1")
    assert "A01 field 1: no image of ch1" in index.missing
    assert not any("secret" in image.path for image in index.images)


@given(at=st.integers(0, 10_000), cut=st.integers(0, 60), put=st.binary(max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_damage_to_the_index_loses_an_image_or_ends_in_a_traceback(
    tmp_path_factory, at, cut, put
):
    folder = write_plate(tmp_path_factory.mktemp("plate"), list_keys(wells=[(1, 1)]))
    path = folder / "Images/Index.idx.xml"
    whole = path.read_bytes()
    at %= len(whole)
    path.write_bytes(whole[:at] + put + whole[at + cut :])
    try:
        index = read(folder)
    except InputError:
        return
    told = [image.path for image in index.images] + [path for path, _ in index.ignored]
    assert len({*told, *index.metadata_files}) == 5
