"""Scans at given times: nothing here waits."""

import os
import shutil
import time

import numpy as np
import pytest
import tifffile

from phenopipe import compute
from phenopipe.config import IngestConfig
from phenopipe.errors import InputError
from phenopipe.ingest import detect, ingest_plate
from phenopipe.ingest.arrival import Arrival, judge_arrival
from phenopipe.ingest.landing import read_landed, take_snapshot
from phenopipe.ingest.watch import ingest_sighting, scan_landing
from phenopipe.lake import Lake, ledger, plate_image
from phenopipe.plates import PlateKey

HOUR = 3600.0


@pytest.fixture(scope="module")
def client():
    with compute.client("threads", workers=1) as one:
        yield one


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "landing"
    folder.mkdir()
    return folder


@pytest.fixture
def scan(source, lake):
    """Scan as if so many seconds had passed since the files were written."""

    def scan(*, later_s=HOUR, **options):
        return scan_landing(source, lake, now_s=time.time() + later_s, **options)

    return scan


@pytest.fixture
def ingest(lake, client):
    def ingest(sighting):
        return ingest_sighting(sighting, lake, client=client, config=IngestConfig())

    return ingest


def write_plate(source, name="Batch1/Plate1", *, wells=("B02", "B03")):
    folder = source / name
    (folder / "TimePoint_1").mkdir(parents=True)
    rng = np.random.default_rng(len(name))
    for well in wells:
        for wave in (1, 2):
            image = rng.integers(100, 300, (40, 50)).astype("uint16")
            image[10:20, 10:30] += 2000
            tifffile.imwrite(folder / f"TimePoint_1/{folder.name}_{well}_s1_w{wave}.TIF", image)
    return folder


def image_of(folder, well="B02", wave=1):
    return folder / f"TimePoint_1/{folder.name}_{well}_s1_w{wave}.TIF"


def states(sightings):
    return {str(one.key or one.folder.name): one.state for one in sightings}


def rewrite(path, value=7):
    """Give a file other bytes of the same length, and the same time."""
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[-100] ^= value
    path.write_bytes(bytes(content))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


@pytest.mark.parametrize(
    ("arrival", "quiet_s", "state"),
    [
        # All that was promised is there: a minute of quiet is enough.
        (Arrival(found=9, expected=9), 61, "complete"),
        (Arrival(found=9, expected=9), 5, "arriving"),
        # The clock of the folder's machine is ahead of ours.
        (Arrival(found=9, expected=9), -120, "arriving"),
        # More than was promised is no reason to wait.
        (Arrival(found=10, expected=9), 61, "complete"),
        # Something lacks, or has no content yet: only quiet makes it complete.
        (Arrival(found=8, expected=9), 1000, "arriving"),
        (Arrival(found=9, empty=1, expected=9), 1000, "arriving"),
        (Arrival(found=9, lacking=1, expected=9), 1000, "arriving"),
        (Arrival(found=8, expected=9), 1800, "complete"),
        (Arrival(found=9), 1000, "arriving"),
        (Arrival(found=9), 1800, "complete"),
    ],
)
def test_a_plate_is_complete_when_its_promise_is_kept_or_it_is_quiet(arrival, quiet_s, state):
    assert judge_arrival(arrival, quiet_s=quiet_s, quiet_minutes=30)[0] == state


def test_a_landing_zone_with_nothing_in_it_is_quiet(scan):
    assert scan() == []


def test_a_source_that_is_not_there_is_refused(tmp_path, lake):
    with pytest.raises(InputError, match="nowhere"):
        scan_landing(tmp_path / "nowhere", lake)


def test_a_plate_is_ingested_once_it_is_quiet_and_only_once(source, scan, ingest, lake):
    write_plate(source)
    (arriving,) = scan(later_s=60)
    assert (arriving.state, arriving.why) == ("arriving", "4 images, last change 1 min ago")
    (complete,) = scan()
    assert (complete.state, complete.why) == ("complete", "4 images, unchanged for 60 min")
    assert ingest(complete).state == "ingested"
    assert lake.manifest(plate_image(PlateKey("Batch1", "Plate1")))
    before = {p: p.stat().st_mtime_ns for p in (source.parent / "lake").rglob("*.json")}
    (known,) = scan()
    assert (known.state, str(known.key)) == ("ingested", "Batch1/Plate1")
    assert before == {p: p.stat().st_mtime_ns for p in (source.parent / "lake").rglob("*.json")}


def test_a_real_index_that_promises_its_images_decides_before_quiet_does(shared, source, scan):
    folder = source / "Batch1/BR00121482"
    shutil.copytree(shared("plates/harmony/Version1"), folder)
    image = next(folder.rglob("*ch2*.tiff"))
    content = image.read_bytes()
    image.unlink()
    (sighting,) = scan(later_s=300)
    assert (sighting.state, sighting.why[:15]) == ("arriving", "5 of 6 images, ")
    image.write_bytes(b"")
    assert scan(later_s=300)[0].why.startswith("5 of 6 images, 1 empty")
    image.write_bytes(content)
    assert scan(later_s=5)[0].state == "arriving"
    (sighting,) = scan(later_s=300)
    assert (sighting.state, sighting.why) == ("complete", "6 of 6 images")


def test_a_copy_that_keeps_old_times_is_not_quiet(source, scan):
    """As robocopy and rsync leave it: the content's time is old, and the copy is going on."""
    folder = write_plate(source)
    for path in folder.rglob("*.TIF"):
        os.utime(path, (1e9, 1e9))
    assert scan(later_s=60)[0].state == "arriving"


def test_images_that_lack_are_waited_for_and_counted(source, scan):
    folder = write_plate(source)
    image_of(folder).unlink()
    (source / "Batch1/platemap.csv").write_text("well,gene\nB02,TP53\nB03,RB1\nB04,MYC\n")
    (sighting,) = scan()
    assert sighting.state == "complete"
    assert sighting.why.endswith("1 wells of the platemap lack images (B04)")


def test_one_bad_folder_never_stops_the_others(source, scan, ingest):
    write_plate(source, "Batch1/Good")
    twice = write_plate(source, "Batch1/Twice")
    shutil.copy(image_of(twice), str(image_of(twice)).replace("_w1", "_w01"))
    unknown = source / "Batch1/Unknown"
    unknown.mkdir()
    (unknown / "picture.tif").write_bytes(b"x")
    torn = write_plate(source, "Batch1/Torn")
    for path in torn.rglob("*.TIF"):
        path.write_bytes(b"torn")
    found = scan()
    assert states(found) == {
        "Batch1/Good": "complete",
        "Batch1/Torn": "complete",
        "Twice": "refused",
        "Unknown": "refused",
    }
    why = {one.folder.name: one.why for one in found}
    assert "expected one file for" in why["Twice"]
    assert "found no file named like one" in why["Unknown"]
    done = [ingest(one) for one in found if one.state == "complete"]
    assert states(done) == {"Batch1/Good": "ingested", "Batch1/Torn": "failed"}
    # Half-written folders are not refused before they are quiet.
    assert set(states(scan(later_s=60)).values()) == {"arriving", "ingested"}


def test_a_folder_that_cannot_be_read_is_named(source, scan, monkeypatch):
    write_plate(source)
    locked = source / "Batch1/Locked"
    locked.mkdir()
    real = os.scandir

    def scandir(path):
        if "Locked" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    # Root may read any folder, so that no test can lock one.
    monkeypatch.setattr(os, "scandir", scandir)
    found = {one.folder.name: one for one in scan()}
    assert (found["Plate1"].state, found["Locked"].state) == ("complete", "refused")
    assert "Permission denied" in found["Locked"].why


def test_a_fault_in_somebodys_layout_costs_the_plate_that_meets_it(source, scan, monkeypatch):
    class Faulty:
        name = "faulty"

        def recognise(self, folder):
            return {"Plate1": "mine"}[folder.name] if folder.name.startswith("Plate") else None

        def read(self, folder):
            raise ZeroDivisionError(folder)

    layouts = detect.find_layouts() | {"faulty": Faulty()}
    monkeypatch.setattr(detect, "find_layouts", lambda: layouts)
    write_plate(source, "Batch1/Plate1")
    write_plate(source, "Batch1/Plate2")
    write_plate(source, "Batch1/Good")
    found = {one.folder.name: one for one in scan()}
    assert {name: one.state for name, one in found.items()} == {
        "Good": "complete",
        "Plate1": "refused",
        "Plate2": "refused",
    }
    assert "expected one layout to fit" in found["Plate1"].why
    assert "a fault of the software (KeyError: 'Plate2')" in found["Plate2"].why


def test_a_delivery_with_other_files_is_told_and_never_mixed_in(source, scan, ingest, lake):
    folder = write_plate(source)
    ingest(scan()[0])
    key = lake.manifest(ledger(PlateKey("Batch1", "Plate1"))).key
    rewrite(image_of(folder))
    image_of(folder, "B03").unlink()
    shutil.copy(image_of(folder, "B03", 2), image_of(folder, "B04", 2))
    (sighting,) = scan(later_s=60)
    assert (sighting.state, sighting.why) == ("arriving", "published already, and still changing")
    (changed,) = scan()
    assert changed.state == "changed"
    assert changed.why.startswith("1 file changed, 1 gone, 1 new (TimePoint_1/Plate1_B02_s1_w1.TIF")
    assert "--replace" in changed.why
    assert lake.manifest(ledger(PlateKey("Batch1", "Plate1"))).key == key


def test_what_was_said_of_a_changed_plate_stands_until_somebody_acts(
    source, scan, ingest, lake, client
):
    folder = write_plate(source)
    ingest(scan()[0])
    rewrite(image_of(folder))
    changed = scan()
    assert scan(before=changed) == changed
    ingest_plate(folder, lake, client=client, replace=True)
    assert scan(before=changed)[0].state == "ingested"


def test_the_same_bytes_copied_anew_are_the_same_delivery(source, scan, ingest, lake):
    folder = write_plate(source)
    ingest(scan()[0])
    for path in folder.rglob("*.TIF"):
        path.touch()
    (folder / "Thumbs.db").write_bytes(b"x")
    assert states(scan()) == {"Batch1/Plate1": "ingested"}
    (landed,) = read_landed(lake)
    assert landed.digest == take_snapshot(folder).digest


def test_a_plate_ingested_by_hand_is_known_by_its_content(source, scan, lake, client):
    folder = write_plate(source)
    ingest_plate(folder, lake, client=client)
    assert states(scan()) == {"Batch1/Plate1": "ingested"}
    assert [one.folder for one in read_landed(lake)] == [folder]


def test_a_plate_that_was_taken_out_of_the_lake_is_ingested_anew(source, scan, ingest, lake):
    write_plate(source)
    ingest(scan()[0])
    lake.clear(plate_image(PlateKey("Batch1", "Plate1")))
    assert states(scan()) == {"Batch1/Plate1": "complete"}


def test_a_renamed_folder_is_told_and_not_ingested_twice(source, scan, ingest):
    folder = write_plate(source)
    ingest(scan()[0])
    folder.rename(folder.with_name("Renamed"))
    (sighting,) = scan()
    assert sighting.state == "changed"
    assert sighting.why.startswith("has the files of Batch1/Plate1, whose folder")


def test_a_landing_zone_that_moved_is_the_same(source, scan, ingest, lake, tmp_path):
    write_plate(source)
    ingest(scan()[0])
    moved = source.rename(tmp_path / "moved")
    (sighting,) = scan_landing(moved, lake, now_s=time.time() + HOUR)
    assert sighting.state == "ingested"
    assert [one.folder for one in read_landed(lake)] == [moved / "Batch1/Plate1"]


def test_two_folders_of_one_name_are_refused_both(source, scan):
    write_plate(source, "a/Batch1/Plate1")
    write_plate(source, "b/Batch1/Plate1")
    found = scan()
    assert [one.state for one in found] == ["refused", "refused"]
    assert "expected one folder for Batch1/Plate1" in found[0].why


def test_a_platemap_that_comes_later_or_is_corrected_is_published(source, scan, ingest, lake):
    write_plate(source)
    write_plate(source, "Batch1/Plate2")
    for one in scan():
        ingest(one)
    table = source / "Batch1/platemap.csv"
    table.write_text("plate,well,gene\nPlate1,B02,TP53\n")
    assert states(scan()) == {"Batch1/Plate1": "complete", "Batch1/Plate2": "ingested"}
    image = lake.manifest(plate_image(PlateKey("Batch1", "Plate1")))
    for one in scan():
        if one.state == "complete":
            assert ingest(one).why.startswith("4 files")
    assert lake.manifest(plate_image(PlateKey("Batch1", "Plate1"))) == image
    assert set(states(scan()).values()) == {"ingested"}
    table.unlink()
    assert set(states(scan()).values()) == {"ingested"}


def test_a_lake_inside_the_landing_zone_is_passed_over(source, client):
    lake = Lake(source / "lake")
    folder = write_plate(source)
    ingest_plate(folder, lake, client=client)
    assert states(scan_landing(source, lake, now_s=time.time() + HOUR)) == {
        "Batch1/Plate1": "ingested"
    }


def test_a_failed_plate_is_tried_again_once_it_looks_otherwise(source, scan, ingest):
    folder = write_plate(source)
    whole = {path: path.read_bytes() for path in folder.rglob("*.TIF")}
    for path in whole:
        path.write_bytes(b"torn")
    failed = [ingest(one) for one in scan()]
    assert states(failed) == {"Batch1/Plate1": "failed"}
    assert scan(before=failed) == failed
    for path, content in whole.items():
        path.write_bytes(content)
    assert states(scan(before=failed)) == {"Batch1/Plate1": "complete"}
