"""What arrives is what was sent, whatever happens on the way."""

import multiprocessing
import os
import re
import signal
import time
from pathlib import Path

import pytest
from emulator import Fault

from phenopipe.catalogue import describe_lake, sweep_lake, verify_lake
from phenopipe.errors import InputError
from phenopipe.lake import Lake, bucket, drift, embeddings, model_folder, plate_image, qc_table
from phenopipe.transfer import Pace, Selection, pack_experiment, send_shipment
from tests.transfer.lakes import (
    PLATES,
    fill,
    publish,
    publish_drift,
    publish_model,
    publish_plate,
    read_all,
    send_all,
)

IMAGE = plate_image(PLATES[0])


@pytest.fixture
def folders(tmp_path):
    return fill(Lake(tmp_path / "a")), Lake(tmp_path / "b")


def test_what_arrives_is_what_was_sent(lakes):
    source, target = lakes
    before = read_all(source)
    shipped = send_all(source, target)
    assert read_all(target) == read_all(source) == before
    assert verify_lake(target) == []
    assert {entry.state for entry in describe_lake(target)} == {"published"}
    assert [(one.parcels, one.sent, one.left) for one in shipped.values()] == [
        (1, 1, {}),
        (2, 2, {}),
        (1, 1, {}),
    ]
    sent = [file for thing in list_published(source) for file in list_bytes(source, thing)]
    assert sum(one.bytes for one in shipped.values()) == sum(sent)
    assert sum(one.files for one in shipped.values()) == len(sent)


def list_published(lake):
    kinds = ("images", "qc", "platemaps", "embeddings", "models")
    return [thing for kind in kinds for thing in lake.published(kind)]


def list_bytes(lake, thing):
    names = lake.manifest(thing).files
    return [len(lake.read_bytes(thing, "" if name == "." else name)) for name in names]


def test_what_is_there_is_not_sent_again(bucket_root, tmp_path, emulator):
    source, target = fill(Lake(tmp_path)), Lake(bucket_root)
    send_all(source, target)
    emulator.count()
    shipped = send_all(source, target)
    assert {one.files for one in shipped.values()} == {0}
    assert {one.sent for one in shipped.values()} == {0}
    assert emulator.count().keys() == {"GET"}, "nothing is written, not even a lock"


def break_at(monkeypatch, n_files):
    """Have a transfer break off when so many files have arrived."""
    arrived = []
    receive = Lake.receive

    def break_off(lake, thing, name, source, **checks):
        if len(arrived) == n_files:
            raise KeyboardInterrupt
        receive(lake, thing, name, source, **checks)
        arrived.append((thing, name))

    monkeypatch.setattr(Lake, "receive", break_off)
    return arrived


@pytest.mark.parametrize("n_files", [0, 11])
def test_a_transfer_that_broke_off_goes_on_where_it_was(lakes, n_files, monkeypatch):
    source, target = lakes
    monkeypatch.setattr("phenopipe.transfer.send._PARCELS_AT_ONCE", 1)
    monkeypatch.setattr("phenopipe.transfer.send._FILES_AT_ONCE", 1)
    with monkeypatch.context() as patch:
        arrived = break_at(patch, n_files)
        with pytest.raises(KeyboardInterrupt):
            send_all(source, target)
    assert verify_lake(target) == [], "only what is whole is published"
    shipped = send_all(source, target)
    assert read_all(target) == read_all(source)
    total = sum(len(source.manifest(thing).files) for thing in list_published(source))
    assert sum(one.files for one in shipped.values()) == total - len(arrived)


def send_slowly(source, target):
    send_all(Lake(source), Lake(target), pace=Pace(20_000))


def test_a_transfer_that_was_killed_goes_on_where_it_was(folders):
    source, target = folders
    spawn = multiprocessing.get_context("spawn")
    killed = spawn.Process(target=send_slowly, args=(source.root, target.root))
    killed.start()
    image = Path(target.root, IMAGE.path)
    while len([path for path in image.rglob("*") if path.is_file()]) < 3:
        assert killed.is_alive()
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert target.manifest(IMAGE) is None
    # As a run leaves it that is killed while it writes.
    (image / "zarr.json.part").write_bytes(b"{")
    Path(target.root, f"{embeddings('vit', PLATES[0])}.part").parent.mkdir(parents=True)
    Path(target.root, f"{embeddings('vit', PLATES[0])}.part").write_bytes(b"half")
    send_all(source, target)
    assert read_all(target) == read_all(source)


def test_a_transfer_that_is_given_up_is_swept(folders, monkeypatch):
    source, target = folders
    with monkeypatch.context() as patch:
        break_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            send_all(source, target)
    half = Path(target.root, f"{qc_table(PLATES[2])}.part")
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_bytes(b"half")
    sweep_lake(target)
    assert {entry.state for entry in describe_lake(target)} <= {"published"}
    assert set(read_all(target)) <= set(read_all(source))


def test_half_of_it_there_with_other_bytes_is_put_right(lakes):
    source, target = lakes
    for name, content in {"zarr.json": b"[]", "B/02/stray": b"x", "A/01/empty": b""}.items():
        with target.draft(IMAGE, name) as path:
            path.write_bytes(content)
    shipped = send_all(source, target)
    assert read_all(target) == read_all(source)
    files = sum(
        len(source.manifest(thing).files)
        for thing in list_published(source)
        if "HUVEC-1" in thing.path
    )
    assert shipped["HUVEC-1"].files == files - 1, "the empty file was right already"


def test_one_damaged_plate_does_not_stop_the_others(lakes):
    source, target = lakes
    with source.draft(IMAGE, "zarr.json") as path:
        path.write_bytes(b"[ ]")
    source.remove_file(plate_image(PLATES[2]), "A/01/empty")
    shipped = send_all(source, target)
    why = shipped["HUVEC-1"].failed["HUVEC-1/P1"]
    assert re.search(r"expected .*zarr\.json as it was .*, found other bytes", why)
    assert "expected A/01/empty in" in shipped["U2OS-1"].failed["U2OS-1/P1"]
    assert target.published("images") == [plate_image(PLATES[1])]
    assert (shipped["HUVEC-1"].parcels, shipped["HUVEC-1"].sent) == (2, 1)


def test_what_differs_there_is_refused_unless_it_is_to_give_way(lakes):
    source, target = lakes
    send_all(source, target)
    publish(target, qc_table(PLATES[0]), {".": b"judged there"}, version=2)
    publish_plate(source, PLATES[1], version=2)
    before = read_all(target)
    shipped = send_all(source, target)
    assert shipped["HUVEC-1"].refused.keys() == {"HUVEC-1/P1", "HUVEC-1/P2"}
    assert (
        "found it made of other inputs or settings: leave it, or let the source's take"
        in (shipped["HUVEC-1"].refused["HUVEC-1/P1"])
    )
    assert read_all(target) == before, "nothing of a plate is sent where a part differs"
    shipped = send_all(source, target, replace=True)
    assert read_all(target) == read_all(source)
    # P1's table, and of P2's files those that changed.
    assert shipped["HUVEC-1"].files == 1 + 1 + 4


def test_a_version_of_a_model_never_changes(folders):
    source, target = folders
    publish_model(target, card=b'{"parity": "measured there"}')
    assert send_all(source, target)["models"].left == {}
    assert target.read_bytes(model_folder("vit", "1"), "card.json") == (
        b'{"parity": "measured there"}'
    )
    publish_model(target, graph=b"another graph")
    refused = send_all(source, target, replace=True)["models"].refused
    assert "found another graph: a version never changes" in refused["models/vit/1"]


def test_a_plate_that_another_run_writes_there_is_left_alone(lakes, monkeypatch):
    source, target = lakes
    monkeypatch.setattr(bucket, "LEASE_S", 1.2)
    with target.holding(IMAGE):
        shipped = send_all(source, target)
    assert "only run that writes images/HUVEC-1/P1.zarr" in shipped["HUVEC-1"].refused["HUVEC-1/P1"]
    assert target.manifest(IMAGE) is None
    assert target.manifest(plate_image(PLATES[1])) is not None
    send_all(source, target)
    assert read_all(target) == read_all(source)


def test_a_plate_that_is_published_anew_meanwhile_is_not_mixed(lakes, monkeypatch):
    source, target = lakes
    receive = Lake.receive

    def publish_meanwhile(lake, thing, name, origin, **checks):
        receive(lake, thing, name, origin, **checks)
        if thing == IMAGE and source.manifest(embeddings("vit", PLATES[0])):
            source.clear(embeddings("vit", PLATES[0]))
            publish_plate(source, PLATES[0], version=2)

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "receive", publish_meanwhile)
        patch.setattr("phenopipe.transfer.send._FILES_AT_ONCE", 1)
        shipped = send_all(source, target)
    assert shipped["HUVEC-1"].failed.keys() == {"HUVEC-1/P1"}
    assert target.manifest(IMAGE) is None
    send_all(source, target, replace=True)
    assert read_all(target) == read_all(source)


@pytest.mark.parametrize("name", ["../../stolen", "/stolen", "A//b", "A/./b", "A\\b", ""])
def test_no_name_leads_out_of_the_lake(folders, name):
    source, target = folders
    manifest = source.manifest(IMAGE)
    evil = manifest.model_copy(update={"files": manifest.files | {name: "00"}})
    Path(source.root, IMAGE.manifest).write_text(evil.model_dump_json())
    shipped = send_all(source, target)
    why = shipped["HUVEC-1"].left["HUVEC-1/P1"]
    assert "expected" in why
    assert target.manifest(IMAGE) is None
    assert not list(Path(target.root).parent.rglob("*stolen*"))
    with pytest.raises(InputError, match="tampered with"):
        target.receive(IMAGE, name, source, size=1, digest="00")


def test_plates_are_compared_there_once_all_of_them_are(folders):
    source, target = folders
    publish_drift(source, "HUVEC-1", PLATES[:2])
    one = pack_experiment(source, "HUVEC-1", Selection(plates=("P1",)))
    assert send_shipment(source, target, one).parcels == 1
    assert target.published("drift") == []
    assert send_all(source, target)["HUVEC-1"].parcels == 3
    assert target.published("drift") == [drift("HUVEC-1")]
    assert read_all(target) == read_all(source)


FAULTS = {
    "busy at an upload": Fault("503", "POST", "uploadType=multipart", times=2),
    "torn in an upload": Fault("torn", "POST", "uploadType=multipart"),
    "the answer to a manifest lost": Fault("unanswered", "POST", "P1.zarr.json"),
    "half an answer to a listing": Fault("half", "GET", "prefix="),
    "half a download": Fault("half", "GET", "alt=media", times=2),
    "busy at a download": Fault("429", "GET", "alt=media"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_bad_line_loses_nothing(fault, tmp_path, bucket_root, emulator, monkeypatch):
    # So that gcsfs waits 0.05 s, then 1.05 s, before it tries again; the lake likewise.
    monkeypatch.setattr("random.random", lambda: -0.95)
    monkeypatch.setattr(bucket, "_WAITS_S", (0.05, 0.05))
    here, there, back = Lake(tmp_path / "a"), Lake(bucket_root), Lake(tmp_path / "b")
    publish_plate(here, PLATES[0])
    emulator.faults.append(fault)
    send_all(here, there)
    send_all(there, back)
    assert fault.times == 0, "the fault must have happened"
    assert read_all(back) == read_all(here)


def test_a_lake_is_not_sent_to_itself(folders, tmp_path):
    source, _ = folders
    (tmp_path / "link").symlink_to(source.root)
    with pytest.raises(InputError, match=r"expected two lakes, found .*link as both"):
        send_all(source, Lake(tmp_path / "link"))


def test_progress_counts_files(folders):
    source, target = folders
    publish_drift(source, "HUVEC-1", PLATES[:2])
    plates = pack_experiment(source, "HUVEC-1", Selection())
    seen = []
    send_shipment(source, target, plates, on_progress=lambda *told: seen.append(told))
    done = [done for done, _ in seen]
    assert done == sorted(done)
    assert {total for done, total in seen if done < 18} == {18}, "nine files a plate"
    assert seen[-1] == (19, 19), "and the table of both"
