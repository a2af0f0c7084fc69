import csv
import re
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phenopipe.errors import InputError
from phenopipe.ingest.detect import find_plates, read_layout
from phenopipe.ingest.images import read_image
from phenopipe.ingest.layouts.expression import PathExpression
from phenopipe.plates import PLATE_SHAPES, Well

SIMPLE = r"(?P<well>[A-P]\d+)_s(?P<site>\d+)_(?P<channel>\w+)\.tif"
SBS = "plates/sbs96/ExampleSBSImages"


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def read(folder, pattern):
    return read_layout(folder, pattern=pattern)


# --- real files: a 96-well plate of two rows, named Channel1-01-A-01.tif ----------------------

SBS_PATTERNS = {
    "by name": r"Channel(?P<channel>\d)-\d+-(?P<well>[A-H]-\d+)\.tif",
    "by row and column": r"Channel(?P<channel>\d)-\d+-(?P<row>[A-H])-(?P<column>\d+)\.tif",
    "by number": r"Channel(?P<channel>\d)-(?P<well96>\d+)-.*\.tif",
    "by number of a plate that the numbers tell": r"Channel(?P<channel>\d)-(?P<well>\d+)-.*\.tif",
}


@pytest.mark.parametrize("way", SBS_PATTERNS)
def test_reads_the_real_plate_however_its_wells_are_told(shared, way):
    index = read(shared(SBS), SBS_PATTERNS[way])
    names = [f"A{n:02d}" for n in range(1, 13)] + ["H01", "H12"]
    assert [str(well) for well in index.wells] == names
    assert (index.layout, index.plate, index.shape) == ("pattern", "ExampleSBSImages", (8, 12))
    assert dict(index.channels) == {"1": "1", "2": "2"}
    assert Counter(image.channel for image in index.images) == {"1": 14, "2": 14}
    assert {(image.field, image.z, image.t) for image in index.images} == {(1, None, None)}
    assert index.ignored == (("1049_Metadata.csv", "does not fit the pattern"),)
    assert index.absent == ()


def test_the_real_plates_own_table_tells_the_same_wells(shared):
    with (shared(SBS) / "1049_Metadata.csv").open() as file:
        listed = {int(r["ImageNumber"]): r["Row"] + r["Column"] for r in csv.DictReader(file)}
    images = read(shared(SBS), SBS_PATTERNS["by number"]).images
    assert len(images) == 28
    for image in images:
        assert str(image.well) == listed[int(image.path.split("-")[1])]
        assert read_image(shared(SBS) / image.path).dtype == "uint8"


def test_the_real_plate_is_found_below_its_folder(shared):
    pattern = SBS_PATTERNS["by name"]
    assert find_plates(shared("plates/sbs96"), pattern=pattern) == [shared(SBS)]


# --- wells ------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["B3", "b03", "B-03", "B_3", "B 3", "b003"])
def test_reads_every_spelling_of_a_well(tmp_path, spelling):
    index = read(touch(tmp_path, f"{spelling}.tif"), r"(?P<well>[^.]+)\.tif")
    assert [str(well) for well in index.wells] == ["B03"]


@pytest.mark.parametrize(
    ("name", "well", "shape"),
    [("r02c03", "B03", (8, 12)), ("B-3", "B03", (8, 12)), ("32_48", "AF48", (32, 48))],
)
def test_reads_rows_by_letter_or_number(tmp_path, name, well, shape):
    pattern = r"r?(?P<row>[A-Z]|\d+)[c_-](?P<column>\d+)\.tif"
    index = read(touch(tmp_path, f"{name}.tif"), pattern)
    assert ([str(w) for w in index.wells], index.shape) == ([well], shape)


@given(st.sampled_from(list(PLATE_SHAPES)), st.data())
def test_numbers_count_the_wells_row_by_row(tmp_path_factory, size, data):
    rows, columns = PLATE_SHAPES[size]
    wells = [Well(row, column) for row in range(rows) for column in range(columns)]
    numbers = data.draw(st.lists(st.integers(1, size), min_size=1, max_size=4, unique=True))
    folder = touch(tmp_path_factory.mktemp("plate"), *(f"{n:04d}.tif" for n in numbers))
    index = read(folder, rf"(?P<well{size}>\d+)\.tif")
    assert index.wells == sorted(wells[number - 1] for number in numbers)
    assert index.shape == (rows, columns)
    assert index.missing == ()


def test_a_number_is_a_well_only_where_the_plate_is_known(tmp_path):
    pattern = r"(?P<well>\d+)\.tif"
    index = read(touch(tmp_path / "few", "1.tif", "12.tif"), pattern)  # A01, A12 on every plate
    assert ([str(w) for w in index.wells], index.missing) == (["A01", "A12"], ())
    index = read(touch(tmp_path / "most", "13.tif", "385.tif"), pattern)  # no smaller plate has 385
    assert ([str(w) for w in index.wells], index.missing) == (["A13", "I01"], ())
    index = read(touch(tmp_path / "full", "13.tif", "96.tif"), pattern)
    assert [str(w) for w in index.wells] == ["B01", "H12"]
    assert index.missing == (
        "the plate's size: taken for 96 wells by their numbers; name the pattern's group well96 "
        "to say so",
    )
    touch(tmp_path / "part", "1.tif", "13.tif")
    with pytest.raises(
        InputError, match=r"up to 13 \(13\.tif\).* name the group well96 or well384 or well1536"
    ):
        read(tmp_path / "part", pattern)


@pytest.mark.parametrize(
    ("name", "pattern", "found"),
    [
        ("Overview1.tif", r"(?P<well>\w+)\.tif", "well 'Overview1'"),
        ("0.tif", r"(?P<well384>\d+)\.tif", "well384 '0'"),
        ("97.tif", r"(?P<well96>\d+)\.tif", "well96 '97'"),
        ("1537.tif", r"(?P<well>\d+)\.tif", "well '1537'"),
        ("r0c1.tif", r"r(?P<row>\d)c(?P<column>\d)\.tif", "row '0' and column '1'"),
        ("r1c0.tif", r"r(?P<row>\d)c(?P<column>\d)\.tif", "row '1' and column '0'"),
        ("r33c1.tif", r"r(?P<row>\d+)c(?P<column>\d+)\.tif", "row '33' and column '1'"),
        ("x.tif", r"(?P<well>[A-P]\d+)?x\.tif", "none"),
    ],
)
def test_refuses_a_name_that_fits_and_tells_no_well(tmp_path, name, pattern, found):
    touch(tmp_path, name)
    with pytest.raises(InputError, match=f"in {re.escape(name)}, found {found}: correct"):
        read(tmp_path, pattern)


def test_refuses_names_and_numbers_of_wells_in_one_group(tmp_path):
    with pytest.raises(InputError, match=r"by name or by number .* both \(A02\.tif, 13\.tif\)"):
        read(touch(tmp_path, "A02.tif", "13.tif"), r"(?P<well>\w+)\.tif")


# --- sites, channels, z and t -----------------------------------------------------------------


def test_sites_may_count_from_0_and_channels_have_names(tmp_path):
    names = [f"A1_s{site}_{channel}.tif" for site in (0, 1) for channel in ("DAPI", "Actin")]
    index = read(touch(tmp_path, *names), SIMPLE)
    assert [str(field) for field in index.fields] == ["A01 field 0", "A01 field 1"]
    assert dict(index.channels) == {"Actin": "Actin", "DAPI": "DAPI"}


def test_numbered_channels_are_in_the_order_of_their_numbers_before_named_ones(tmp_path):
    touch(tmp_path, *(f"A1_s1_{channel}.tif" for channel in ("10", "02", "BF", "1")))
    assert list(read(tmp_path, SIMPLE).channels) == ["1", "2", "10", "BF"]


def test_only_the_well_is_required(tmp_path):
    (image,) = read(touch(tmp_path, "x_A1.tif"), r"x_(?P<well>\w+)\.tif").images
    assert (image.field, image.channel, image.z, image.t) == (1, "1", None, None)


def test_z_and_t_of_any_numbers_count_from_0_and_gaps_are_told(tmp_path):
    pattern = r"(?P<well>A1)_z(?P<z>[-.\d]+)um_t(?P<t>\d+)min\.tif"
    touch(tmp_path, *(f"A1_z{z}um_t{t}min.tif" for z in (-1.5, 0, 1.5, 4.5) for t in (30, 60)))
    index = read(tmp_path, pattern)
    assert {image.path: (image.z, image.t) for image in index.images} == {
        f"A1_z{z}um_t{t}min.tif": (step, time)
        for step, z in enumerate((-1.5, 0, 1.5, 4.5))
        for time, t in enumerate((30, 60))
    }
    assert index.missing == ("z between 1.5 and 4.5: no image",)


def test_images_without_z_stand_beside_the_stack(tmp_path):
    touch(tmp_path, "A1.tif", "A1_z3.tif", "A1_z4.tif")
    images = read(tmp_path, r"(?P<well>A1)(?:_z(?P<z>\d))?\.tif").images
    assert [(image.path, image.z) for image in images] == [
        ("A1.tif", None),
        ("A1_z3.tif", 0),
        ("A1_z4.tif", 1),
    ]


def test_refuses_images_with_and_without_a_time(tmp_path):
    with pytest.raises(InputError, match=r"found one in A1_t1\.tif and none in A1\.tif"):
        read(touch(tmp_path, "A1.tif", "A1_t1.tif"), r"(?P<well>A1)(?:_t(?P<t>\d))?\.tif")


@pytest.mark.parametrize("group", ["site", "z", "t"])
def test_refuses_a_number_that_is_none(tmp_path, group):
    with pytest.raises(InputError, match=rf"number .* group {group}, found 'x2' in A1_x2\.tif"):
        read(touch(tmp_path, "A1_x2.tif"), rf"(?P<well>A1)_(?P<{group}>\w+)\.tif")


def test_names_what_is_absent(tmp_path):
    names = [f"{w}_s{s}_{c}.tif" for w in ("A1", "B2") for s in (0, 1) for c in ("DNA", "ER")]
    gone = {"A1_s0_ER.tif", "B2_s1_DNA.tif", "B2_s1_ER.tif"}
    index = read(touch(tmp_path, *(name for name in names if name not in gone)), SIMPLE)
    assert index.missing == ("A01 field 0: no image of channel ER", "B02 field 1: no image")
    assert [(str(i.field_key), i.channel) for i in index.absent] == [
        ("A01 field 0", "ER"),
        ("B02 field 1", "DNA"),
        ("B02 field 1", "ER"),
    ]


def test_sites_that_count_over_the_plate_are_not_expected_in_each_well(tmp_path):
    touch(tmp_path, "A1_s1_DNA.tif", "A1_s2_DNA.tif", "A2_s3_DNA.tif", "A2_s4_DNA.tif")
    assert read(tmp_path, SIMPLE).missing == ()


def test_refuses_two_files_for_one_image(tmp_path):
    with pytest.raises(InputError, match=r"channel DNA of A01 field 1 .*A01_s1.* and A1_s1"):
        read(touch(tmp_path, "A1_s1_DNA.tif", "A01_s1_DNA.tif"), SIMPLE)


# --- plates and folders -----------------------------------------------------------------------


def test_a_plate_is_the_folder_at_which_the_match_begins(tmp_path):
    touch(tmp_path, *(f"screen/P{n}/{well}_s1_DNA.tif" for n in (1, 2) for well in ("A1", "A2")))
    found = find_plates(tmp_path, pattern=SIMPLE)
    assert [path.name for path in found] == ["P1", "P2"]
    assert [read(path, SIMPLE).plate for path in found] == ["P1", "P2"]
    with pytest.raises(InputError, match="found no file whose path fits the pattern"):
        read(tmp_path / "screen", SIMPLE)


def test_inner_folders_belong_to_the_plate_if_the_pattern_says_so(tmp_path):
    touch(tmp_path, *(f"P1/day{t}/{w}/s1.tif" for t in (1, 2) for w in ("A1", "A2")))
    pattern = r"day(?P<t>\d)/(?P<well>\w+)/s(?P<site>\d)\.tif"
    assert find_plates(tmp_path, pattern=pattern) == [tmp_path / "P1"]
    assert [(str(i.well), i.t) for i in read(tmp_path / "P1", pattern).images] == [
        ("A01", 0),
        ("A01", 1),
        ("A02", 0),
        ("A02", 1),
    ]


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?P<plate>[^/]+)/day\d/(?P<well>\w+)\.tif",
        r"(?P<plate>\w+)_\d+/day\d/(?P<well>\w+)\.tif",
        r"exp/(?P<plate>[^/]+)/day\d/(?P<well>\w+)\.tif",
        r".*(?P<plate>P\d)[^/]*/.*(?P<well>A\d)\.tif",
    ],
)
def test_a_folder_whose_name_tells_the_plate_is_its_folder(tmp_path, pattern):
    touch(tmp_path, *(f"exp/P{n}_7/day1/A1.tif" for n in (1, 2)))
    found = find_plates(tmp_path, pattern=pattern)
    assert [path.name for path in found] == ["P1_7", "P2_7"]
    assert [read(path, pattern).plate[:2] for path in found] == ["P1", "P2"]


def test_a_group_holds_part_of_one_name(tmp_path):
    pattern = r"(?P<plate>.+)_(?P<well>[A-P]\d+)\.tif"
    touch(tmp_path, "exp/P1_A1.tif")
    assert find_plates(tmp_path, pattern=pattern) == [tmp_path / "exp"]
    assert read(tmp_path / "exp", pattern).plate == "P1"


def test_refuses_two_plates_in_one_folder_and_reads_the_one_that_is_named(tmp_path):
    touch(tmp_path, "P1_A1.tif", "P2_A1.tif")
    pattern = r"(?P<plate>\w+)_(?P<well>[A-P]\d+)\.tif"
    with pytest.raises(InputError, match=r"P1 \(P1_A1\.tif\), P2 \(P2_A1.*such as \(\?P<plate>P2"):
        read(tmp_path, pattern)
    index = read(tmp_path, pattern.replace(r"\w+", "P2", 1))
    assert (index.plate, index.ignored) == ("P2", (("P1_A1.tif", "does not fit the pattern"),))


def test_the_match_is_of_the_whole_path(tmp_path):
    touch(tmp_path, "A1_s1_DNA.tif", "xA1_s1_DNA.tif", "A1_s1_DNA.tif.bak", "in/A1_s1_DNA.tif")
    touch(tmp_path, "._A1_s1_DNA.tif", ".trash/A1_s1_DNA.tif")
    index = read(tmp_path, SIMPLE)
    assert [image.path for image in index.images] == ["A1_s1_DNA.tif"]
    assert dict(index.ignored) == {
        "._A1_s1_DNA.tif": "hidden file",
        ".trash/A1_s1_DNA.tif": "hidden file",
        "A1_s1_DNA.tif.bak": "does not fit the pattern",
        "in/A1_s1_DNA.tif": "does not fit the pattern",
        "xA1_s1_DNA.tif": "does not fit the pattern",
    }
    assert read(tmp_path, f".*x{SIMPLE}").images[0].path == "xA1_s1_DNA.tif"


def test_reads_no_folder_that_no_match_can_begin_with(tmp_path):
    touch(tmp_path, "P1/A1_s1_DNA.tif")
    expression = PathExpression(r"day\d/" + SIMPLE)
    assert expression.may_begin("day1/", start="")
    assert not expression.may_begin("P1/", start="")


# --- patterns that are refused ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?P<well>", r"a regular expression .*found '\(\?P<well>' \(missing \)"),
        (r"(?P<site>\d+)\.tif", r"the well once .* found none: name what tells the well"),
        (r"(?P<row>\w)\.tif", "the well once .* found row: "),
        (r"(?P<well>\w)(?P<well96>\d)", "the well once .* found well and well96: "),
        (r"(?P<well>\w)(?P<row>\w)(?P<column>\d)", "found column and row and well: "),
        (r"(?P<well>\w)(?P<wave>\d)", r"found 'wave': rename it, or write \(\?:"),
        (r"(?P<well>(?:(?:a{99}){99}){99})", "at most 500 signs, with repeats"),
        (r"(?P<well>a{256})", "at most 500 signs, with repeats"),
        (r"(?P<well>" + "a" * 500 + ")", "at most 500 signs, with repeats"),
        (r"(?P<well>a{" + "9" * 400 + "})", "at most 500 signs, with repeats"),
    ],
)
def test_refuses_a_pattern_that_cannot_be_used(tmp_path, pattern, message):
    for use in (read, lambda folder, pattern: find_plates(folder, pattern=pattern)):
        with pytest.raises(InputError, match=message):
            use(tmp_path, pattern)


@pytest.mark.parametrize("pattern", [r"(?:a|a)+(?P<well>b)", r"(?:a|aa)+(?P<well>b)"])
def test_a_pattern_that_would_take_for_ever_is_given_up(tmp_path, pattern):
    touch(tmp_path, "a" * 80 + ".tif")
    started = time.process_time()
    with pytest.raises(InputError, match=r"at once, found one that takes over 0\.5 s on aaa"):
        read(tmp_path, pattern)
    assert time.process_time() - started < 10


def test_the_largest_pattern_that_is_allowed_is_compiled_at_once():
    started = time.process_time()
    PathExpression("(?P<well>(?:" + "(?:a|b)" * 60 + "){20})")
    PathExpression("(?P<well>(?:" + "[ab]{255}" * 50 + "){20})")
    assert time.process_time() - started < 10


def test_refuses_a_pattern_beside_a_layout(tmp_path):
    with pytest.raises(InputError, match="a layout or a pattern, found both"):
        read_layout(tmp_path, "imagexpress", pattern=SIMPLE)
