import re
import xml.etree.ElementTree as ET
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phenopipe.errors import InputError
from phenopipe.ingest.detect import find_plates, read_layout
from phenopipe.ingest.layouts import find_layouts
from phenopipe.ingest.layouts.cellvoyager import CellVoyager
from phenopipe.ingest.layouts.cellvoyager_index import read_mes, read_mlf, read_mrf
from phenopipe.plates import FieldKey, Well

BTS = "http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"
NAME = "CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack"
REAL = f"plates/cellvoyager/CV8000/{NAME}_20230918_135839"
# The pattern that is known to hold on the real files, written apart from the layout's own.
KNOWN = re.compile(
    r"^(.+)_([A-Z]{1,2}\d{2})_T(\d{4})F(\d{3,4})L(\d{2})A(\d{2})Z(\d{2,3})C(\d{2})\.tif$"
)
A01, B02 = Well.parse("A01"), Well.parse("B02")


def read(folder):
    return CellVoyager().read(folder)


def spell(row, column, field, plane, channel, time, timeline=1, action=1):
    return (
        f"P1_{Well(row - 1, column - 1)}_T{time:04}F{field:03}L{timeline:02}A{action:02}"
        f"Z{plane:02}C{channel:02}.tif"
    )


def list_keys(
    *,
    wells=((1, 1), (2, 2)),
    fields=(1, 2),
    planes=(1,),
    channels=(1, 2),
    times=(1,),
    branches=((1, 1),),
):
    """Row, column, field, plane, channel, time, timeline and action of a whole plate's images."""
    return [
        (*well, field, plane, channel, time, *branch)
        for well, field, plane, channel, time, branch in product(
            wells, fields, planes, channels, times, branches
        )
    ]


def record_xml(key, *, numbered=True):
    """One image: planes 3 um apart, time points a minute, fields on a diagonal."""
    row, column, field, plane, channel, time, timeline, action = key
    taken = datetime(2023, 9, 18, 13, 58, tzinfo=UTC) + timedelta(minutes=time, seconds=plane)
    branch = f'bts:TimelineIndex="{timeline}" bts:ActionIndex="{action}"' if numbered else ""
    return (
        f'<bts:MeasurementRecord bts:Type="IMG" bts:Time="{taken.isoformat()}" '
        f'bts:Column="{column}" bts:Row="{row}" bts:TimePoint="{time}" bts:FieldIndex="{field}" '
        f'bts:ZIndex="{plane}" {branch} bts:X="{field * 100}" bts:Y="{field * 200}" '
        f'bts:Z="{plane * 3 - 3}" bts:Ch="{channel}">{spell(*key)}</bts:MeasurementRecord>'
    )


def mlf_text(keys, *, more="", numbered=True):
    records = "\n".join(record_xml(key, numbered=numbered) for key in keys)
    return (
        f'\ufeff<?xml version="1.0" encoding="utf-8"?>\n<bts:MeasurementData xmlns:bts="{BTS}">\n'
        f"{records}{more}</bts:MeasurementData>\n"
    )


def mrf_text(*, plate="P1", title="Screen 4", shape=(8, 12), pixel_um=("0.325", "0.325")):
    channels = "".join(
        f'<bts:MeasurementChannel bts:Ch="{n}" bts:HorizontalPixelDimension="{size}" />'
        for n, size in enumerate(pixel_um, 1)
    )
    return (
        f'\ufeff<?xml version="1.0" encoding="utf-8"?><bts:MeasurementDetail xmlns:bts="{BTS}" '
        f'bts:Title="{title}" bts:RowCount="{shape[0]}" bts:ColumnCount="{shape[1]}" '
        'bts:MeasurementSettingFileName="protocol.mes">'
        f'<bts:MeasurementSamplePlate bts:Name="{plate}" />{channels}</bts:MeasurementDetail>'
    )


def mes_text(channels=(("405", ""), ("488", "Alexa 488"))):
    listed = "".join(
        f'<bts:Channel bts:Ch="{n}" bts:Target="{target}" bts:Fluorophore="{dye}" />'
        for n, (target, dye) in enumerate(channels, 1)
    )
    return (
        f'\ufeff<?xml version="1.0" encoding="utf-8"?><bts:MeasurementSetting xmlns:bts="{BTS}">'
        f"<bts:ChannelList>{listed}</bts:ChannelList></bts:MeasurementSetting>"
    )


def write_images(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        tifffile.imwrite(folder / name, np.ones((4, 4), "uint16"))
    return folder


def write_plate(folder, keys=None, *, without=(), mlf=None, mrf=None, mes=None):
    keys = list_keys() if keys is None else keys
    write_images(folder, [spell(*key) for key in keys if key not in without])
    (folder / "MeasurementData.mlf").write_text(mlf or mlf_text(keys), encoding="utf-8")
    (folder / "MeasurementDetail.mrf").write_text(mrf or mrf_text(), encoding="utf-8")
    (folder / "protocol.mes").write_text(mes or mes_text(), encoding="utf-8")
    return folder


# --- the real plate, against its own index as a plain XML tree reads it -----------------------


@pytest.fixture
def records(shared):
    """The records of the real .mlf: attributes without namespace, by the image's name."""
    root = ET.parse(shared(f"{REAL}/{NAME}/MeasurementData.mlf")).getroot()  # noqa: S314
    return {
        element.text: {key.rpartition("}")[2]: value for key, value in element.items()}
        for element in root
    }


@pytest.mark.parametrize("inner", ["", NAME])
def test_reads_the_real_plate_as_its_index_says(shared, records, inner):
    index = read(shared(REAL) / inner)
    assert len(index.images) == len(records) == index.expected == 96
    for image in index.images:
        told = records[image.path.rpartition("/")[2]]
        assert image.well == Well(int(told["Row"]) - 1, int(told["Column"]) - 1)
        assert (image.field, image.channel) == (int(told["FieldIndex"]), told["Ch"])
        assert (image.z, image.t) == (int(told["ZIndex"]) - 1, None)
        place = index.places[image.field_key]
        assert (place.x_um, place.y_um) == (float(told["X"]), -float(told["Y"]))
        assert place.acquired <= datetime.fromisoformat(told["Time"])
    assert Counter(image.plane for image in index.images) == {
        (channel, z, None): 12 for channel in "12" for z in range(4)
    }


def test_reads_the_real_plates_names_and_sizes(shared):
    index = read(shared(REAL))
    assert index.plate == NAME
    assert dict(index.channels) == {"1": "405", "2": "488"}
    assert (index.shape, index.pixel_size_um) == ((8, 12), 0.325)
    assert (index.z_step_um, index.time_step_s) == (3.0, None)
    assert (index.missing, index.absent) == ((), ())
    first = index.places[FieldKey(Well.parse("D08"), 1)]
    assert first.z_um == 0.0
    assert first.acquired.isoformat() == "2023-09-18T13:58:44.438000+02:00"


def test_reads_real_names_as_the_known_pattern_does(shared, tmp_path):
    names = [path.name for path in shared(f"{REAL}/{NAME}").iterdir() if KNOWN.match(path.name)]
    for name in names:
        (tmp_path / name).touch()
    index = read(tmp_path)
    assert len(index.images) == 96
    for image in index.images:
        _, well, _, field, _, _, plane, channel = KNOWN.match(image.path).groups()
        assert (str(image.well), image.field) == (well, int(field))
        assert (image.z, image.channel) == (int(plane) - 1, str(int(channel)))


def test_every_real_file_is_an_image_or_metadata_or_ignored_with_a_reason(shared):
    folder = shared(REAL)
    index = read(folder)
    told = [image.path for image in index.images] + [path for path, _ in index.ignored]
    on_disk = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    assert sorted([*told, *index.metadata_files]) == sorted(on_disk)
    assert Counter(reason for _, reason in index.ignored) == {
        "correction image": 6,
        "the microscope's own settings and logs": 6,
    }
    assert [path.rpartition(".")[2] for path in index.metadata_files] == ["mlf", "mrf", "mes"]


def test_reads_the_settings_and_detail_of_a_real_cv7000(shared):
    folder = shared("plates/cellvoyager/eicm")
    detail = read_mrf(folder / "MeasurementDetail.mrf")
    assert (detail.plate, detail.title) == ("Dyes_60xW_Cellvis", "20221221-Field-illumination-QC")
    assert detail.settings == "QC_dyes_60x__Cellvis_glass.mes"
    assert detail.pixel_size_um({"1", "6"}) == 0.10833333333333334
    assert read_mes(folder / detail.settings) == {
        "1": "405",
        "2": "488",
        "3": "561",
        "4": "640",
        "5": "Brightfield",
        "6": "FITC",
    }


# --- which folders are plates ------------------------------------------------------------------


def test_the_real_plate_is_found_once_and_by_this_layout_alone(shared):
    assert find_plates(shared("plates/cellvoyager")) == [shared(REAL)]
    for inner in ("", NAME):
        folder = shared(REAL) / inner
        reasons = {key: layout.recognise(folder) for key, layout in find_layouts().items()}
        assert {key for key, reason in reasons.items() if reason} == {"cellvoyager"}
    reason = read_layout(shared(REAL)).reason
    assert reason == f"{NAME}/MeasurementData.mlf lists the images of a CellVoyager"


@pytest.mark.parametrize("vendor", ["imagexpress", "harmony", "arrayscan", "sbs96", "tables"])
def test_other_vendors_folders_are_not_taken_for_cellvoyager(shared, vendor):
    with pytest.raises(InputError, match="found no file named like one"):
        find_plates(shared(f"plates/{vendor}"), "cellvoyager")


def test_a_folder_of_one_plate_is_not_that_plate(tmp_path):
    write_plate(tmp_path / "screen" / "P1")
    assert find_plates(tmp_path) == [tmp_path / "screen" / "P1"]
    two = tmp_path / "run_20230918_135839"
    for name in ("P2", "P3"):
        write_plate(two / name)
    assert find_plates(two) == [two / "P2", two / "P3"]


@pytest.mark.parametrize(
    ("told", "plate"),
    [
        ({"plate": "BR1"}, "BR1"),
        ({"plate": "AssayPlate_Greiner_#655090", "title": "BR1"}, "BR1"),
        ({"plate": "AssayPlate_Greiner_#655090", "title": ""}, "AssayPlate_Greiner_#655090"),
        ({"plate": "", "title": ""}, "folder"),
    ],
)
def test_names_the_plate_by_its_barcode_and_not_by_its_make(tmp_path, told, plate):
    folder = write_plate(tmp_path / "run_20230918_135839" / "folder", mrf=mrf_text(**told))
    assert (read(folder).plate, read(folder.parent).plate) == (plate, plate)


# --- channels, z, time -------------------------------------------------------------------------


def test_a_channel_bears_its_fluorophore_or_else_its_target(tmp_path):
    index = read(write_plate(tmp_path / "a"))
    assert dict(index.channels) == {"1": "405", "2": "Alexa 488"}
    index = read(write_plate(tmp_path / "b", mes=mes_text([("488", ""), ("488", "")])))
    assert dict(index.channels) == {"1": "488_C1", "2": "488_C2"}


def test_planes_and_time_points_count_from_zero(tmp_path):
    keys = list_keys(planes=(1, 2, 3), times=(1, 2))
    index = read(write_plate(tmp_path, keys))
    by_path = {spell(*key): key for key in keys}
    for image in index.images:
        _, _, field, plane, channel, time, _, _ = by_path[image.path]
        assert (image.field, image.channel) == (field, str(channel))
        assert (image.z, image.t) == (plane - 1, time - 1)
    assert (index.z_step_um, index.time_step_s) == (3.0, 60.0)
    assert index.missing == ()


def test_a_projection_lies_beside_the_stack_of_its_channel(tmp_path):
    """Action 1 takes one plane of channel 1, action 2 a stack of it, and channel 2 is alone."""
    single = list_keys(channels=(1,))
    stack = list_keys(planes=(1, 2), channels=(1,), branches=[(1, 2)])
    bright = list_keys(channels=(2,), branches=[(1, 3)])
    index = read(write_plate(tmp_path, [*single, *stack, *bright]))
    assert Counter(image.plane for image in index.images) == {
        ("1", None, None): 4,
        ("1", 0, None): 4,
        ("1", 1, None): 4,
        ("2", 0, None): 4,
    }


@pytest.mark.parametrize("times", [(1, 1), (1, 2)])
def test_wells_of_different_timelines_each_start_at_their_own_first_time(tmp_path, times):
    first = list_keys(wells=[(1, 1)], times=times[:1], branches=[(1, 1)])
    second = list_keys(wells=[(2, 2)], times=times[1:], branches=[(2, 1)])
    index = read(write_plate(tmp_path, [*first, *second]))
    assert {image.t for image in index.images} == {None}
    assert index.absent == ()


def test_timelines_of_one_well_follow_one_another(tmp_path):
    keys = [*list_keys(times=(1, 2)), *list_keys(times=(1,), branches=[(2, 1)])]
    index = read(write_plate(tmp_path, keys))
    assert {(image.path[16:19], image.path[11:12], image.t) for image in index.images} == {
        ("L01", "1", 0),
        ("L01", "2", 1),
        ("L02", "1", 2),
    }


def test_an_early_index_does_not_number_timelines_and_actions(tmp_path):
    keys = list_keys()
    index = read(write_plate(tmp_path, keys, mlf=mlf_text(keys, numbered=False)))
    assert (len(index.images), index.missing) == (8, ())


def test_channels_of_different_pixels_have_no_one_pixel_size(tmp_path):
    index = read(write_plate(tmp_path, mrf=mrf_text(pixel_um=("0.325", "0.65"))))
    assert index.pixel_size_um is None


# --- what is missing ---------------------------------------------------------------------------


def test_names_what_the_index_lists_and_the_folder_lacks_at_the_highest_level(tmp_path):
    keys = list_keys(wells=[(1, 1), (2, 2), (3, 3)], channels=(1, 2, 3))
    without = [
        key
        for key in keys
        if key[:2] == (3, 3) or key[:3] == (2, 2, 1) or key[4] == 3 or key[:5] == (1, 1, 2, 1, 2)
    ]
    index = read(write_plate(tmp_path, keys, without=without))
    assert index.missing == (
        "C3 promised by MeasurementData.mlf: no image",
        "A01 field 2: no image of C2",
        "B02 field 1: no image",
        "well C03: no image",
    )
    assert len(index.absent) == 1 + 2 + 4
    assert (index.expected, len(index.images)) == (18, 5)


def test_says_what_the_microscope_reports_as_failed(tmp_path):
    keys = list_keys(wells=[(1, 1)])
    failed = (
        '<bts:MeasurementRecord bts:Type="ERR" bts:Row="2" bts:Column="2" bts:FieldIndex="1" '
        'bts:Ch="1">AF error</bts:MeasurementRecord>'
        '<bts:MeasurementRecord bts:Type="ERR" bts:Row="3" bts:Column="3" />'
    )
    index = read(write_plate(tmp_path, keys, mlf=mlf_text(keys, more=failed * 3)))
    assert index.missing == (
        "B02 field 1: the microscope reports a failed image (AF error)",
        "well C03: the microscope reports a failed image",
        "well B02: no image",
    )
    assert [(str(image.field_key), image.channel) for image in index.absent] == [
        ("B02 field 1", "1"),
        ("B02 field 1", "2"),
    ]
    assert index.expected == 4


def test_a_png_stands_for_the_tiff_that_is_listed(tmp_path):
    keys = list_keys()
    write_plate(tmp_path, keys)
    (tmp_path / spell(*keys[0])).rename((tmp_path / spell(*keys[0])).with_suffix(".png"))
    index = read(tmp_path)
    assert index.missing == ()
    assert index.images[0].path == "P1_A01_T0001F001L01A01Z01C01.png"


def test_names_alone_suffice(tmp_path):
    names = [spell(*key) for key in list_keys(planes=(1, 2), channels=(1, 5))]
    index = read(write_images(tmp_path / "P9", names[:-1]))
    assert (index.plate, index.shape, index.expected) == ("P9", (8, 12), None)
    assert dict(index.channels) == {"1": "C1", "5": "C5"}
    assert {image.plane[1:] for image in index.images} == {(0, None), (1, None)}
    assert index.missing == (
        "MeasurementData.mlf: places and times",
        "MeasurementDetail.mrf: pixel size",
        "a .mes: channels' names",
        "B02 field 2: no image of C5 z=1",
    )


def test_gaps_in_the_names_are_told(tmp_path):
    keys = list_keys(planes=(1, 2, 5), times=(1, 3))
    index = read(write_images(tmp_path, [spell(*key) for key in keys]))
    assert index.missing[3:] == (
        "planes between Z02 and Z05: no image",
        "time points between T0001 and T0003: no image",
    )


def test_ignores_with_a_reason(tmp_path):
    write_plate(tmp_path)
    write_images(
        tmp_path,
        [
            "DC_sCMOS #1_CAM1.tif",
            "SC_BP445-45_60xW_M01_CH01.tif",
            "._" + spell(1, 1, 1, 1, 1, 1),
            spell(1, 1, 9, 1, 1, 1),
            "P1_ZZ99_T0001F001L01A01Z01C01.tif",
            "overview.tif",
        ],
    )
    write_images(tmp_path / "old", [spell(1, 1, 1, 1, 1, 1)])
    (tmp_path / "P1.wpi").touch()
    unnamed = "not named <plate>_<well>_T<time>F<field>L<timeline>A<action>Z<plane>C<channel>.tif"
    assert dict(read(tmp_path).ignored) == {
        "DC_sCMOS #1_CAM1.tif": "correction image",
        "SC_BP445-45_60xW_M01_CH01.tif": "correction image",
        "._P1_A01_T0001F001L01A01Z01C01.tif": "hidden file",
        "P1_A01_T0001F009L01A01Z01C01.tif": "not listed in MeasurementData.mlf",
        "P1_ZZ99_T0001F001L01A01Z01C01.tif": "no plate has a well ZZ99",
        "overview.tif": unnamed,
        "old/P1_A01_T0001F001L01A01Z01C01.tif": "outside the folder of the plate's images",
        "P1.wpi": "the microscope's own settings and logs",
    }


# --- damage ------------------------------------------------------------------------------------

BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<bts:MeasurementData>&b;</bts:MeasurementData>"
)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("", "it has no element"),
        (BOMB, "it declares a document type"),
        ("<html/>", "its root is html"),
        (mlf_text(list_keys())[:900], "unclosed token|no element found"),
        (mlf_text([]), "it lists no image"),
        (mlf_text(list_keys()).replace('bts:Row="2"', "", 1), "no Row"),
        (mlf_text(list_keys()).replace('bts:Ch="1"', 'bts:Ch="x"', 1), "Ch is 'x'"),
        (mlf_text(list_keys()).replace('bts:Row="2"', 'bts:Row="99"', 1), "row 99"),
        (mlf_text(list_keys()).replace('bts:X="100"', 'bts:X="left"', 1), "left"),
        (mlf_text(list_keys()).replace('bts:Time="2023', 'bts:Time="noon', 1), "noon"),
        (mlf_text(list_keys()).replace("F002", "F001"), "as two images"),
    ],
)
def test_a_damaged_mlf_costs_places_and_times_and_not_the_plate(tmp_path, damage, why):
    write_plate(tmp_path)
    (tmp_path / "MeasurementData.mlf").write_text(damage, encoding="utf-8")
    index = read(tmp_path)
    assert len(index.images) == 8
    assert index.missing[0].startswith("a readable MeasurementData.mlf: expected a file of Cell")
    assert dict(index.channels) == {"1": "405", "2": "Alexa 488"}
    assert (index.pixel_size_um, index.places, index.expected) == (0.325, {}, None)
    assert "MeasurementData.mlf" in index.metadata_files
    with pytest.raises(InputError, match=rf"cannot be read \(.*({why}).*\): copy it anew"):
        read_mlf(tmp_path / "MeasurementData.mlf")


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe\x00", BOMB.encode(), b"<a/>", b"<a>"])
def test_damaged_mrf_and_mes_cost_what_they_alone_know(tmp_path, damage):
    write_plate(tmp_path)
    for name in ("MeasurementDetail.mrf", "protocol.mes"):
        (tmp_path / name).write_bytes(damage)
    index = read(tmp_path)
    assert (len(index.images), index.expected) == (8, 8)
    assert [line[:32] for line in index.missing] == [
        "a readable MeasurementDetail.mrf",
        "a readable protocol.mes: expecte",
    ]
    assert dict(index.channels) == {"1": "C1", "2": "C2"}
    assert (index.pixel_size_um, index.shape) == (None, (8, 12))


def test_an_index_without_any_image_is_refused_with_a_remedy(tmp_path):
    keys = list_keys()
    write_plate(tmp_path, keys, without=keys)
    with pytest.raises(InputError, match=r"the 8 images that MeasurementData\.mlf lists .* none"):
        read(tmp_path)


def test_refuses_two_files_for_one_image(tmp_path):
    names = [spell(1, 1, 1, 1, 1, 1, action=action) for action in (1, 2)]
    write_images(tmp_path, names)
    with pytest.raises(InputError, match=r"one file for C1 of A01 field 1 .*A01Z01.*A02Z01"):
        read(tmp_path)


def test_refuses_a_well_off_the_plate(tmp_path):
    write_plate(tmp_path, list_keys(wells=[(1, 1), (9, 1)]))
    with pytest.raises(InputError, match=r"8 x 12 plate in MeasurementDetail\.mrf, found I01"):
        read(tmp_path)


@given(
    name=st.sampled_from(["MeasurementData.mlf", "MeasurementDetail.mrf", "protocol.mes"]),
    at=st.integers(0, 10_000),
    cut=st.integers(0, 60),
    put=st.binary(max_size=8),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_damage_to_the_index_loses_an_image_or_ends_in_a_traceback(
    tmp_path_factory, name, at, cut, put
):
    folder = write_plate(tmp_path_factory.mktemp("plate"), list_keys(wells=[(1, 1)]))
    whole = (folder / name).read_bytes()
    at %= len(whole)
    (folder / name).write_bytes(whole[:at] + put + whole[at + cut :])
    try:
        index = read(folder)
    except InputError:
        return
    told = [image.path for image in index.images] + [path for path, _ in index.ignored]
    assert len({*told, *index.metadata_files}) == 7
