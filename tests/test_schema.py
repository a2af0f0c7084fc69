import pyarrow as pa
import pytest

from phenopipe.errors import InputError
from phenopipe.schema import CROP_KEYS, FIELD_KEYS, check_embeddings, embeddings_schema


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
