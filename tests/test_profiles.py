from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Recipe, map_part
from phenopipe.profiles import open_wells
from phenopipe.schema import wells_schema

WIDTH = 3
SIZES = (4, 1, 6)  # wells a plate


def draw_wells():
    """Wells of three plates: text in no order, so that categories are not as they come."""
    n = sum(SIZES)
    rows = {name: [""] * n for name in wells_schema(WIDTH).names}
    rows["experiment"] = ["E"] * n
    rows["plate"] = [f"P{k}" for k, size in enumerate(SIZES) for _ in range(size)]
    rows["well"] = [f"A{i + 1:02d}" for size in SIZES for i in range(size)]
    rows["label"] = [f"G{-k % 5}" for k in range(n)]
    rows["concentration_um"] = [None if k % 2 else float(k) for k in range(n)]
    x = np.arange(n * WIDTH, dtype=np.float32).reshape(n, WIDTH)
    rows["embedding"] = x.tolist()
    return pa.Table.from_pydict(rows, schema=wells_schema(WIDTH)), x


def publish(lake, table, name="demo"):
    thing = map_part(name, "wells.parquet")
    with lake.writing(thing):
        with lake.draft(thing) as path, pq.ParquetWriter(path, table.schema) as writer:
            for start, size in zip(np.cumsum([0, *SIZES]), SIZES, strict=False):
                writer.write_table(table.slice(start, size))
        started = datetime(2026, 1, 1, tzinfo=UTC)
        lake.publish(thing, Recipe("map", 2, {}, {}), counts={}, started=started)


@pytest.fixture
def lake(root):
    lake = Lake(root)
    publish(lake, draw_wells()[0])
    return lake


def test_rows_are_the_table_without_vectors(lake):
    table, _ = draw_wells()
    with open_wells(lake, "demo") as wells:
        rows = wells.rows
        assert (len(wells), wells.width) == (len(table), WIDTH)
    expected = table.drop_columns(["embedding"]).to_pandas()
    assert rows.columns.tolist() == expected.columns.tolist()
    for name in rows:
        np.testing.assert_array_equal(rows[name].to_numpy(), expected[name].to_numpy())
    assert rows["label"].cat.categories.tolist() == [f"G{k}" for k in range(5)]


def test_plates_come_one_by_one_and_make_up_the_file(lake):
    _, x = draw_wells()
    with open_wells(lake, "demo") as wells:
        parts = list(wells.plates())
    assert [len(rows) for rows, _ in parts] == list(SIZES)
    assert all(rows["plate"].nunique() == 1 for rows, _ in parts)
    assert np.concatenate([rows.index for rows, _ in parts]).tolist() == list(range(len(x)))
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), x)


@pytest.mark.parametrize("index", [[], [4], [10, 0, 5, 5, 3], list(range(11))[::-1]])
def test_wells_are_taken_in_any_order_and_as_often_as_wanted(lake, index):
    _, x = draw_wells()
    with open_wells(lake, "demo") as wells:
        np.testing.assert_array_equal(wells.take(index), x[np.array(index, dtype=int)])


@pytest.mark.parametrize("index", [[-1], [11], [0, 99]])
def test_a_row_that_is_not_there_is_named(lake, index):
    with (
        open_wells(lake, "demo") as wells,
        pytest.raises(InputError, match=f"from 0 to 10, found .*{max(index, key=abs)}"),
    ):
        wells.take(index)


def test_only_the_plates_asked_for_are_read(tmp_path, monkeypatch):
    lake = Lake(tmp_path)
    publish(lake, draw_wells()[0])
    read = []
    whole = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda file, group, **options: read.append(group) or whole(file, group, **options),
    )
    with open_wells(lake, "demo") as wells:
        wells.take([10, 1, 6])
    assert read == [0, 2]


def test_a_map_without_wells_says_what_to_do(tmp_path):
    lake = Lake(tmp_path)
    with pytest.raises(InputError, match=r"wells.parquet .* `phenopipe map"), open_wells(lake, "x"):
        pass
    publish(lake, draw_wells()[0].drop_columns(["label"]))
    with (
        pytest.raises(InputError, match=r"a column label in maps/demo/wells.parquet"),
        open_wells(lake, "demo"),
    ):
        pass
