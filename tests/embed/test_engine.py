"""What is embedded survives workers and runs that are shot, hang, or meet bad fields."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from phenopipe import compute
from phenopipe.catalogue import describe_lake
from phenopipe.config import EmbedConfig
from phenopipe.embed import duty, embed_plate
from phenopipe.embed.worker import read_ahead
from phenopipe.errors import InputError
from phenopipe.lake import embeddings
from phenopipe.plates import PlateKey
from tests.embed.graphs import FAILS, HANGS, add_model

PROJECT = Path(__file__).parents[2]
KEY = PlateKey("HUVEC-1", "Plate3")
WELLS = tuple(f"{row}{column:02d}" for row in "AB" for column in range(1, 7))
SMALL = EmbedConfig(crop=32)
THING = embeddings("classical", KEY)


def files(plate, thing=THING):
    return plate.lake.require(thing, remedy="").files


@pytest.fixture
def bytes_undisturbed(plate, client):
    """Embed a plate of 24 fields once, and take that away again."""
    plate.wells = WELLS
    plate.publish()
    embed_plate(plate.lake, KEY, client=client, config=SMALL)
    found = files(plate)
    plate.lake.clear(THING)
    return found


def end_at(fields):
    """Send this process SIGTERM once so many fields are done."""
    sent = []

    def on_progress(done, _total):
        if done >= fields and not sent:
            sent.append(done)
            os.kill(os.getpid(), signal.SIGTERM)

    return on_progress


def test_sigterm_ends_a_run_and_the_next_takes_it_up(plate, client, bytes_undisturbed, caplog):
    with pytest.raises(SystemExit) as ended:
        embed_plate(plate.lake, KEY, client=client, config=SMALL, on_progress=end_at(3))
    assert ended.value.code == 128 + signal.SIGTERM
    assert "ended by SIGTERM" in caplog.text
    assert plate.lake.manifest(THING) is None
    done = plate.fields_in_pieces()
    assert 3 <= done < 24

    seen = []
    embed_plate(
        plate.lake, KEY, client=client, config=SMALL, on_progress=lambda *now: seen.append(now)
    )
    assert seen[0] == (done, 24)
    assert files(plate) == bytes_undisturbed
    assert plate.lake.published("pieces") == []


def test_sigterm_does_again_what_it_did_after_the_run(plate, client):
    plate.publish()
    before = signal.getsignal(signal.SIGTERM)
    embed_plate(plate.lake, KEY, client=client, config=SMALL)
    assert signal.getsignal(signal.SIGTERM) == before


def test_another_platemap_leaves_the_pieces_as_they_are(plate, client):
    plate.wells = WELLS
    plate.publish()
    with pytest.raises(SystemExit):
        embed_plate(plate.lake, KEY, client=client, config=SMALL, on_progress=end_at(3))
    plate.publish_platemap([{"well": "A01", "perturbation": "TP53"}])
    seen = []
    embed_plate(
        plate.lake, KEY, client=client, config=SMALL, on_progress=lambda *now: seen.append(now)
    )
    assert seen[0][0] >= 3


def test_pieces_of_other_settings_go(plate, client, bytes_undisturbed):
    other = EmbedConfig(crop=32, stride=16)
    with pytest.raises(SystemExit):
        embed_plate(plate.lake, KEY, client=client, config=other, on_progress=end_at(3))
    assert plate.lake.published("pieces")
    embed_plate(plate.lake, KEY, client=client, config=SMALL)
    assert files(plate) == bytes_undisturbed
    assert plate.lake.published("pieces") == []


def test_a_field_that_fails_the_model_stops_the_plate_with_nothing_published(plate, client):
    plate.wells, plate.bright = WELLS, (("B03", 2),)
    plate.publish()
    add_model(plate.lake, FAILS, name="fails")
    with pytest.raises(InputError, match=r"found NaN or infinity"):
        embed_plate(plate.lake, KEY, model="fails", client=client)
    assert plate.lake.published("embeddings") == []
    assert plate.lake.published("pieces") == []


def test_a_field_that_hangs_its_worker_is_named_and_the_others_go_on(plate):
    plate.bright = (("A02", 1),)
    plate.publish()
    add_model(plate.lake, HANGS, name="hangs")
    hasty = EmbedConfig(patience_s=4.0)
    with compute.client("local", workers=2) as client:
        ref = embed_plate(plate.lake, KEY, model="hangs", client=client, config=hasty)
    assert ref.counts == {"crops": 20, "fields": 5, "fields_left_out": 0, "fields_skipped": 1}
    table = pq.read_table(plate.lake.path(embeddings("hangs", KEY)))
    rows = table.select(["well", "field"]).to_pylist()
    assert {(row["well"], row["field"]) for row in rows} == plate.pixels.keys() - {("A02", 1)}
    skipped = json.loads(table.schema.metadata[b"skipped_fields"])
    assert skipped == {"A02/1": "its worker died twice, or took longer than 4 s over it"}
    (entry,) = [e for e in describe_lake(plate.lake) if e.thing.startswith("embeddings/")]
    assert (entry.state, entry.why.split(";")[0]) == ("incomplete", "fields skipped: 1")


def test_a_worker_that_gets_sigterm_publishes_what_it_has_in_hand(plate):
    plate.wells = WELLS[:5]
    plate.publish()
    dense = EmbedConfig(crop=16, stride=2)
    with compute.client("local", workers=1) as client:
        doomed, pieces = [], []

        def on_progress(_done, _total):
            # Called again and again; at some time the worker is at a field.
            (address,) = client.nthreads() or [""]
            if not doomed and client.run(is_watched).get(address):
                pieces.append(len(plate.lake.published("pieces")))
                doomed.append(find_worker(address, client))
                doomed[0].send_signal(signal.SIGTERM)
            elif doomed and not doomed[0].is_running():
                pieces.append(len(plate.lake.published("pieces")))

        ref = embed_plate(plate.lake, KEY, client=client, config=dense, on_progress=on_progress)
    assert pieces[1] > pieces[0]
    assert ref.counts["fields"] == 10


def is_watched():
    return bool(duty.WATCHDOG._deadlines)


def find_worker(address, client):
    return psutil.Process(client.run(os.getpid)[address])


@pytest.mark.parametrize("readers", [1, 3])
def test_fields_are_read_ahead_and_come_in_order(readers):
    begun = []
    ahead = read_ahead(lambda field: begun.append(field) or field, range(9), readers=readers)
    assert next(ahead) == 0
    assert [0, *ahead] == list(range(9))
    assert sorted(begun) == list(range(9))


def test_a_field_that_cannot_be_read_stops_the_reading():
    def read(field):
        if field == 2:
            raise OSError("gone")
        return np.zeros(1)

    ahead = read_ahead(read, range(9), readers=2)
    with pytest.raises(OSError, match="gone"):
        list(ahead)


def test_kills_at_random_moments_leave_the_same_bytes():
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", "4"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same bytes each time" in done.stdout
