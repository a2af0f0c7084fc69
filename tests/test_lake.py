import multiprocessing
import os
import pickle
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phenopipe.digests import digest_bytes
from phenopipe.errors import InputError
from phenopipe.lake import Lake, Recipe, Thing, plate_image, qc_table
from phenopipe.plates import PlateKey

KEY = PlateKey("HUVEC-1", "Plate3")
TABLE = qc_table(KEY)
RECIPE = Recipe("ingest", 1, {}, {"levels": 2})


def publish(lake, thing, content, recipe=RECIPE):
    with lake.writing(thing):
        with lake.draft(thing) as path:
            path.write_bytes(content)
        return lake.publish(thing, recipe, counts={"rows": 1}, started=datetime.now(UTC))


def test_a_thing_exists_when_its_manifest_does(root):
    lake = Lake(root)
    with lake.writing(TABLE):
        with lake.draft(TABLE) as path:
            path.write_bytes(b"half")
        assert lake.manifest(TABLE) is None
        assert lake.published("qc") == []
        assert lake.unpublished("qc") == [TABLE]
    publish(lake, TABLE, b"whole")
    assert lake.published("qc") == [TABLE]
    assert lake.unpublished("qc") == []
    assert lake.is_current(TABLE, RECIPE)
    assert lake.read_bytes(TABLE) == b"whole"
    with lake.fetched(TABLE) as path:
        assert path.read_bytes() == b"whole"
    with lake.opened(TABLE) as file:
        file.seek(2)
        assert file.read(3) == b"ole"
    with pytest.raises(FileNotFoundError), lake.opened(plate_image(KEY)):
        pass


def test_a_manifest_holds_the_digest_of_each_file(root):
    lake = Lake(root)
    image = plate_image(KEY)
    with lake.writing(image):
        with lake.draft(image, "A/01") as folder:
            (folder / "1").mkdir(parents=True)
            (folder / "1" / "zarr.json").write_bytes(b"{}")
        with lake.draft(image, "zarr.json") as path:
            path.write_bytes(b"[]")
        manifest = lake.publish(image, RECIPE, counts={}, started=datetime.now(UTC))
    assert manifest.files == {
        "A/01/1/zarr.json": digest_bytes(b"{}"),
        "zarr.json": digest_bytes(b"[]"),
    }
    assert lake.manifest(image) == manifest
    assert lake.digest_files(image) == manifest.files
    assert lake.read_bytes(image, "A/01/1/zarr.json") == b"{}"
    with lake.fetched(image, "A/01") as folder:
        assert [p.relative_to(folder).as_posix() for p in folder.rglob("*.json")] == ["1/zarr.json"]


def test_a_file_that_the_stage_wrote_and_that_is_lost_or_changed_stops_the_stage(root):
    lake, image = Lake(root), plate_image(KEY)
    with lake.writing(image):
        with lake.draft(image, "zarr.json") as path:
            path.write_bytes(b"[]")
        known = {"zarr.json": digest_bytes(b"[]")}
        with pytest.raises(OSError, match=r"expected A/zarr\.json in .*Plate3\.zarr as drafted"):
            lake.publish(
                image,
                RECIPE,
                counts={},
                started=datetime.now(UTC),
                files=known | {"A/zarr.json": digest_bytes(b"{}")},
            )
        assert lake.manifest(image) is None
        done = lake.publish(image, RECIPE, counts={}, started=datetime.now(UTC), files=known)
    assert done.files == known


def test_writing_anew_unpublishes_first(root):
    lake = Lake(root)
    publish(lake, TABLE, b"old")
    with lake.writing(TABLE):
        assert lake.manifest(TABLE) is None
        assert lake.data("qc") == []


def test_an_error_while_drafting_is_not_lost_and_publishes_nothing(root):
    lake = Lake(root)
    with pytest.raises(FileNotFoundError), lake.writing(TABLE), lake.draft(TABLE) as path:
        (path / "not" / "there").write_bytes(b"half")
    assert lake.data("qc") == []
    publish(lake, TABLE, b"whole")


def test_a_lake_goes_to_workers(root):
    lake = Lake(root, run_id="run-7")
    publish(lake, TABLE, b"whole")
    there = pickle.loads(pickle.dumps(lake))  # noqa: S301
    assert (there.root, there.run_id) == (lake.root, "run-7")
    assert there.manifest(TABLE) == lake.manifest(TABLE)


def test_what_is_not_there_is_said(root):
    lake = Lake(root)
    assert lake.manifest(TABLE) is None
    assert lake.published("qc") == []
    with pytest.raises(FileNotFoundError):
        lake.read_bytes(TABLE)
    with pytest.raises(InputError, match=r"expected qc/HUVEC-1/Plate3\.parquet in .*: ingest it"):
        lake.require(TABLE, remedy="ingest it")


def test_two_runs_cannot_write_one_thing(root):
    lake = Lake(root)
    with lake.writing(TABLE):
        assert not lake.is_free(TABLE)
        with pytest.raises(InputError, match=r"only run that writes qc/HUVEC-1/Plate3\.parquet"):
            publish(Lake(root), TABLE, b"x")
        publish(Lake(root), qc_table(PlateKey("HUVEC-1", "Plate4")), b"x")
    assert lake.is_free(TABLE)
    publish(lake, TABLE, b"x")


def hold(root, held):
    with Lake(root).writing(TABLE):
        held.set()
        signal.pause()


def test_a_run_that_was_killed_blocks_nobody(tmp_path):
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


def test_an_input_published_anew_while_a_stage_reads_it_stops_the_stage(root):
    lake = Lake(root)
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


def test_a_browser_finds_a_thing(tmp_path):
    assert Lake(tmp_path).link(TABLE) == Path(tmp_path, TABLE.path).as_uri()
    link = Lake("gs://lake/prefix").link(TABLE)
    assert link == f"https://storage.cloud.google.com/lake/prefix/{TABLE.path}"


def test_another_kind_of_root_is_refused_in_words():
    with pytest.raises(InputError, match=r"local folder or gs://bucket/prefix as root, found s3:"):
        Lake("s3://bucket/prefix")


parameters = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4)


@given(parameters)
def test_a_key_depends_on_what_is_said_not_on_the_order(chosen):
    backwards = dict(reversed(chosen.items()))
    assert Recipe("s", 1, {}, chosen).key == Recipe("s", 1, {}, backwards).key
    assert Recipe("s", 2, {}, chosen).key != Recipe("s", 1, {}, chosen).key
