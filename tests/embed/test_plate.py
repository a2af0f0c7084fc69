import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from phenopipe import compute
from phenopipe.config import EmbedConfig
from phenopipe.embed import crop_field, crop_origins, embed_plate
from phenopipe.errors import InputError
from phenopipe.lake import embeddings
from phenopipe.models import build_classical, classical_card, open_session
from phenopipe.plates import PlateKey
from phenopipe.schema import check_embeddings
from tests.embed.graphs import add_model

KEY = PlateKey("HUVEC-1", "Plate3")
SMALL = EmbedConfig(crop=32)
THING = embeddings("classical", KEY)


def read(plate, thing=THING):
    return pq.read_table(plate.lake.path(thing))


def vectors_of(table):
    column = table["embedding"].combine_chunks()
    return column.values.to_numpy().reshape(len(table), -1)


def test_each_row_is_its_crop_seen_by_the_model(plate, client):
    plate.publish()
    ref = embed_plate(plate.lake, KEY, client=client, config=SMALL)
    assert ref.computed
    assert ref.counts == {"crops": 24, "fields": 6, "fields_left_out": 0}
    table = check_embeddings(read(plate), where="test")
    session = open_session(build_classical().SerializeToString())
    origins = crop_origins(64, 64, crop=32, stride=32)
    order = [(well, field) for well in ("A01", "A02", "B11") for field in (1, 2)]
    assert list(
        zip(*table.select(["well", "field", "y", "x"]).to_pydict().values(), strict=True)
    ) == [(well, field, y, x) for well, field in order for y, x in origins.tolist()]
    expected = [session.embed(crop_field(plate.pixels[at], origins, crop=32)) for at in order]
    np.testing.assert_array_equal(vectors_of(table), np.concatenate(expected))


def test_the_file_says_what_its_numbers_are(plate, client):
    plate.publish()
    embed_plate(plate.lake, KEY, client=client, config=SMALL)
    found = {k.decode(): v.decode() for k, v in read(plate).schema.metadata.items()}
    card = classical_card()
    assert found["model_digest"] == card.digest == plate.lake.manifest(THING).model_digest
    assert (found["model"], found["model_version"]) == ("classical", card.version)
    assert found["provider"] == "cpu"
    names = json.loads(found["feature_names"])
    assert len(names) == vectors_of(read(plate)).shape[1]
    assert (names[0], names[-1]) == ("DNA_mean", "ER_AGP_overlap")


def test_a_rerun_computes_nothing(plate, client):
    plate.publish()
    embed_plate(plate.lake, KEY, client=client, config=SMALL)
    before = plate.lake.manifest(THING)
    again = embed_plate(plate.lake, KEY, client=None, config=SMALL)
    assert not again.computed
    assert again.counts == before.counts
    assert plate.lake.manifest(THING) == before


def test_other_settings_or_inputs_compute_anew(plate, client):
    plate.publish()
    embed_plate(plate.lake, KEY, client=client, config=SMALL)
    finer = embed_plate(plate.lake, KEY, client=client, config=EmbedConfig(crop=32, stride=16))
    assert (finer.computed, finer.counts["crops"]) == (True, 6 * 9)
    plate.seed = 1
    plate.publish()
    assert embed_plate(plate.lake, KEY, client=client, config=SMALL).computed


def test_one_and_two_workers_give_the_same_bytes(plate):
    plate.wells = tuple(f"{row}{column:02d}" for row in "ABC" for column in (1, 2, 10))
    plate.publish()
    digests = []
    for kind, workers in (("threads", 1), ("local", 2)):
        with compute.client(kind, workers=workers) as client:
            embed_plate(plate.lake, KEY, client=client, config=SMALL)
        digests.append(plate.lake.manifest(THING).files)
        plate.lake.clear(THING)
    assert digests[0] == digests[1]


def test_fields_that_failed_qc_are_absent(plate, client):
    plate.failed = (("A02", 1), ("B11", 1), ("B11", 2))
    plate.publish()
    ref = embed_plate(plate.lake, KEY, client=client, config=SMALL)
    assert ref.counts == {"crops": 12, "fields": 3, "fields_left_out": 3}
    rows = read(plate).select(["well", "field"]).to_pylist()
    assert {(row["well"], row["field"]) for row in rows} == {("A01", 1), ("A01", 2), ("A02", 2)}


def test_fields_that_failed_qc_are_embedded_when_asked(plate, client):
    plate.failed = (("A02", 1), ("B11", 1), ("B11", 2))
    plate.publish()
    asked = EmbedConfig(crop=32, include_failed=True)
    ref = embed_plate(plate.lake, KEY, client=client, config=asked)
    assert ref.counts == {"crops": 24, "fields": 6, "fields_left_out": 0}


def test_a_plate_of_failed_fields_only_is_refused(plate, client):
    plate.failed = tuple((well, field) for well in plate.wells for field in (1, 2))
    plate.publish()
    with pytest.raises(InputError, match=r"that passed QC, found 6 fields, none of which did"):
        embed_plate(plate.lake, KEY, client=client, config=SMALL)
    assert plate.lake.manifest(THING) is None


def test_rows_say_what_was_done_to_their_well(plate, client):
    plate.publish()
    plate.publish_platemap(
        [
            {"well": "A02", "perturbation": "TP53", "gene": "TP53", "zfpkm": 1.5, "comment": "x"},
            {"well": "A01", "perturbation": "none", "control_type": "negative"},
            {"well": "H12", "perturbation": "unseen"},
        ]
    )
    embed_plate(plate.lake, KEY, client=client, config=SMALL)
    table = check_embeddings(read(plate), where="test")
    rows = {row["well"]: row for row in table.drop(["embedding"]).to_pylist()}
    assert (rows["A02"]["gene"], rows["A02"]["zfpkm"], rows["A02"]["comment"]) == ("TP53", 1.5, "x")
    assert (rows["A01"]["control_type"], rows["A01"]["gene"]) == ("negative", "")
    assert (rows["B11"]["perturbation"], rows["B11"]["zfpkm"]) == ("", None)
    assert rows.keys() == set(plate.wells)


def test_another_platemap_is_joined_anew(plate, client):
    plate.publish()
    embed_plate(plate.lake, KEY, client=client, config=SMALL)
    plate.publish_platemap([{"well": "A01", "perturbation": "TP53"}])
    assert embed_plate(plate.lake, KEY, client=client, config=SMALL).computed
    assert set(read(plate)["perturbation"].to_pylist()) == {"TP53", ""}


def test_a_model_sees_the_channels_that_it_names_in_its_order(plate, client):
    plate.publish()
    add_model(plate.lake, channels=("AGP", "DNA"))
    embed_plate(plate.lake, KEY, model="sums", client=client)
    table = read(plate, embeddings("sums", KEY))
    assert json.loads(table.schema.metadata[b"feature_names"]) == ["AGP_sum", "DNA_sum"]
    corner = plate.pixels["A01", 1][[2, 0], :32, :32].sum((1, 2))
    np.testing.assert_array_equal(vectors_of(table)[0], corner)


def test_a_channel_that_is_missing_is_named(plate, client):
    plate.publish()
    add_model(plate.lake, channels=("AGP", "Mito"))
    with pytest.raises(InputError, match=r"found DNA, ER, AGP \(Mito missing\)"):
        embed_plate(plate.lake, KEY, model="sums", client=client)


def test_bytes_widen_to_the_models_dtype_but_never_narrow(plate, client):
    plate.dtype = "uint8"
    plate.publish()
    assert embed_plate(plate.lake, KEY, client=client, config=SMALL).computed
    plate.dtype, plate.seed = "uint16", 1
    plate.publish()
    add_model(plate.lake, dtype="uint8")
    with pytest.raises(InputError, match=r"pixels of uint8 in .* A01 field 1, found uint16"):
        embed_plate(plate.lake, KEY, model="sums", client=client)


def test_a_stack_beside_its_projection_is_left_alone(plate, client):
    plate.paths = ("1", "1z")
    plate.publish()
    ref = embed_plate(plate.lake, KEY, client=client, config=SMALL)
    assert ref.counts["fields"] == len(plate.wells)


def test_a_stack_without_its_projection_is_refused(plate, client):
    plate.paths = ("1", "2z")
    plate.publish()
    with pytest.raises(InputError, match="projection of A01 field 2, found a z-stack only"):
        embed_plate(plate.lake, KEY, client=client, config=SMALL)


def test_a_time_series_is_refused(plate, client):
    plate.leading = (2,)
    plate.publish()
    with pytest.raises(InputError, match=r"found \(2, 3, 64, 64\): time series are not embedded"):
        embed_plate(plate.lake, KEY, client=client, config=SMALL)


def test_fields_smaller_than_a_crop_are_refused(plate, client):
    plate.publish()
    with pytest.raises(InputError, match=r"found 64 x 64: set embed\.crop to 64 or less"):
        embed_plate(plate.lake, KEY, client=client)


def test_a_damaged_model_is_refused(plate, client):
    plate.publish()
    add_model(plate.lake)
    path = Path(plate.lake.root, "models/sums/1/model.onnx")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="changed or damaged"):
        embed_plate(plate.lake, KEY, model="sums", client=client)


def test_a_plate_that_is_not_ingested_is_refused(plate, client):
    with pytest.raises(InputError, match=r"images/HUVEC-1/Plate3\.zarr .* run phenopipe ingest"):
        embed_plate(plate.lake, KEY, client=client)


def test_progress_ends_at_the_total(plate, client):
    plate.wells = tuple(f"A{column:02d}" for column in range(1, 10))
    plate.publish()
    seen = []
    embed_plate(
        plate.lake, KEY, client=client, config=SMALL, on_progress=lambda *now: seen.append(now)
    )
    assert (seen[0], seen[-1]) == ((0, 18), (18, 18))
    assert seen == sorted(seen)
