import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from phenopipe.embeddings import (
    average_embeddings,
    read_embeddings,
    to_anndata,
    to_numpy,
    to_pandas,
    to_polars,
    to_pycytominer,
    vectors_of,
)
from phenopipe.embeddings.frames import require
from phenopipe.errors import InputError

NAMES = ["DNA_mean", "ER_mean", "DNA_ER_overlap"]


@pytest.fixture
def table(store):
    facts = {"feature_names": json.dumps(NAMES)}
    store.publish("E1/P1", facts=facts, carried={"lot": ["A7", ""]})
    store.publish("E2/P1", facts=facts, carried={"zfpkm": [1.0, None]})
    return read_embeddings(store.lake, "vit")


def test_numpy_gets_metadata_and_vectors_apart(table):
    rows, x = to_numpy(table)
    assert list(rows.columns) == [name for name in table.column_names if name != "embedding"]
    assert (x.dtype, x.shape) == (np.float32, (24, 3))
    assert x[7].tolist() == table["embedding"][7].as_py()


def test_vectors_that_lie_in_one_piece_are_not_copied(table):
    piece = table.slice(5, 4)
    start = piece["embedding"].chunk(0).flatten().buffers()[1].address
    assert vectors_of(piece).ctypes.data == start + 5 * 3 * 4


def test_pandas_gets_a_column_a_feature(table):
    frame = to_pandas(table)
    assert list(frame.columns[-3:]) == NAMES
    assert set(frame.dtypes[NAMES]) == {np.dtype("float32")}
    np.testing.assert_array_equal(frame[NAMES].to_numpy(), vectors_of(table))
    assert frame["zfpkm"].isna().sum() == 18


def test_a_feature_named_like_a_column_is_refused(store):
    table = store.publish("E1/P1", carried={"vit_1": ["x"]})
    with pytest.raises(InputError, match="found 'vit_1' in both"):
        to_pandas(table)


def test_polars_gets_arrays_without_a_copy(table):
    polars = pytest.importorskip("polars")
    frame = to_polars(table)
    assert frame.schema["embedding"] == polars.Array(polars.Float32, 3)
    np.testing.assert_array_equal(frame["embedding"].to_numpy(), vectors_of(table))
    chunks = frame["embedding"].get_chunks()
    addresses = [chunk.explode().to_arrow().buffers()[1].address for chunk in chunks]
    assert addresses == [c.flatten().buffers()[1].address for c in table["embedding"].chunks]
    assert frame["lot"].null_count() == 12


def test_anndata_gets_x_obs_var_and_uns(table, tmp_path):
    anndata = pytest.importorskip("anndata")
    to_anndata(table).write_h5ad(tmp_path / "a.h5ad")
    data = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert data.X.dtype == np.float32
    np.testing.assert_array_equal(data.X, vectors_of(table))
    assert data.var_names.tolist() == NAMES
    assert data.obs_names[1] == "E1/P1/A01/1/0/32"
    assert isinstance(data.obs["gene"].dtype, pd.CategoricalDtype)
    assert data.obs["gene"].cat.categories.tolist() == ["", "TP53"]
    assert data.obs["lot"].isna().sum() == 12
    assert data.obs["field"].tolist() == table["field"].to_pylist()
    model = data.uns["model"]
    assert (model["model"], model["model_version"]) == ("vit", "1")
    assert model["channels"].tolist() == ["DNA", "ER"]
    wells = to_anndata(average_embeddings(table, per="well"))
    assert wells.obs_names.tolist()[:2] == ["E1/P1/A01", "E1/P1/A02"]
    assert to_anndata(table.select(["gene", "embedding"])).obs_names[3] == "3"


def test_pycytominer_gets_metadata_columns(table):
    wells = to_pycytominer(table)
    metadata = [name for name in wells.columns if name.startswith("Metadata_")]
    assert metadata[:4] == [
        "Metadata_Batch", "Metadata_Plate", "Metadata_Well", "Metadata_perturbation"
    ]  # fmt: skip
    assert list(wells.columns) == [*metadata, *NAMES]
    assert wells["Metadata_Batch"].tolist() == ["E1"] * 3 + ["E2"] * 3
    crops = to_pycytominer(table, per="crop")
    assert {"Metadata_Site", "Metadata_y", "Metadata_x", "Metadata_lot"} <= {*crops.columns}


def test_a_carried_column_that_pycytominer_has_a_name_for_stays_apart(store):
    table = store.publish("E1/P1", carried={"Batch": ["b"], "Plate": ["p"]})
    wells = to_pycytominer(table)
    assert wells["Metadata_Batch"].unique().tolist() == ["E1"]
    assert wells["Metadata_platemap_Batch"].unique().tolist() == ["b"]
    assert wells["Metadata_platemap_Plate"].unique().tolist() == ["p"]


def test_pycytominers_own_steps_run_on_crops_and_wells(table):
    pycytominer = pytest.importorskip("pycytominer")
    crops, x = to_pycytominer(table, per="crop"), vectors_of(table).astype(float)
    plates = ["Metadata_Batch", "Metadata_Plate", "Metadata_Well"]
    means = pycytominer.aggregate(crops, strata=plates, features=NAMES, operation="mean")
    wells = to_pycytominer(table)
    assert means[plates].to_numpy().tolist() == wells[plates].to_numpy().tolist()
    np.testing.assert_allclose(means[NAMES], wells[NAMES], rtol=1e-6)

    metadata = [name for name in crops.columns if name.startswith("Metadata_")]
    normalised = pycytominer.normalize(
        crops,
        features=NAMES,
        meta_features=metadata,
        samples="Metadata_control_type == 'negative'",
        method="standardize",
    )
    control = np.array(table["control_type"].to_pylist()) == "negative"
    expected = (x - x[control].mean(axis=0)) / x[control].std(axis=0)
    np.testing.assert_allclose(normalised[NAMES], expected, rtol=1e-5, atol=1e-6)

    doubled = crops.assign(copy=crops["DNA_mean"] * 2)
    kept = pycytominer.feature_select(
        doubled, features=[*NAMES, "copy"], operation="correlation_threshold", corr_threshold=0.9
    )
    correlation = np.corrcoef(np.column_stack([x, 2 * x[:, 0]]), rowvar=False)
    assert (np.abs(correlation - np.eye(4)) > 0.9).sum() == 2  # only the copy and what it is of
    assert len({"copy", "DNA_mean"} & {*kept.columns}) == 1
    assert {"ER_mean", "DNA_ER_overlap"} < {*kept.columns}


def test_what_is_not_installed_is_named_with_its_extra():
    with pytest.raises(InputError, match=r"no_such_library to be installed.*phenopipe\[readers\]"):
        require("no_such_library")


def test_an_empty_table_stays_empty(table):
    none = table.slice(0, 0)
    assert to_pandas(none).shape == (0, len(none.column_names) - 1 + 3)
    assert average_embeddings(none, per="well").num_rows == 0
    assert isinstance(none, pa.Table)
