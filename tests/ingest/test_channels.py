from pathlib import Path

import pytest

from phenopipe.errors import InputError
from phenopipe.ingest.channels import name_channels, read_channels
from phenopipe.ingest.index import ImageFile, PlateIndex, sort_images
from phenopipe.plates import Well

B03 = Well.parse("B03")


def make_index(plate="P1", **labels):
    """Index one field with an image a channel; labels by the vendor's token."""
    images = [ImageFile(f"{token}.tif", B03, 1, token) for token in labels]
    return PlateIndex(
        Path(), "imagexpress", "", plate, sort_images(images, list(labels)), labels, (8, 12)
    )


@pytest.fixture
def write(tmp_path):
    def write_lines(*lines, header="channel,stain"):
        path = tmp_path / "channels.csv"
        path.write_text("\n".join([header, *lines]), encoding="utf-8")
        return path

    return write_lines


def test_the_same_stain_under_other_numbers_lands_in_the_same_channel(write):
    lines = read_channels(write("Hoechst,DNA", "ConA,ER", "DAPI,DNA"))
    first = name_channels(make_index("P1", **{"1": "Hoechst", "2": "ConA"}), lines)
    second = name_channels(make_index("P2", **{"1": "ConA", "2": "DAPI"}), lines)
    assert list(first.channels.values()) == list(second.channels.values()) == ["DNA", "ER"]
    assert [image.path for image in second.images] == ["2.tif", "1.tif"]


@pytest.mark.parametrize("name", ["2", "w2", "W02", "ch2", "Channel 2", "fitc", "FITC"])
def test_a_channel_is_named_by_number_or_label_in_any_usual_spelling(write, name):
    lines = read_channels(write("1,DNA", f"{name},ER"))
    index = name_channels(make_index(**{"1": "DAPI", "2": "FITC"}), lines)
    assert index.channels == {"1": "DNA", "2": "ER"}


def test_a_line_for_one_plate_goes_before_the_others(write):
    path = write("1,DNA,", "2,ER,", "1,ER,P2", "2,DNA,P2", header="channel,stain,plate")
    lines = read_channels(path)
    first = name_channels(make_index("P1", **{"1": "a", "2": "b"}), lines)
    second = name_channels(make_index("P2", **{"1": "a", "2": "b"}), lines)
    assert first.channels == {"1": "DNA", "2": "ER"}
    assert list(second.channels.items()) == [("2", "DNA"), ("1", "ER")]


def test_a_channel_without_a_stain_is_left_out_and_its_files_are_ignored(write):
    lines = read_channels(write("1,DNA", "Brightfield,"))
    index = name_channels(make_index(**{"1": "DAPI", "2": "Brightfield"}), lines)
    assert index.channels == {"1": "DNA"}
    assert index.ignored == (("2.tif", "its channel has no stain"),)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,DNA"], 'a stain for channel 2 \\(FITC\\), found no line that names it: add "FITC,ST'),
        (["1,DNA", "2,DNA"], r"for the stain DNA, found 1 \(DAPI\) and 2 \(FITC\)"),
        (["1,DNA", "2,ER", "3,RNA"], "for the stain RNA, found none"),
    ],
)
def test_a_stain_that_is_missing_or_not_unique_is_an_error_with_a_remedy(write, lines, message):
    with pytest.raises(InputError, match=message):
        name_channels(make_index(**{"1": "DAPI", "2": "FITC"}), read_channels(write(*lines)))


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        ("name,stain", ["1,DNA"], "expected columns channel and stain"),
        ("channel,stain", [], "found no line"),
        ("channel,stain", ["1,DNA", "1,ER"], "found 1 twice"),
        ("channel,stain", [",DNA"], "found a line without one"),
    ],
)
def test_a_file_that_cannot_be_read_as_channels_is_refused(write, header, lines, message):
    with pytest.raises(InputError, match=message):
        read_channels(write(*lines, header=header))


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="check the path"):
        read_channels(tmp_path / "channels.csv")


def test_tabs_and_semicolons_part_columns_too(write):
    lines = read_channels(write("1\tDNA, blue", header="channel\tstain"))
    assert (lines[0].channel, lines[0].stain) == ("1", "DNA, blue")
