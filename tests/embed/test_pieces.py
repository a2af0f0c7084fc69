from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from phenopipe.catalogue import describe_lake, sweep_lake, tabulate_plates, verify_lake
from phenopipe.embed.pieces import (
    Embedded,
    clear_all_pieces,
    find_pieces,
    publish_piece,
    read_piece,
    sweep_pieces,
)
from phenopipe.lake import Lake, Recipe, embeddings, plate_image
from phenopipe.plates import FieldKey, PlateKey, Well

KEY = PlateKey("HUVEC-1", "Plate3")
TABLE = embeddings("classical", KEY)
FIELDS = [FieldKey(Well(row, 2), field) for row in (0, 1) for field in (1, 2, 10)]


@pytest.fixture
def lake(root):
    lake = Lake(root)
    publish_image(lake)
    return lake


def publish_image(lake, version=1):
    image = plate_image(KEY)
    with lake.writing(image):
        with lake.draft(image, "zarr.json") as path:
            path.write_text("{}")
        lake.publish(image, Recipe("ingest", version, {}, {}), counts={}, started=datetime.now(UTC))


def recipe(lake, **parameters):
    image = lake.require(plate_image(KEY), remedy="")
    return Recipe("embed pieces", 1, {image.thing: image.key}, {"crop": 32, **parameters})


def embedded(field):
    seed = FIELDS.index(field)
    vectors = np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)
    return Embedded(field, np.array([[0, 0], [0, 32], [32, 0]], np.int32), vectors)


def publish(lake, fields, **parameters):
    return publish_piece(
        lake,
        TABLE,
        recipe(lake, **parameters),
        [embedded(field) for field in fields],
        facts={"device": "here"},
        started=datetime.now(UTC),
    )


def test_a_piece_comes_back_as_it_was(lake):
    piece = publish(lake, FIELDS[:2])
    assert piece.thing.path == "pieces/classical/HUVEC-1/Plate3/A03-1_A03-2.arrow"
    table = read_piece(lake, piece)
    assert table["well"].to_pylist() == ["A03"] * 6
    assert table["field"].to_pylist() == [1, 1, 1, 2, 2, 2]
    assert table["y"].to_pylist() == [0, 0, 32] * 2
    expected = np.concatenate([embedded(field).vectors for field in FIELDS[:2]])
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float32), expected)
    assert table.schema.metadata == {b"device": b"here"}
    assert find_pieces(lake, TABLE, recipe(lake)) == ([piece], [])
    assert verify_lake(lake) == []


def test_pieces_are_found_in_the_order_of_their_fields(lake):
    pieces = [publish(lake, fields) for fields in (FIELDS[3:], FIELDS[2:3], FIELDS[:2])]
    assert find_pieces(lake, TABLE, recipe(lake))[0] == pieces[::-1]


def test_pieces_of_other_settings_or_pixels_are_not_taken_for_these(lake):
    other = publish(lake, FIELDS[:1], crop=64)
    own = publish(lake, FIELDS[1:2])
    assert find_pieces(lake, TABLE, recipe(lake)) == ([own], [other.thing])
    assert find_pieces(lake, embeddings("vit", KEY), recipe(lake)) == ([], [])
    publish_image(lake, version=2)
    assert find_pieces(lake, TABLE, recipe(lake)) == ([], [other.thing, own.thing])


def test_half_a_piece_is_not_there(lake):
    piece = publish(lake, FIELDS[:1])
    lake.remove(piece.thing.manifest)
    assert find_pieces(lake, TABLE, recipe(lake)) == ([], [])


def test_a_damaged_piece_is_refused_and_removed(tmp_path):
    lake = Lake(tmp_path)
    publish_image(lake)
    piece = publish(lake, FIELDS[:1])
    path = Path(lake.root, piece.thing.path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(OSError, match=r"A03-1_A03-1\.arrow as it was published"):
        read_piece(lake, piece)
    assert find_pieces(lake, TABLE, recipe(lake)) == ([], [])


def test_nothing_is_left_of_pieces_that_are_cleared(tmp_path):
    lake = Lake(tmp_path)
    publish_image(lake)
    publish(lake, FIELDS[:1])
    torn = publish(lake, FIELDS[1:2]).thing
    lake.remove(torn.manifest)
    clear_all_pieces(lake, TABLE)
    assert not any(path.is_file() for path in Path(lake.root, "pieces").rglob("*"))


def test_pieces_that_a_killed_run_left_go_unless_another_is_at_it(lake):
    piece = publish(lake, FIELDS[:1]).thing
    with lake.writing(TABLE):
        sweep_pieces(lake, TABLE)
        assert lake.published("pieces") == [piece]
    sweep_pieces(lake, TABLE)
    assert lake.published("pieces") == []


def test_a_plate_in_pieces_is_told_as_begun(lake):
    publish(lake, FIELDS[:1])
    (row,) = tabulate_plates(describe_lake(lake))
    assert row["embed:classical"] == "begun"
    assert {entry.state for entry in describe_lake(lake)} == {"published"}


def test_the_sweep_takes_pieces_of_which_nothing_will_come(lake):
    piece = publish(lake, FIELDS[:1]).thing
    assert sweep_lake(lake) == []
    with lake.writing(TABLE):
        with lake.draft(TABLE) as path:
            path.write_text("the table")
        lake.publish(TABLE, recipe(lake), counts={}, started=datetime.now(UTC))
        assert sweep_lake(lake) == [], "a run is at it"
    assert sweep_lake(lake, dry_run=True) == [piece.path]
    assert sweep_lake(lake) == [piece.path]
    assert lake.published("pieces") == []


def test_the_sweep_takes_pieces_of_pixels_that_changed(lake):
    piece = publish(lake, FIELDS[:1]).thing
    publish_image(lake, version=2)
    assert sweep_lake(lake) == [piece.path]
