import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phenopipe.embeddings import average_embeddings, group_means, read_embeddings, vectors_of
from phenopipe.errors import InputError


@pytest.mark.parametrize(
    ("per", "keys"), [("well", ["plate", "well"]), ("field", ["plate", "well", "field"])]
)
def test_means_are_pandas(store, per, keys):
    for where in ("E1/P1", "E1/P2"):
        store.publish(where, carried={"lot": ["A7"]})
    table = read_embeddings(store.lake, "vit")
    found = average_embeddings(table, per=per)
    rows = table.select(keys).to_pandas()
    expected = pd.DataFrame(vectors_of(table).astype(float)).groupby([rows[k] for k in keys]).mean()
    np.testing.assert_array_equal(vectors_of(found), expected.to_numpy().astype(np.float32))
    assert found.select(keys).to_pandas().to_numpy().tolist() == [
        list(key) for key in expected.index
    ]
    left_out = {"y", "x"} if per == "field" else {"y", "x", "field"}
    assert [n for n in table.column_names if n not in left_out] == found.column_names
    assert set(found["lot"].to_pylist()) == {"A7"}
    assert found.schema.metadata == table.schema.metadata


def test_wells_come_in_the_order_in_which_they_stand(store):
    store.publish("E1/P1", wells=("B11", "A02", "AA01"))
    wells = average_embeddings(read_embeddings(store.lake, "vit"), per="well")["well"]
    assert wells.to_pylist() == ["B11", "A02", "AA01"]


def test_rows_never_become_finer(store):
    table = store.publish("E1/P1", per="field")
    assert average_embeddings(table, per="field") is not None
    with pytest.raises(InputError, match="tell crops apart, found none of y, x: ask for a coarser"):
        average_embeddings(table, per="crop")
    with pytest.raises(InputError, match="one of crop, field, well, found 'plate'"):
        average_embeddings(table, per="plate")


def test_a_vector_that_is_not_finite_is_never_averaged(store):
    vectors = np.ones((12, 3))
    vectors[5, 1] = np.nan
    table = store.publish("E1/P1", vectors=vectors)
    with pytest.raises(
        InputError, match=r"found NaN, infinity or null in 1 of 12 rows \(wells A02"
    ):
        average_embeddings(table, per="well")


@settings(max_examples=30, deadline=None)
@given(codes=st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_group_means_are_numpys(codes):
    codes = np.unique(codes, return_inverse=True)[1]  # from 0, none left out
    x = np.random.default_rng(0).normal(size=(len(codes), 2))
    means, first = group_means(x, codes)
    for code in range(codes.max() + 1):
        np.testing.assert_allclose(means[code], x[codes == code].mean(axis=0), atol=1e-12)
        assert first[code] == codes.tolist().index(code)
