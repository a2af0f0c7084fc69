import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phenopipe.ingest.delivery import compare_delivery, read_delivery
from phenopipe.lake import Lake, Recipe, ledger, plate_image
from phenopipe.plates import PlateKey
from phenopipe.schema import LEDGER

KEY = PlateKey("Batch1", "Plate1")

digests = st.sampled_from(["", "ab", "cd"])
files = st.dictionaries(st.sampled_from("abcdef"), digests)


@given(files, files)
def test_every_file_that_both_sides_read_is_the_same_changed_gone_or_new(published, found):
    delivery = compare_delivery(published, found)
    same = {path for path in published if published[path] and published[path] == found.get(path)}
    read = {path for side in (published, found) for path in side if side[path]}
    unread = {path for path in read if "" in (published.get(path), found.get(path))}
    told = [*same, *delivery.changed, *delivery.gone, *delivery.new]
    assert sorted(told) == sorted(read - unread)
    assert delivery.same == (not {*delivery.changed, *delivery.gone, *delivery.new})


@given(files, files)
def test_seen_from_the_other_side_gone_is_new(published, found):
    one, other = compare_delivery(published, found), compare_delivery(found, published)
    assert (one.gone, one.new, one.changed) == (other.new, other.gone, other.changed)


def test_the_sentence_counts_and_names():
    published = {"a": "1", "b": "1", "c": "1", "d": "1"}
    delivery = compare_delivery(published, {"a": "2", "b": "2", "c": "2", "e": "1", "f": "1"})
    assert str(delivery) == "3 files changed, 1 gone, 2 new (a, b, c, d, e and 1 more)"
    assert str(compare_delivery(published, published)) == "the same files"
    assert str(compare_delivery({}, {"a": "1"})) == "1 file new (a)"


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def publish(lake, thing, rows):
    with lake.writing(thing):
        with lake.draft(thing) as path:
            pq.write_table(pa.Table.from_pylist(rows, schema=LEDGER), path)
        lake.publish(thing, Recipe("test", 1, {}, {}), counts={}, started="2026-01-01T00:00:00Z")


def test_a_ledger_tells_each_file_and_nothing_that_was_missing(lake):
    rows = [
        {"path": "w1.tif", "digest": "ab", "verdict": "ok"},
        {"path": "w2.tif", "digest": "cd", "verdict": "truncated"},
        {"path": "notes.txt", "digest": "", "verdict": "ignored"},
        {"path": "", "digest": "", "verdict": "missing"},
    ]
    publish(lake, ledger(KEY), rows)
    assert read_delivery(lake, KEY) is None
    publish(lake, plate_image(KEY), rows)
    assert read_delivery(lake, KEY) == {"w1.tif": "ab", "w2.tif": "cd", "notes.txt": ""}
