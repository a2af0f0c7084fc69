import pyarrow as pa
import pytest
import xarray as xr

from phenopipe.errors import InputError
from phenopipe.schema import (
    CROP_KEYS,
    FIELD_KEYS,
    check_embeddings,
    check_map,
    embeddings_schema,
    wells_schema,
)


@pytest.mark.parametrize(("per", "keys"), [("crop", CROP_KEYS), ("field", FIELD_KEYS)])
def test_embeddings_are_of_crops_or_of_fields(per, keys):
    table = embeddings_schema(3, {"zfpkm": pa.float64()}, per=per).empty_table()
    assert tuple(table.column_names[: len(keys)]) == keys
    assert ("y" in table.column_names) == (per == "crop")
    assert check_embeddings(table, where="here") is table


@pytest.mark.parametrize("lost", ["y", "x", "gene"])
def test_a_column_that_is_missing_is_named(lost):
    table = embeddings_schema(3).empty_table().drop_columns([lost])
    with pytest.raises(InputError, match=f"expected a column {lost} in here"):
        check_embeddings(table, where="here")


def test_a_place_of_another_type_is_refused():
    table = embeddings_schema(3).empty_table()
    wide = table.set_column(table.column_names.index("y"), "y", pa.array([], pa.int64()))
    with pytest.raises(InputError, match="expected y: int32 in here, found int64"):
        check_embeddings(wide, where="here")


def test_aligned_wells_are_keyed_like_embeddings_and_have_a_label():
    names = wells_schema(3).names
    assert tuple(names[:3]) == FIELD_KEYS[:3]
    carried = [name for name in embeddings_schema(3).names if name not in CROP_KEYS]
    assert names[3:] == [*carried[:-1], "label", "embedding"]


@pytest.mark.parametrize("lost", ["kind", "compound", "concentration_um", "agreement", "arm"])
def test_what_a_map_lacks_is_named(lost):
    rows = (("perturbation", "feature"), [[1.0, 2.0]])
    known = ("gene", "arm", "unexpressed", "kind", "compound", "concentration_um", "agreement")
    dataset = xr.Dataset(
        {"embedding": rows, "embedding_uncorrected": rows}
        | {name: ("perturbation", [0]) for name in known}
    )
    assert check_map(dataset, where="here") is dataset
    with pytest.raises(InputError, match=rf"expected {lost} \('perturbation',\) in here"):
        check_map(dataset.drop_vars(lost), where="here")
