"""Shoot ``phenopipe embed`` at random moments, and compare what it publishes in the end.

``python -m benchmarks.kills --kills 100``. Two simulated plates are embedded once undisturbed, and
then over and over while a worker or the main process is sent SIGKILL or SIGTERM. Whenever a run
comes to its end, every table must have the digest of the undisturbed run's, no field may be given
up, and the lake must be whole; then the tables are cleared, and it starts again. No more than two
workers are shot in a run: three times the same field would be taken for its fault.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from phenopipe import compute
from phenopipe.catalogue import sweep_lake, verify_lake
from phenopipe.ingest import find_plates, ingest_plate
from phenopipe.lake import PATTERNS, SKIPPED, Lake
from phenopipe.simulate import simulate_screen

_COMMAND = [sys.executable, "-c", "from phenopipe.cli import main; main()", "embed"]
_SHOTS = (
    ("worker", signal.SIGKILL),
    ("main", signal.SIGTERM),
    ("worker", signal.SIGTERM),
    ("main", signal.SIGKILL),
)
_WORKERS_A_RUN = 2
# Small crops, close to each other: a plate takes some seconds.
_SETTINGS = "[embed]\ncrop = 64\nstride = {stride}\n"
_DRAINED = 128 + signal.SIGTERM


def main() -> None:
    given = _parse()
    with TemporaryDirectory(prefix="kills-") as folder:
        top = given.folder or Path(folder)
        top.mkdir(parents=True, exist_ok=True)
        settings = top / "settings.toml"
        settings.write_text(_SETTINGS.format(stride=given.stride))
        calm = _prepare(top / "calm", wells=given.wells)
        shutil.copytree(calm.root, top / "shot")
        started = time.monotonic()
        _finish(_start(calm, settings))
        calm_s = time.monotonic() - started
        print(f"undisturbed: {calm_s:.1f} s, {len(_digests(calm))} plates", flush=True)
        range_ = Range(Lake(top / "shot"), settings, expected=_digests(calm), seed=given.seed)
        range_.shoot(given.kills)
    kinds = ", ".join(f"{n} {who} {what}" for (who, what), n in sorted(range_.hits.items()))
    print(
        f"{sum(range_.hits.values())} kills ({kinds}) in {range_.runs} runs, "
        f"{range_.ends} of which came to their end: the same bytes each time"
    )


class Range:
    """A lake whose runs are shot at."""

    def __init__(self, lake: Lake, settings: Path, *, expected: dict[str, str], seed: int) -> None:
        self.hits: Counter[tuple[str, str]] = Counter()
        self.runs = self.ends = 0
        self._lake, self._settings, self._expected = lake, settings, expected
        self._random = random.Random(seed)  # noqa: S311 - a seed, not a secret
        self._shots = cycle(_SHOTS)

    def shoot(self, kills: int) -> None:
        """Shoot until so many have hit, then let the last run come to its end."""
        whole = True
        while sum(self.hits.values()) < kills:
            process = self._run()
            for who, what in self._next_shots(kills):
                time.sleep(self._random.uniform(0, 2.5))
                if not self._is_at_work(process):
                    break
                self.hits[who, what.name] += self._hit(process, who, what)
                print(".", end="", file=sys.stderr, flush=True)
                if who == "main":
                    break
            whole = self._conclude(process)
        while not whole:
            whole = self._conclude(self._run())

    def _next_shots(self, kills: int) -> Iterator[tuple[str, signal.Signals]]:
        workers = 0
        while workers < _WORKERS_A_RUN and sum(self.hits.values()) < kills:
            who, what = next(self._shots)
            workers += who == "worker"
            yield who, what

    def _run(self) -> subprocess.Popen[str]:
        """Start a run; wait until it is at a table."""
        self.runs += 1
        locks = Path(self._lake.root, ".locks", "embeddings")
        shutil.rmtree(locks, ignore_errors=True)
        process = _start(self._lake, self._settings)
        while not any(locks.rglob("*.lock")) and process.poll() is None:
            time.sleep(0.01)
        return process

    def _is_at_work(self, process: subprocess.Popen[str]) -> bool:
        return process.poll() is None and bool(self._expected.keys() - self._published())

    def _hit(self, process: subprocess.Popen[str], who: str, what: signal.Signals) -> bool:
        victims = [psutil.Process(process.pid)] if who == "main" else _workers(process.pid)
        if victims:
            self._random.choice(victims).send_signal(what)
        return bool(victims)

    def _published(self) -> set[str]:
        return {thing.path for thing in self._lake.published("embeddings")}

    def _conclude(self, process: subprocess.Popen[str]) -> bool:
        """Wait for a run's end; if it did all, compare, and clear the tables."""
        told, errors = process.communicate(timeout=300)
        if process.returncode not in (0, _DRAINED, -signal.SIGTERM, -signal.SIGKILL):
            raise SystemExit(f"a run ended with {process.returncode}:\n{told}{errors}")
        # A process that is killed leaves children half started, and they say so.
        if process.returncode in {0, _DRAINED} and "Traceback" in errors:
            raise SystemExit(f"a run ended with a traceback:\n{errors}")
        if self._expected.keys() - self._published():
            return False
        self.ends += 1
        _check(self._lake, self._expected)
        for thing in self._lake.published("embeddings"):
            self._lake.clear(thing)
        return True


def _prepare(folder: Path, *, wells: int) -> Lake:
    """Simulate and ingest two plates."""
    screen, lake = folder.with_name("screen"), Lake(folder)
    simulate_screen(screen, plates=2, wells=wells)
    with compute.client("local") as client:
        for plate in find_plates(screen, "auto"):
            ingest_plate(plate, lake, client=client)
    return lake


def _start(lake: Lake, settings: Path) -> subprocess.Popen[str]:
    options = ["--root", lake.root, "--settings", str(settings)]
    return subprocess.Popen(  # noqa: S603 - our own command
        [*_COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"the undisturbed run ended with {process.returncode}:\n{errors}")


def _workers(pid: int) -> list[psutil.Process]:
    children = psutil.Process(pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def _digests(lake: Lake) -> dict[str, str]:
    found = {}
    for thing in lake.published("embeddings"):
        manifest = lake.require(thing, remedy="")
        if manifest.counts.get(SKIPPED):
            raise SystemExit(f"fields of {thing} were given up: {manifest.counts}")
        found[thing.path] = manifest.files["."]
    return found


def _check(lake: Lake, expected: dict[str, str]) -> None:
    sweep_lake(lake)
    if _digests(lake) != expected:
        raise SystemExit(f"a table in {lake.root} has other bytes than the undisturbed run's")
    if damaged := verify_lake(lake):
        raise SystemExit(f"damaged: {damaged}")
    if torn := [thing for kind in PATTERNS for thing in lake.unpublished(kind)]:
        raise SystemExit(f"half-written: {torn}")
    if pieces := lake.published("pieces"):
        raise SystemExit(f"pieces are left: {pieces}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to leave both lakes; default: nowhere")
    parser.add_argument("--wells", type=int, default=96, choices=(96, 384))
    parser.add_argument("--stride", type=int, default=32, help="step of crops: less takes longer")
    return parser.parse_args()


if __name__ == "__main__":
    main()
