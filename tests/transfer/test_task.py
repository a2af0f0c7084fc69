"""How a transfer task ends, as Prefect sees it; no server is needed for this."""

import pytest

from phenopipe.lake import Lake, plate_image
from phenopipe.transfer import Selection
from tasks.transfer import transfer_experiment, transfer_models
from tests.transfer.lakes import PLATES, fill, publish_plate


@pytest.fixture
def lakes(tmp_path):
    return fill(Lake(tmp_path / "a")), Lake(tmp_path / "b")


def send(lakes, experiment="HUVEC-1"):
    ends = {"source": lakes[0].root, "target": lakes[1].root, "selection": Selection()}
    if experiment is None:
        return transfer_models.fn(**ends)
    return transfer_experiment.fn(experiment, **ends)


def test_what_was_sent_is_told_and_a_repeat_is_cached(lakes):
    done = send(lakes)
    assert (done.name, done.message) == ("Completed", "2 of 2 sent, 0.000 GB")
    assert (done.data.files, done.data.left) == (18, {})
    assert send(lakes).name == "Cached"
    assert [send(lakes, None).name for _ in range(2)] == ["Completed", "Cached"]


def test_what_can_pass_is_raised_once_all_else_is_sent(lakes):
    source, target = lakes
    source.remove_file(plate_image(PLATES[0]), "zarr.json")
    with pytest.raises(OSError, match=r"1 of 2 sent.* Not there: HUVEC-1/P1: expected zarr\.json"):
        send(lakes)
    assert target.published("images") == [plate_image(PLATES[1])]


def test_what_cannot_fails_at_once(lakes):
    source, target = lakes
    publish_plate(target, PLATES[0], version=2)
    state = send(lakes)
    assert state.is_failed()
    assert state.data.refused.keys() == {"HUVEC-1/P1"}
    same = send((source, source))
    assert (same.is_failed(), "expected two lakes" in same.message) == (True, True)
