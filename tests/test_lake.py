import hashlib
import multiprocessing
import os
import signal
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Recipe, Thing, plate_image, qc_table
from phenopipe.plates import PlateKey

KEY = PlateKey("HUVEC-1", "Plate3")
TABLE = qc_table(KEY)
RECIPE = Recipe("ingest", 1, {}, {"levels": 2})


def publish(lake, thing, content, recipe=RECIPE):
    with lake.writing(thing):
        lake.path(thing).write_bytes(content)
        return lake.publish(thing, recipe, counts={"rows": 1}, started=datetime.now(UTC))


def test_a_thing_exists_when_its_manifest_does(tmp_path):
    lake = Lake(tmp_path)
    with lake.writing(TABLE):
        lake.path(TABLE).write_bytes(b"half")
        assert lake.manifest(TABLE) is None
        assert lake.published("qc") == []
        assert lake.unpublished("qc") == [TABLE]
    publish(lake, TABLE, b"whole")
    assert lake.published("qc") == [TABLE]
    assert lake.unpublished("qc") == []
    assert lake.is_current(TABLE, RECIPE)


def test_a_manifest_holds_the_digest_of_each_file(tmp_path):
    lake = Lake(tmp_path)
    image = plate_image(KEY)
    with lake.writing(image):
        (lake.path(image) / "A").mkdir(parents=True)
        (lake.path(image) / "A" / "zarr.json").write_bytes(b"{}")
        manifest = lake.publish(image, RECIPE, counts={}, started=datetime.now(UTC))
    assert manifest.files == {"A/zarr.json": hashlib.sha256(b"{}").hexdigest()}
    assert lake.manifest(image) == manifest


def test_writing_anew_unpublishes_first(tmp_path):
    lake = Lake(tmp_path)
    publish(lake, TABLE, b"old")
    with lake.writing(TABLE):
        assert lake.manifest(TABLE) is None
        assert not lake.path(TABLE).exists()


def hold(root, held):
    with Lake(root).writing(TABLE):
        held.set()
        signal.pause()


def test_two_runs_cannot_write_one_thing_and_a_killed_one_blocks_nobody(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    held = spawn.Event()
    other = spawn.Process(target=hold, args=(tmp_path, held))
    other.start()
    assert held.wait(60)
    with pytest.raises(InputError, match=r"only run that writes qc/HUVEC-1/Plate3\.parquet"):
        publish(Lake(tmp_path), TABLE, b"x")
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    publish(Lake(tmp_path), TABLE, b"x")


def test_an_input_published_anew_while_a_stage_reads_it_stops_the_stage(tmp_path):
    lake = Lake(tmp_path)
    first = publish(lake, TABLE, b"one")
    downstream = Thing("embeddings/m/HUVEC-1/Plate3.parquet")
    recipe = Recipe("embed", 1, {TABLE.path: first.key}, {})
    publish(lake, TABLE, b"two", recipe=Recipe("ingest", 2, {}, {}))
    with pytest.raises(InputError, match="published anew"):
        publish(lake, downstream, b"rows", recipe=recipe)
    assert lake.manifest(downstream) is None


def test_a_torn_manifest_is_named(tmp_path):
    lake = Lake(tmp_path)
    publish(lake, TABLE, b"x")
    (tmp_path / TABLE.manifest).write_text('{"thing": "qc')
    with pytest.raises(
        InputError, match=r"expected a manifest in qc/HUVEC-1/Plate3\.parquet\.json"
    ):
        lake.manifest(TABLE)


def test_a_bucket_is_refused_in_words():
    with pytest.raises(InputError, match="expected a local folder"):
        Lake("gs://bucket/prefix")


parameters = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4)


@given(parameters)
def test_a_key_depends_on_what_is_said_not_on_the_order(chosen):
    backwards = dict(reversed(chosen.items()))
    assert Recipe("s", 1, {}, chosen).key == Recipe("s", 1, {}, backwards).key
    assert Recipe("s", 2, {}, chosen).key != Recipe("s", 1, {}, chosen).key
