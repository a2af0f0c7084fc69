"""SIGKILL at random moments of each stage: what is published in the end is the same bytes."""

import random
import signal
import time

import pytest

from phenopipe.catalogue import describe_lake, verify_lake
from phenopipe.lake import PATTERNS, Lake

# Stage by the folder that it writes, and how often it is shot there: 10 kills. Map, benchmark and
# report write within a second of one another; random moments spread over the three.
KILLS = {"images": 4, "embeddings": 3, "maps": 3}


def published(lake):
    things = [thing for kind in PATTERNS for thing in lake.published(kind)]
    return {thing.path: (lake.manifest(thing).key, lake.manifest(thing).files) for thing in things}


def kill_at_work(process, lake, kind, *, delay_s):
    """Wait until the run writes a thing of the kind, then a moment, then shoot it.

    Returns whether it left something half-written.
    """
    before = len(lake.published(kind))
    while not lake.unpublished(kind) and len(lake.published(kind)) == before:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return any(entry.state == "half-written" for entry in describe_lake(lake))


@pytest.mark.timeout(900)
def test_a_run_that_was_killed_anywhere_ends_with_the_same_bytes(start_flow, tmp_path):
    whole = start_flow(tmp_path / "undisturbed")
    output, _ = whole.communicate(timeout=280)
    assert whole.returncode == 0, output

    moments = random.Random(7)  # noqa: S311 - a seed, not a secret
    lake = Lake(tmp_path / "killed")
    hits = 0
    for kind, times in KILLS.items():
        for _ in range(times):
            process = start_flow(lake.root)
            hits += kill_at_work(process, lake, kind, delay_s=moments.uniform(0, 0.5))
    assert hits >= 3, "kills must land while a stage writes"

    last = start_flow(lake.root)
    output, _ = last.communicate(timeout=280)
    assert last.returncode == 0, output
    assert published(lake) == published(Lake(tmp_path / "undisturbed"))
    assert verify_lake(lake) == []
    assert lake.unpublished("images") == []
