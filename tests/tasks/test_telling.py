"""What is told beside a run's state; no server is needed for this, and none is started."""

from pathlib import Path

import httpx
import pytest

from phenopipe.ingest.arrival import Sighting
from phenopipe.ingest.landing import Snapshot, take_snapshot
from phenopipe.plates import PlateKey
from tasks.telling import report_overdue, tell

HOUR_NS = 3600 * 10**9


def see(plate, *, state="arriving", began_h, key=True):
    folder = Path("/landing/Batch 1", plate)
    snapshot = Snapshot({"w1.tif": (1, 0)}, changed_ns=0, began_ns=int(began_h * HOUR_NS))
    named = PlateKey("Batch-1", plate) if key else None
    return Sighting(folder, state, "8 of 9 images", named, snapshot)


def test_plates_that_take_too_long_to_arrive_are_told():
    seen = [
        see("slow", began_h=1),
        see("fresh", began_h=90),
        see("waiting", began_h=1, state="complete"),
        see("unreadable yet", began_h=1, key=False),
        Sighting(Path("/landing/x"), "refused", "no plate"),
    ]
    told = report_overdue(seen, hours=24, now_s=100 * 3600)
    assert told == [PlateKey("Batch-1", "slow"), PlateKey("Batch-1", "unreadable-yet")]


def test_a_plate_began_when_its_first_file_came(tmp_path):
    first = tmp_path / "w1.tif"
    first.write_bytes(b"1")
    came_ns = first.stat().st_ctime_ns
    (tmp_path / "w2.tif").write_bytes(b"2")
    assert take_snapshot(tmp_path).began_ns == came_ns


@pytest.mark.parametrize("error", [httpx.ConnectError("down"), OSError("stale file handle")])
def test_what_cannot_be_told_does_not_end_the_run(error, caplog):
    with tell("the QC of E/P"):
        raise error
    assert "the QC of E/P could not be told" in caplog.text


def test_a_bug_in_telling_is_raised():
    with pytest.raises(ZeroDivisionError), tell("the QC of E/P"):
        raise ZeroDivisionError
