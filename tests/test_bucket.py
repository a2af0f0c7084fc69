"""A lake in a bucket, while connections drop, the server is busy or slow, and runs are killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import pytest
from emulator import Fault

from phenopipe.catalogue import describe_lake, sweep_lake, verify_lake
from phenopipe.errors import InputError
from phenopipe.lake import Lake, Recipe, bucket, plate_image, qc_table, storage
from phenopipe.plates import PlateKey

KEY = PlateKey("HUVEC-1", "Plate3")
IMAGE, TABLE = plate_image(KEY), qc_table(KEY)
RECIPE = Recipe("ingest", 1, {}, {})
# Sent in one request; in parts, being larger than 8 MiB. A last byte of 13 is lost with gcsfs.
CONTENT = {"zarr.json": b"{}\r", "a/b": b"", "B/03/1/0/c/0/0/0": bytes(range(256)) * 40_000}


@pytest.fixture
def lake(bucket_root):
    return Lake(bucket_root)


def publish(lake, thing=IMAGE, content=CONTENT):
    with lake.writing(thing):
        for name, data in content.items():
            with lake.draft(thing, name) as path:
                path.write_bytes(data)
        return lake.publish(thing, RECIPE, counts={}, started=datetime.now(UTC))


def read(lake, thing=IMAGE):
    with lake.fetched(thing) as folder:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


FAULTS = {
    "busy at an upload": Fault("503", "POST", "uploadType=multipart", times=2),
    "torn in a small upload": Fault("torn", "POST", "uploadType=multipart"),
    "torn in a part of a large upload": Fault("torn", "POST", "upload_id"),
    "the session of a large upload lost": Fault("410", "POST", "upload_id"),
    "the answer to an upload lost": Fault("unanswered", "POST", "Plate3.zarr/zarr.json"),
    "the answer to the manifest lost": Fault("unanswered", "POST", "Plate3.zarr.json"),
    "the answer to the lease lost": Fault("unanswered", "POST", "Plate3.zarr.lock"),
    "half an answer to a listing": Fault("half", "GET", "prefix="),
    "half a download": Fault("half", "GET", "alt=media", times=2),
    "busy at a download": Fault("429", "GET", "alt=media"),
    "slow": Fault("slow", "POST", "upload", times=3, seconds=0.3),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_nothing_is_lost(lake, emulator, fault, monkeypatch):
    # So that gcsfs waits 0.05 s, then 1.05 s, before it tries again; the lake likewise.
    monkeypatch.setattr("random.random", lambda: -0.95)
    monkeypatch.setattr(bucket, "_WAITS_S", (0.05, 0.05))
    emulator.faults.append(fault)
    manifest = publish(lake)
    assert read(lake) == CONTENT
    assert fault.times == 0, "the fault must have happened"
    assert lake.manifest(IMAGE) == manifest
    assert verify_lake(lake) == []
    assert [entry.state for entry in describe_lake(lake)] == ["published"]
    assert lake.leftovers() == []


def test_what_does_not_pass_is_an_oserror_and_publishes_nothing(lake, emulator, monkeypatch):
    monkeypatch.setattr("random.random", lambda: -32.0)
    monkeypatch.setattr(bucket, "_WAITS_S", (0, 0))
    emulator.faults.append(Fault("503", "POST", "Plate3.zarr/zarr.json", times=1000))
    with pytest.raises(OSError, match=r"Plate3\.zarr/zarr\.json: HTTP 503"):
        publish(lake)
    emulator.faults.clear()
    assert lake.manifest(IMAGE) is None
    assert lake.is_free(IMAGE)
    publish(lake)


def test_a_silent_connection_is_given_up(lake, emulator, monkeypatch):
    timeout = bucket.aiohttp.ClientTimeout(sock_read=0.2)
    monkeypatch.setattr(bucket, "_TIMEOUT", timeout)
    emulator.faults.append(Fault("slow", "GET", "alt=media", seconds=1.0))
    publish(lake)
    assert read(Lake(f"{lake.root}/")) == CONTENT


def test_bytes_that_were_changed_under_way_are_never_read(lake, emulator, monkeypatch):
    monkeypatch.setattr(bucket, "_WAITS_S", (0, 0))
    publish(lake)
    name = f"{IMAGE.path}/zarr.json"
    key = f"{lake.root.removeprefix('gs://')}/{name}"
    emulator.storage._store.write_bytes(key, b"[]")
    with pytest.raises(OSError, match=r"zarr\.json as it was drafted, found other bytes"):
        read(lake)
    (entry,) = verify_lake(lake)
    assert entry.why == "zarr.json: has other bytes"


def test_objects_that_another_tool_put_there_are_read(lake):
    publish(lake)
    for found in lake._storage._find(IMAGE.path).values():
        lake._storage._gcs.setxattrs(found["name"], **{"blake3": None})
    assert read(lake) == CONTENT
    assert verify_lake(lake) == []


def test_a_listing_does_not_walk_the_shards(lake, emulator):
    for number in range(3):
        publish(lake, plate_image(PlateKey("HUVEC-1", f"Plate{number}")), {"a/b": b"", "c": b""})
    emulator.count()
    assert len(lake.published("images")) == 3
    assert emulator.count() == {"GET": 2}


def test_a_small_file_is_one_request_and_a_field_three(lake, emulator):
    publish(lake, IMAGE, {"B/03/1/0/zarr.json": b"{}", "B/03/1/0/c/0/0/0": b"0"})
    emulator.count()
    lake.read_bytes(IMAGE, "B/03/1/0/zarr.json")
    assert emulator.count() == {"GET": 1}
    with lake.fetched(IMAGE, "B/03/1/0"):
        assert emulator.count() == {"GET": 3}


@pytest.fixture
def short_leases(monkeypatch):
    monkeypatch.setattr(bucket, "LEASE_S", 1.2)


def write_and_wait(root, released, failed):
    lake = Lake(root)
    try:
        with lake.writing(TABLE):
            with lake.draft(TABLE) as path:
                path.write_bytes(b"of the first run")
            released.wait(30)
            lake.publish(TABLE, RECIPE, counts={}, started=datetime.now(UTC))
    except OSError as error:
        failed.append(str(error))


@pytest.mark.usefixtures("short_leases")
def test_a_lease_is_held_for_as_long_as_it_is_renewed(lake):
    with lake.writing(TABLE):
        time.sleep(3)
        assert not lake.is_free(TABLE)
        with pytest.raises(InputError, match="found another at it: wait for that run to end"):
            publish(lake, TABLE, {"": b"x"})


@pytest.mark.usefixtures("short_leases")
def test_a_run_that_lost_its_lease_does_not_publish(lake, monkeypatch):
    released, failed = threading.Event(), []
    with monkeypatch.context() as patch:
        patch.setattr("phenopipe.lake.lease.Lease._renew_on", lambda _: None)
        first = threading.Thread(target=write_and_wait, args=(lake.root, released, failed))
        first.start()
        while not lake.unpublished("qc"):
            time.sleep(0.05)
        time.sleep(2.5)
    second = publish(lake, TABLE, {"": b"of the second run"})
    released.set()
    first.join()
    assert "another run took it over" in failed[0]
    assert lake.manifest(TABLE) == second
    assert lake.read_bytes(TABLE) == b"of the second run"


def test_a_manifest_that_came_first_stays(lake):
    """The lease holds to the end as far as this run can tell, yet another run has published."""
    with lake.writing(TABLE):
        with lake.draft(TABLE) as path:
            path.write_bytes(b"x")
        other = lake._storage._gcs
        other.pipe_file(f"{lake.root}/{TABLE.manifest}", b"{}")
        with pytest.raises(OSError, match="found it put by another"):
            lake.publish(TABLE, RECIPE, counts={}, started=datetime.now(UTC))


@pytest.mark.usefixtures("short_leases")
def test_two_threads_wait_for_one_another(lake):
    inside, seen = [], []

    def take_turn():
        with lake.try_lock(TABLE, wait=True):
            inside.append(1)
            seen.append(len(inside))
            time.sleep(0.1)
            inside.pop()

    threads = [threading.Thread(target=take_turn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1, 1, 1, 1]


WRITE = """
import sys
from datetime import UTC, datetime
from phenopipe.lake import bucket
from phenopipe.lake import Lake, Recipe, plate_image
from phenopipe.plates import PlateKey
bucket.LEASE_S = 1.2
lake, image = Lake(sys.argv[1]), plate_image(PlateKey("HUVEC-1", "Plate3"))
with lake.writing(image):
    for number in range(8):
        with lake.draft(image, f"B/03/{number}") as path:
            path.write_bytes(bytes(10_000_000))
    lake.publish(image, Recipe("ingest", 1, {}, {}), counts={}, started=datetime.now(UTC))
"""


def start_writing(lake):
    started = subprocess.Popen([sys.executable, "-c", WRITE, lake.root])
    while len(lake._storage.list_files(IMAGE.path)) < 2:
        assert started.poll() is None
        time.sleep(0.05)
    return started


@pytest.mark.usefixtures("short_leases")
def test_a_run_killed_while_it_uploads_leaves_nothing_that_is_read(lake, emulator):
    emulator.faults.append(Fault("slow", "POST", "upload_id", times=100, seconds=0.2))
    killed = start_writing(lake)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    emulator.faults.clear()
    assert lake.published("images") == []
    assert [entry.state for entry in describe_lake(lake)] == ["half-written"]
    assert sweep_lake(lake) == []
    time.sleep(2.5)
    lock = f".locks/{IMAGE.path}.lock"
    assert sweep_lake(lake, dry_run=True) == [lock, IMAGE.path]
    assert sweep_lake(lake) == [lock, IMAGE.path]
    assert list(lake._storage._gcs.find(lake.root)) == []


@pytest.mark.usefixtures("short_leases")
def test_the_next_run_takes_over_from_one_that_was_killed(lake, emulator):
    emulator.faults.append(Fault("slow", "POST", "upload_id", times=100, seconds=0.2))
    killed = start_writing(lake)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    emulator.faults.clear()
    publish(lake)
    assert read(lake) == CONTENT
    assert verify_lake(lake) == []
    assert lake.leftovers() == []


def test_no_such_bucket_is_told():
    with pytest.raises(InputError, match=r"expected the bucket nowhere of root gs://nowhere/x"):
        Lake("gs://nowhere/x").published("qc")


@pytest.mark.parametrize("code", [401, 403])
def test_being_shut_out_is_told_with_what_to_do(lake, emulator, code):
    emulator.faults.append(Fault(str(code), "GET", lake.root.rsplit("/", 1)[1], times=9))
    with pytest.raises(InputError, match=r"let in to gs://.*application-default login"):
        lake.manifest(TABLE)


def test_a_bucket_without_gcsfs_says_what_to_install(monkeypatch, bucket_root):
    monkeypatch.setitem(sys.modules, "phenopipe.lake.bucket", None)
    monkeypatch.setattr(storage, "_open_bucket", storage._open_bucket.__wrapped__)
    with pytest.raises(InputError, match=r"pip install 'phenopipe\[gcp\]'"):
        Lake(bucket_root)
