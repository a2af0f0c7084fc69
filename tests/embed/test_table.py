from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phenopipe.embed.table import EmbeddingsWriter
from phenopipe.plates import PlateKey
from phenopipe.schema import PLATEMAP_COLUMNS

KEY = PlateKey("HUVEC-1", "Plate3")
ROWS = 20_000


@pytest.fixture(scope="module")
def rows():
    """Rows of 8 wells as pieces hold them."""
    rng = np.random.default_rng(0)
    well = np.repeat([f"A{column:02d}" for column in range(1, 9)], ROWS // 8)
    vectors = rng.normal(size=(ROWS, 5)).astype(np.float32)
    return pa.table(
        {
            "well": pa.array(well.tolist(), pa.string()),
            "field": pa.array(np.ones(ROWS), pa.int32()),
            "y": pa.array(np.tile(np.arange(ROWS // 8), 8), pa.int32()),
            "x": pa.array(np.zeros(ROWS), pa.int32()),
            "embedding": pa.FixedSizeListArray.from_arrays(vectors.ravel(), 5),
        }
    )


def write(path, pieces, *, per="crop", metadata=None):
    wells = [{"well": "A02", "perturbation": "TP53", "concentration_um": 0.5, "dose": "high"}]
    schema = pa.schema({**PLATEMAP_COLUMNS, "dose": pa.string()})
    platemap = pa.Table.from_pylist(wells, schema=schema)
    with EmbeddingsWriter(path, KEY, platemap, per=per) as writer:
        for piece in pieces:
            writer.add(piece)
        writer.finish(metadata or {})
    return path


def cut(rows, ends):
    bounds = [0, *ends, len(rows)]
    return [rows[a:b] for a, b in pairwise(bounds)]


def test_the_bytes_do_not_depend_on_the_pieces(rows, tmp_path):
    whole = write(tmp_path / "whole", [rows]).read_bytes()
    for name, ends in {"few": [9000, 9001], "many": range(100, ROWS, 700)}.items():
        assert write(tmp_path / name, cut(rows, ends)).read_bytes() == whole


def test_rows_come_back_as_they_were_with_the_platemap(rows, tmp_path):
    table = pq.read_table(write(tmp_path / "table", cut(rows, [8192, 8193])))
    assert table.select(["well", "field", "y", "x"]).equals(
        rows.select(["well", "field", "y", "x"])
    )
    assert table["embedding"].combine_chunks().equals(rows["embedding"].combine_chunks())
    found = {row["well"]: row for row in table.drop(["embedding", "y", "x"]).to_pylist()}
    assert (found["A02"]["perturbation"], found["A02"]["dose"]) == ("TP53", "high")
    assert (found["A02"]["concentration_um"], found["A01"]["concentration_um"]) == (0.5, None)
    assert (found["A01"]["perturbation"], found["A01"]["dose"]) == ("", "")


def test_row_groups_are_of_one_size(rows, tmp_path):
    file = pq.ParquetFile(write(tmp_path / "table", cut(rows, range(0, ROWS, 3000))))
    sizes = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
    assert sizes == [8192, 8192, ROWS - 2 * 8192]


def test_the_metadata_say_where_each_piece_was_computed(rows, tmp_path):
    pieces = [
        rows[:10].replace_schema_metadata({"device": "B", "batch": "1"}),
        rows[10:].replace_schema_metadata({"device": "A", "batch": "1"}),
    ]
    path = write(tmp_path / "table", pieces, metadata={"model": "vit"})
    found = pq.read_schema(path).metadata
    assert {k.decode(): v.decode() for k, v in found.items()} == {
        "device": "A, B",
        "batch": "1",
        "model": "vit",
    }


def test_rows_of_fields_have_no_place(rows, tmp_path):
    table = pq.read_table(write(tmp_path / "table", [rows[:8]], per="field"))
    assert not {"x", "y"} & {*table.column_names}


def break_off(path, piece):
    platemap = pa.schema(PLATEMAP_COLUMNS).empty_table()
    with EmbeddingsWriter(path, KEY, platemap, per="crop") as writer:
        writer.add(piece)
        assert path.exists()
        raise OSError("the disk is gone")


def test_a_table_that_is_not_finished_leaves_no_file(rows, tmp_path):
    with pytest.raises(OSError, match="the disk is gone"):
        break_off(tmp_path / "table", rows)
    assert not (tmp_path / "table").exists()
