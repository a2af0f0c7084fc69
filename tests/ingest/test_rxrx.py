import imagecodecs
import numpy as np
import pytest

from phenopipe.errors import InputError
from phenopipe.ingest.detect import find_plates, read_layout
from phenopipe.ingest.layouts.imagexpress import ImageXpress
from phenopipe.ingest.layouts.rxrx import RxRx


def write_images(folder, names):
    pixels = np.arange(64, dtype="uint8").reshape(8, 8)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(imagecodecs.png_encode(pixels))
    return folder


def write_plate(folder, *, wells=("B02", "AF48"), sites=(1, 2), without=()):
    names = [f"{well}_s{s}_w{w}.png" for well in wells for s in sites for w in range(1, 7)]
    return write_images(folder, [name for name in names if name not in without])


def test_reads_the_layout_of_the_data_sets(tmp_path):
    index = read_layout(write_plate(tmp_path / "HUVEC-1" / "Plate3"))
    assert (index.layout, index.plate, index.shape) == ("rxrx", "Plate3", (32, 48))
    assert [str(field) for field in index.fields] == [
        "B02 field 1",
        "B02 field 2",
        "AF48 field 1",
        "AF48 field 2",
    ]
    assert dict(index.channels) == {str(n): f"w{n}" for n in range(1, 7)}
    assert len(index.images) == 2 * 2 * 6
    assert (index.missing, index.absent, index.ignored) == ((), (), ())
    assert index.reason == "AF48_s1_w1.png is named <well>_s<site>_w<1-6>.png"


def test_sorts_rows_of_two_letters_after_those_of_one(tmp_path):
    folder = write_plate(tmp_path, wells=["AA02", "Z02", "B02"], sites=[1])
    assert [str(well) for well in RxRx().read(folder).wells] == ["B02", "Z02", "AA02"]


def test_finds_the_plates_of_the_experiments(tmp_path):
    for plate in ("HUVEC-1/Plate1", "HUVEC-1/Plate2", "U2OS-1/Plate1"):
        write_plate(tmp_path / plate, wells=["B02"], sites=[1])
    (tmp_path / "metadata.csv").touch()
    assert [str(path.relative_to(tmp_path)) for path in find_plates(tmp_path)] == [
        "HUVEC-1/Plate1",
        "HUVEC-1/Plate2",
        "U2OS-1/Plate1",
    ]


def test_names_what_is_absent(tmp_path):
    lost = [f"AF48_s2_w{wave}.png" for wave in range(1, 7)]
    index = RxRx().read(write_plate(tmp_path, without=["B02_s1_w5.png", *lost]))
    assert index.missing == ("B02 field 1: no image of w5", "AF48 field 2: no image")
    assert len(index.absent) == 7


def test_ignores_with_a_reason(tmp_path):
    write_plate(tmp_path, wells=["B02"], sites=[1])
    write_images(tmp_path, ["._B02_s1_w1.png", "B02_s1_w7.png", "B02_s1.png", "AZ02_s1_w1.png"])
    write_images(tmp_path / "old", ["B02_s1_w1.png"])
    assert RxRx().read(tmp_path).ignored == (
        ("._B02_s1_w1.png", "hidden file"),
        ("AZ02_s1_w1.png", "no plate has a well AZ02"),
        ("B02_s1.png", "not named <well>_s<site>_w<1-6>.png"),
        ("B02_s1_w7.png", "not named <well>_s<site>_w<1-6>.png"),
        ("old/B02_s1_w1.png", "in a folder inside the plate's"),
    )


def test_is_not_taken_for_another_vendors(tmp_path):
    assert ImageXpress().recognise(write_plate(tmp_path / "Plate1")) is None
    write_images(tmp_path / "other", ["P1_B02_s1_w1.png", "B02_s1_w1.tif"])
    assert RxRx().recognise(tmp_path / "other") is None


def test_refuses_two_files_for_one_image_and_no_files(tmp_path):
    write_images(tmp_path, ["B02_s1_w1.png", "b02_s01_w1.png"])
    with pytest.raises(InputError, match=r"w1 of B02 field 1 .*B02_s1_w1\.png and b02_s01_w1\.png"):
        RxRx().read(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="found none among 0 files: give the plate's own folder"):
        RxRx().read(tmp_path / "none")
