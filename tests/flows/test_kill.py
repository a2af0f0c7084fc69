"""SIGKILL at random moments of each stage: what is published in the end is the same bytes."""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from phenopipe.catalogue import verify_lake
from phenopipe.lake import PATTERNS, Lake

# Folder that a stage writes -> how often it is shot there, and within how many seconds. Map,
# benchmark and report follow one another within two seconds, in one folder.
KILLS = {"images": (4, 5.0), "embeddings": (3, 3.0), "maps": (4, 2.0)}


def published(lake):
    things = [thing for kind in PATTERNS for thing in lake.published(kind)]
    return {thing.path: (lake.manifest(thing).key, lake.manifest(thing).files) for thing in things}


def kill_at_work(start_flow, lake, kind, *, delay_s):
    """Start a run, wait until it writes a thing of the kind, then a moment, then shoot it.

    Returns whether it was still at work.
    """
    for thing in lake.published(kind)[:1]:
        lake.clear(thing)
    locks = Path(lake.root, ".locks", kind)
    shutil.rmtree(locks, ignore_errors=True)
    process = start_flow(lake.root)
    while not any(locks.rglob("*.lock")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    time.sleep(delay_s)
    at_work = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return at_work


@pytest.mark.timeout(1500)
def test_a_run_that_was_killed_anywhere_ends_with_the_same_bytes(start_flow, tmp_path):
    whole = start_flow(tmp_path / "undisturbed")
    output, _ = whole.communicate(timeout=800)
    assert whole.returncode == 0, output

    moments = random.Random(7)  # noqa: S311 - a seed, not a secret
    lake = Lake(tmp_path / "killed")
    hits = [
        kill_at_work(start_flow, lake, kind, delay_s=moments.uniform(0, longest_s))
        for kind, (times, longest_s) in KILLS.items()
        for _ in range(times)
    ]
    assert sum(hits) >= 10, "runs must be shot while they are at work"

    last = start_flow(lake.root)
    output, _ = last.communicate(timeout=800)
    assert last.returncode == 0, output
    assert published(lake) == published(Lake(tmp_path / "undisturbed"))
    assert verify_lake(lake) == []
    assert not any(lake.unpublished(kind) for kind in PATTERNS)
