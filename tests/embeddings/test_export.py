import json
import tempfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from phenopipe.embeddings import (
    average_embeddings,
    export_embeddings,
    feature_names,
    read_embeddings,
    to_anndata,
    to_pandas,
    to_pycytominer,
    vectors_of,
)
from phenopipe.errors import InputError

FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)


def read_csv(path, names):
    kinds = dict.fromkeys(names, pa.float32())
    options = pa_csv.ConvertOptions(column_types=kinds)
    table = pa_csv.read_csv(path, convert_options=options).select(names)
    return np.column_stack([column.to_numpy() for column in table.columns])


READERS = {
    "parquet": lambda path, _: vectors_of(pq.read_table(path, partitioning=None)),
    "csv": read_csv,
    "anndata": lambda path, _: anndata.read_h5ad(path).X,
}


@settings(max_examples=15, deadline=None)
@given(data=st.data(), first=st.booleans())
def test_what_is_exported_is_read_back_the_same(open_store, data, first):
    drawn = [data.draw(hnp.arrays(np.float32, (12, 2), elements=FLOATS)) for _ in range(2)]
    order = [("E1/P1", drawn[0]), ("E1/P2", drawn[1])]
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder, "lake"))
        for where, vectors in order if first else reversed(order):
            store.publish(where, vectors=vectors)
        expected = np.concatenate(drawn)
        names = feature_names(read_embeddings(store.lake, "vit"))
        for name, read in READERS.items():
            path = Path(folder, name)
            export_embeddings(store.lake, "vit", path, file_format=name)
            np.testing.assert_array_equal(read(path, names), expected)


@pytest.fixture
def lake(store):
    facts = {"feature_names": json.dumps(["DNA_mean", "ER_mean", "DNA_ER_overlap"])}
    store.publish("E1/P1", facts=facts, carried={"lot": ["A7", ""]})
    store.publish("E2/P1", facts=facts, carried={"zfpkm": [1.0, None]})
    return store.lake


def test_parquet_is_the_table_itself(lake, tmp_path):
    out = tmp_path / "crops.parquet"
    done = []
    counts = export_embeddings(
        lake, "vit", out, file_format="parquet", on_progress=lambda *now: done.append(now)
    )
    assert counts == {"crops": 24, "plates": 2, "experiments": 2, "features": 3}
    assert done == [(1, 2), (2, 2)]
    found = pq.read_table(out, partitioning=None)
    assert found.equals(read_embeddings(lake, "vit"), check_metadata=True)


def test_means_are_written_as_they_are_read(lake, tmp_path):
    out = tmp_path / "wells.parquet"
    counts = export_embeddings(lake, "vit", out, file_format="parquet", per="well", plate="P1")
    assert counts["wells"] == 6
    found = pq.read_table(out, partitioning=None)
    assert found.equals(average_embeddings(read_embeddings(lake, "vit"), per="well"))


@pytest.mark.parametrize("name", ["crops.csv", "crops.csv.gz"])
def test_csv_has_a_column_a_feature(lake, tmp_path, name):
    export_embeddings(lake, "vit", tmp_path / name, file_format="csv", experiment="E1")
    found = pd.read_csv(tmp_path / name)
    expected = to_pandas(read_embeddings(lake, "vit", experiment="E1"))
    assert found.columns.tolist() == expected.columns.tolist()
    np.testing.assert_allclose(found["ER_mean"], expected["ER_mean"], rtol=1e-7)
    assert found["well"].tolist() == expected["well"].tolist()
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.endswith(".gz")


@pytest.mark.parametrize("per", [None, "well"])
def test_an_h5ad_file_is_what_anndata_itself_writes(lake, tmp_path, per):
    out = tmp_path / "a.h5ad"
    export_embeddings(lake, "vit", out, file_format="anndata", per=per)
    table = read_embeddings(lake, "vit")
    to_anndata(average_embeddings(table, per=per or "crop")).write_h5ad(tmp_path / "b.h5ad")
    found, expected = anndata.read_h5ad(out), anndata.read_h5ad(tmp_path / "b.h5ad")
    np.testing.assert_array_equal(found.X, expected.X)
    pd.testing.assert_frame_equal(found.obs, expected.obs)
    pd.testing.assert_frame_equal(found.var, expected.var)
    assert found.uns.keys() == expected.uns.keys()
    assert anndata.read_h5ad(out, backed="r").X[5].tolist() == expected.X[5].tolist()


@pytest.mark.parametrize("name", ["profiles.parquet", "profiles.csv", "profiles.csv.gz"])
def test_pycytominer_gets_wells_by_the_files_name(lake, tmp_path, name):
    counts = export_embeddings(lake, "vit", tmp_path / name, file_format="pycytominer")
    assert counts["wells"] == 6
    read = pd.read_parquet if name.endswith("parquet") else pd.read_csv
    expected = to_pycytominer(read_embeddings(lake, "vit"))
    found = read(tmp_path / name)
    assert found.columns.tolist() == expected.columns.tolist()
    np.testing.assert_allclose(found["ER_mean"], expected["ER_mean"], rtol=1e-7)
    with pytest.raises(InputError, match=r"ends in \.parquet, \.csv or \.csv\.gz, found profiles"):
        export_embeddings(lake, "vit", "profiles.txt", file_format="pycytominer")


def test_a_file_that_is_there_is_never_overwritten(lake, tmp_path):
    out = tmp_path / "mine.parquet"
    out.write_text("mine")
    with pytest.raises(InputError, match=r"not there yet, found .*mine\.parquet: choose another"):
        export_embeddings(lake, "vit", out, file_format="parquet")
    assert out.read_text() == "mine"


def test_nothing_is_left_where_an_export_fails(store, tmp_path):
    store.publish("E1/P1")
    store.publish("E1/P2", vectors=np.full((12, 3), np.nan))
    for name in ("parquet", "csv", "anndata"):
        with pytest.raises(InputError, match="NaN, infinity or null in 12 of 12"):
            export_embeddings(store.lake, "vit", tmp_path / "x", file_format=name, per="well")
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("gs://bucket/x.csv", "expected a local file to export to, found gs://bucket"),
        ("nowhere/x.csv", "expected the folder nowhere for x.csv, found none: make it first"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_reading(lake, out, said):
    with pytest.raises(InputError, match=said):
        export_embeddings(lake, "vit", out, file_format="csv")


def test_fields_are_not_taken_for_crops(store, tmp_path):
    store.publish("E1/P1", per="field")
    counts = export_embeddings(store.lake, "vit", tmp_path / "f.csv", file_format="csv")
    assert counts == {"fields": 6, "plates": 1, "experiments": 1, "features": 3}
    with pytest.raises(InputError, match="tell crops apart"):
        export_embeddings(store.lake, "vit", tmp_path / "x", file_format="csv", per="crop")
    with pytest.raises(InputError, match="a format of parquet, csv, anndata, pycytominer, found"):
        export_embeddings(store.lake, "vit", tmp_path / "x", file_format="xlsx")
