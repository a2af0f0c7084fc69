"""A run that is told to end publishes what it has embedded before its cluster is closed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from machines import PROJECT

from phenopipe.lake import Lake, embeddings
from tests.embed.conftest import KEY, PlateWriter

WELLS = tuple(f"{row}{column:02d}" for row in "ABCD" for column in range(1, 13))

# Fields of half a second, of which a worker takes 24 at first.
RUN = f"""
from flows.plates import process_plates
from phenopipe.config import EmbedConfig
process_plates(["{KEY}"], "ROOT", config=EmbedConfig(crop=16, stride=2))
"""


def fields_done(lake):
    return sum(lake.manifest(piece).counts["fields"] for piece in lake.published("pieces"))


def test_a_run_that_gets_sigterm_publishes_what_it_has_in_hand(prefect_server, tmp_path):
    lake = Lake(tmp_path / "lake")
    PlateWriter(lake, wells=WELLS, side=256).publish()
    command = [sys.executable, "-c", RUN.replace("ROOT", lake.root)]
    run = subprocess.Popen(
        command, env=prefect_server, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    while not any(Path(lake.root, ".locks/embeddings").rglob("*.lock")):
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)
    time.sleep(1.0)
    before = fields_done(lake)
    assert before < 48, "the run must be shot while it is at work"
    run.send_signal(signal.SIGTERM)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == -signal.SIGTERM, output.decode()
    assert before < fields_done(lake) < 48
    assert lake.manifest(embeddings("classical", KEY)) is None
