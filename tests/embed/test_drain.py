"""Runs in any thread of a process that is told to end publish what they have in hand."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from phenopipe.config import EmbedConfig
from phenopipe.embed import drain, embed_plate, end_all
from phenopipe.lake import embeddings
from tests.embed.conftest import KEY

WELLS = tuple(f"{row}{column:02d}" for row in "AB" for column in range(1, 7))
SMALL = EmbedConfig(crop=32)
THING = embeddings("classical", KEY)


@pytest.fixture(autouse=True)
def _process(monkeypatch):
    """What is told to a process lasts until its end; here, until the test's."""
    monkeypatch.setattr(drain, "_ending", threading.Event())


def test_a_run_in_another_thread_publishes_and_ends_and_the_next_takes_it_up(
    plate, client, monkeypatch
):
    plate.wells = WELLS
    plate.publish()
    begun = threading.Event()

    def on_progress(done, _total):
        if done:
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(
            embed_plate, plate.lake, KEY, client=client, config=SMALL, on_progress=on_progress
        )
        assert begun.wait(60)
        assert end_all(within_s=60)
    assert run.exception().code == 128 + signal.SIGTERM
    assert plate.lake.manifest(THING) is None
    done = plate.fields_in_pieces()
    assert 0 < done < 24

    monkeypatch.setattr(drain, "_ending", threading.Event())
    seen = []
    embed_plate(
        plate.lake, KEY, client=client, config=SMALL, on_progress=lambda *now: seen.append(now)
    )
    assert seen[0] == (done, 24)


def test_a_run_that_begins_later_ends_at_once(plate, client):
    plate.publish()
    assert end_all(within_s=0)
    with pytest.raises(SystemExit):
        embed_plate(plate.lake, KEY, client=client, config=SMALL)
    assert plate.lake.published("embeddings") == plate.lake.published("pieces") == []


def test_what_is_published_is_given_though_the_process_ends(plate, client):
    plate.publish()
    embed_plate(plate.lake, KEY, client=client, config=SMALL)
    end_all(within_s=0)
    assert not embed_plate(plate.lake, KEY, client=client, config=SMALL).computed


def test_a_run_that_does_not_end_in_time_is_not_waited_for():
    with drain.drain_on_sigterm() as run:
        assert not run.is_asked()
        assert not end_all(within_s=0.01)
        assert run.is_asked()
