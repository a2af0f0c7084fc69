import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phenopipe.embeddings import feature_names, find_embeddings, read_embeddings, vectors_of
from phenopipe.errors import InputError
from phenopipe.lake import Lake, embeddings
from phenopipe.plates import PlateKey


def thing(where):
    return embeddings("vit", PlateKey(*where.split("/")))


def test_one_table_is_the_plates_one_below_the_other(store):
    tables = [store.publish(where) for where in ("E1/P1", "E1/P2", "E2/P1")]
    found = read_embeddings(store.lake, "vit")
    assert found.to_pylist() == [row for table in tables for row in table.to_pylist()]
    assert (found.schema, found.schema.metadata) == (tables[0].schema, tables[0].schema.metadata)
    expected = np.concatenate([np.stack(t["embedding"].to_numpy()) for t in tables])
    np.testing.assert_array_equal(vectors_of(found), expected)


def test_the_order_in_which_plates_are_published_does_not_matter(open_store, tmp_path):
    tables = []
    for number, order in enumerate(permutations(("E1/P1", "E1/P10", "E2/P1"))):
        store = open_store(tmp_path / str(number))
        for where in order:
            store.publish(where, carried={where[-2:]: [where]})
        tables.append(read_embeddings(store.lake, "vit"))
    assert all(table.equals(tables[0], check_metadata=True) for table in tables)


def test_a_plate_that_is_half_written_is_never_read(store):
    whole = store.publish("E1/P1")
    store.publish("E1/P2")
    Path(store.lake.root, thing("E1/P2").manifest).unlink()
    Path(store.lake.path(thing("E1/P3"))).write_bytes(b"PAR1, and then the power went")
    assert read_embeddings(store.lake, "vit").to_pylist() == whole.to_pylist()
    with pytest.raises(InputError, match=r"of vit for P2 in .* found none published"):
        read_embeddings(store.lake, "vit", plate="P2")


def test_a_table_holds_the_experiments_and_plates_asked_for(store):
    for where in ("E1/P1", "E1/P2", "E2/P1", "E2/P3"):
        store.publish(where)

    def plates(**asked):
        found = find_embeddings(store.lake, "vit", **asked).plates
        return [plate.thing.path.removeprefix("embeddings/vit/")[:5] for plate in found]

    assert plates(experiment="E1") == ["E1/P1", "E1/P2"]
    assert plates(plate="P1") == ["E1/P1", "E2/P1"]
    assert plates(experiment=["E2", "E1"], plate=["P3", "P2"]) == ["E1/P2", "E2/P3"]
    with pytest.raises(InputError, match=r"of vit for E3, P9 in .* run `phenopipe embed --root"):
        plates(experiment=["E1", "E3"], plate=["P1", "P9"])
    with pytest.raises(InputError, match="of resnet for a plate"):
        read_embeddings(store.lake, "resnet")


@pytest.mark.parametrize(
    ("unlike", "said"),
    [
        ({"width": 4}, r"one width, found 3 in \S+E1/P1\.parquet and 4 in \S+E1/P2\.parquet"),
        ({"digest": "cd" * 32}, "one model digest, found abab.* and cdcd"),
        ({"facts": {"model_version": "1.1"}}, "one model version, found 1 in .* and 1.1 in"),
        ({"facts": {"channels": '["DNA"]'}}, r'channels, found \["DNA", "ER"\] in .* \["DNA"\] in'),
        ({"facts": {"feature_names": '["a", "b", "c"]'}}, r"list of features, found \[\] in"),
        ({"per": "field"}, "one kind, found crops in .* and fields in"),
        ({"settings": {"crop": 64}}, r"one crop \(embed.crop\), found 32 in .* and 64 in"),
    ],
)
def test_plates_whose_vectors_mean_other_things_are_never_mixed(store, unlike, said):
    store.publish("E1/P1")
    store.publish("E1/P2", **unlike)
    with pytest.raises(InputError, match=said) as refused:
        read_embeddings(store.lake, "vit")
    assert "E1/P1" in str(refused.value)
    assert "E1/P2" in str(refused.value)
    assert "run `phenopipe embed` again on one of them" in str(refused.value)
    assert len(read_embeddings(store.lake, "vit", plate="P2")) > 0


def test_where_it_was_computed_may_differ_and_is_told(store):
    store.publish("E1/P1", facts={"provider": "cuda"})
    store.publish("E1/P2")
    table = read_embeddings(store.lake, "vit")
    assert table.schema.metadata[b"provider"] == b"cpu, cuda"
    assert table.schema.metadata[b"model_version"] == b"1"


def test_a_setting_that_an_older_plate_does_not_say_is_no_difference(store):
    store.publish("E1/P1")
    store.publish("E1/P2", settings={"turns": 1})
    store.publish("E1/P3", settings={"turns": 1, "stride": 16})
    assert len(find_embeddings(store.lake, "vit").plates) == 3


def test_a_carried_column_that_a_plate_lacks_is_null_there(store):
    store.publish("E1/P1", carried={"lot": ["A7", ""]})
    store.publish("E1/P2", carried={"zfpkm": [1.0, None]})
    table = read_embeddings(store.lake, "vit")
    assert table.column_names[-3:] == ["lot", "zfpkm", "embedding"]
    assert table["lot"].to_pylist() == ["A7", ""] * 6 + [None] * 12
    assert table["zfpkm"].to_pylist() == [None] * 12 + [1.0, None] * 6


@pytest.mark.parametrize("nothing", [[""], ["NA", ""], [None]])
def test_text_that_says_nothing_is_null_where_others_have_numbers(store, nothing):
    store.publish("E1/P1", carried={"zfpkm": pa.array(nothing, pa.string())})
    store.publish("E1/P2", carried={"zfpkm": [1.0]})
    assert read_embeddings(store.lake, "vit")["zfpkm"].to_pylist() == [None] * 12 + [1.0] * 12
    assert set(read_embeddings(store.lake, "vit", plate="P1")["zfpkm"].to_pylist()) == {*nothing}


def test_text_and_numbers_in_one_column_are_refused_if_it_is_read(store):
    store.publish("E1/P1", carried={"lot": ["A7"]})
    store.publish("E1/P2", carried={"lot": [7.0]})
    said = r"lot to hold one type .* string in \S+E1/P1\S+ and double in \S+E1/P2\S+: correct the"
    with pytest.raises(InputError, match=said):
        read_embeddings(store.lake, "vit")
    table = read_embeddings(store.lake, "vit", columns=["plate", "embedding"])
    assert table["plate"].unique().to_pylist() == ["P1", "P2"]


def test_columns_come_as_asked_and_vectors_only_then(store):
    whole = store.publish("E1/P1")
    table = read_embeddings(store.lake, "vit", columns=["gene", "well"])
    assert table.equals(whole.select(["gene", "well"]))
    with pytest.raises(InputError, match=r"found 'genes': they have experiment, plate, well"):
        read_embeddings(store.lake, "vit", columns=["genes"])
    with pytest.raises(InputError, match="expected a column embedding, found gene, well"):
        vectors_of(table)


def test_a_table_of_fields_has_no_places_of_crops(store):
    whole = store.publish("E1/P1", per="field")
    assert "y" not in whole.column_names
    assert read_embeddings(store.lake, "vit").equals(whole)
    assert find_embeddings(store.lake, "vit").unit == "field"


def test_features_are_named_by_the_card_or_counted(store):
    store.publish("E1/P1", width=11)
    names = feature_names(read_embeddings(store.lake, "vit"))
    assert (names[0], names[10]) == ("vit_00", "vit_10")
    store.publish("E1/P1", facts={"feature_names": json.dumps(["a", "b", "c"])})
    table = read_embeddings(store.lake, "vit")
    assert feature_names(table) == ["a", "b", "c"]
    with pytest.raises(InputError, match=r"expected 3 names of features .* found 1"):
        feature_names(table.replace_schema_metadata({"feature_names": '["a"]'}))


def test_a_plate_published_anew_while_it_is_read_ends_the_reading(store):
    store.publish("E1/P1")
    store.publish("E1/P2")
    plates = find_embeddings(store.lake, "vit").read_plates()
    next(plates)
    store.publish("E1/P2", settings={"stride": 16})
    with pytest.raises(InputError, match=r"E1/P2\.parquet to stay as it was .* start again"):
        next(plates)


@pytest.mark.parametrize("left", [None, b"", b"PAR1 no footer"])
def test_a_file_that_is_damaged_or_gone_is_named(store, left):
    store.publish("E1/P1")
    path = Path(store.lake.path(thing("E1/P1")))
    path.unlink() if left is None else path.write_bytes(left)
    with pytest.raises(InputError, match=r"E1/P1\.parquet, found .* `phenopipe verify` lists"):
        read_embeddings(store.lake, "vit")


def test_a_file_without_embeddings_is_named(store):
    store.publish("E1/P1")
    pq.write_table(pa.table({"well": ["A01"]}), store.lake.path(thing("E1/P1")))
    with pytest.raises(InputError, match=r"expected embedding: fixed_size_list<float32>\[d\] in"):
        read_embeddings(store.lake, "vit")


def test_a_bucket_is_read_as_a_folder_is(store, open_store, bucket_root):
    away = open_store(bucket_root)
    for where in ("E1/P1", "E1/P2"):
        store.publish(where, carried={"zfpkm": [""] if where == "E1/P1" else [1.0]})
        away.publish(where, carried={"zfpkm": [""] if where == "E1/P1" else [1.0]})
    found = read_embeddings(Lake(bucket_root), "vit")
    assert found.equals(read_embeddings(store.lake, "vit"), check_metadata=True)
