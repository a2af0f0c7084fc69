"""A run that is told to end publishes what it has embedded before its cluster is closed."""

import signal
import subprocess
import sys
import time

from machines import PROJECT

from phenopipe.lake import Lake, embeddings
from tests.embed.conftest import KEY, PlateWriter

WELLS = tuple(f"{row}{column:02d}" for row in "AB" for column in range(1, 13))

# On one core, so with one worker: it takes 24 fields of half a second each, then 12, and so on.
RUN = f"""
import os
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
from flows.plates import process_plates
from phenopipe.config import EmbedConfig
process_plates(["{KEY}"], "ROOT", config=EmbedConfig(crop=16, stride=2))
"""


def test_a_run_that_gets_sigterm_publishes_what_it_has_in_hand(prefect_server, tmp_path):
    plate = PlateWriter(Lake(tmp_path / "lake"), wells=WELLS, side=256)
    plate.publish()
    command = [sys.executable, "-c", RUN.replace("ROOT", plate.lake.root)]
    run = subprocess.Popen(
        command, env=prefect_server, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    while not plate.fields_in_pieces():
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)
    before = plate.fields_in_pieces()
    time.sleep(1.0)
    run.send_signal(signal.SIGTERM)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == -signal.SIGTERM, output.decode()
    assert before < plate.fields_in_pieces() < 48
    assert plate.lake.manifest(embeddings("classical", KEY)) is None
