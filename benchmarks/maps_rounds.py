"""Run the contenders of the map benchmark: find their best threads, check them, time them."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import maps_checks as checks
from benchmarks.maps_screen import Screen
from benchmarks.maps_steps import BESIDE
from benchmarks.measured import Measured, measure
from benchmarks.rounds import turned

OURS = "phenopipe"
OURS_BESIDE = "phenopipe-beside"
CHECKER = "statsmodels"  # not timed: it says what the genome's statistic is

# Threads of linear algebra, and processes or threads of the library's own, that are tried.
_TRIALS = {
    OURS: ((1, 1), (2, 1)),
    OURS_BESIDE: ((1, 1), (2, 1)),
    "efaar": ((1, 1), (2, 1), (1, 2)),
    "proxbias": ((1, 1), (2, 1)),
    "pycytominer": ((1, 1), (2, 1)),
    "copairs": ((1, 1), (2, 1), (1, 2)),
}
CONTENDERS = tuple(_TRIALS)


@dataclass(frozen=True)
class Bench:
    """Where a benchmark runs.

    Attributes
    ----------
    python
        The peers' interpreter.
    screen, warm_up
        What is timed, and what is run before it in each process.
    out
        Each contender's results, a folder a contender; the next run overwrites them.
    """

    python: Path
    screen: Screen
    warm_up: Screen
    out: Path
    cores: int


@dataclass(frozen=True)
class Run:
    """One run of a contender: its memory, and the seconds of each step."""

    measured: Measured
    steps: dict[str, float]


def find_threads(bench: Bench, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Try the threads of each contender; give those with which its steps took least."""
    chosen: dict[str, tuple[int, int]] = {}
    run_contender("efaar", bench, dtype="float64")  # the others start from what it gives
    for name in names:
        seconds = {
            how: run_contender(name, bench, threads=how).measured.seconds
            for how in _TRIALS[name]
            if max(how) <= bench.cores
        }
        chosen[name] = min(seconds, key=seconds.__getitem__)
        for (threads, jobs), found in seconds.items():
            print(f"tried: {name} with {threads} threads, {jobs} jobs: {found:.2f} s", flush=True)
    return chosen


def run_checks(bench: Bench) -> None:
    """Run all contenders in float64 and stop where one finds something else."""
    for name in ("efaar", *(name for name in CONTENDERS if name != "efaar"), CHECKER):
        run_contender(name, bench, dtype="float64")
    for line in _compare(bench):
        print(f"checked: {line}", flush=True)


def run_rounds(
    bench: Bench, threads: Mapping[str, tuple[int, int]], *, repeats: int
) -> dict[str, list[Run]]:
    """Run all contenders in every round, each time in another order."""
    runs: dict[str, list[Run]] = {name: [] for name in threads}
    timed = replace(bench, out=bench.out.with_name("timed"))
    for turn in range(1, repeats + 1):
        for name in turned(list(threads), turn):
            found = run_contender(name, timed, threads=threads[name], handed=bench.out / "efaar")
            runs[name].append(found)
            print(f"round {turn}: {name} {found.measured.seconds:.2f} s", flush=True)
    shutil.rmtree(timed.out)
    return runs


def run_contender(
    name: str,
    bench: Bench,
    *,
    threads: tuple[int, int] = (1, 1),
    dtype: str = "float32",
    handed: Path | None = None,
) -> Run:
    """Run one contender in a process of its own, in its own environment.

    Vectors are stored in float32, and that is what a peer is given when it is timed: it is faster
    so, and takes half the memory. phenopipe computes in float64 whatever it is given.
    """
    out = bench.out / name
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    _read_once(bench.screen)
    limit, jobs = threads
    options = {
        "warm-up": bench.warm_up.folder,
        "handed": handed or bench.out / "efaar",
        "cores": bench.cores,
        "jobs": jobs,
        "dtype": dtype,
    }
    is_ours = name in {OURS, OURS_BESIDE}
    module = "benchmarks.maps_ours" if is_ours else "benchmarks.maps_peers"
    python = sys.executable if is_ours else str(bench.python)
    flags = [text for flag, value in options.items() for text in (f"--{flag}", str(value))]
    measured = measure(
        ["-m", module, name, str(bench.screen.folder), str(out), *flags],
        python=python,
        threads=limit,
    )
    return Run(measured, json.loads((out / "steps.json").read_text()))


def _read_once(screen: Screen) -> None:
    """Bring the files into the page cache, for all alike."""
    for path in screen.folder.iterdir():
        if path.is_file():
            path.read_bytes()


def _compare(bench: Bench) -> Iterator[str]:
    ours, efaar, proxbias, checker, copairs = (
        bench.out / name for name in (OURS, "efaar", "proxbias", CHECKER, "copairs")
    )
    for step in ("align", "aggregate"):
        yield checks.check_cosines(step, ours, efaar)
    yield checks.check_recall(ours, efaar)
    same_rows = bench.out / "same-rows"
    checks.score_bias(bench.screen, efaar, same_rows)
    yield checks.check_bias(same_rows, proxbias)
    yield checks.check_genome(same_rows, checker)
    yield checks.check_consistency(ours, efaar)
    n_controls, n_null = len(bench.screen.controls), len(bench.screen.unexpressed)
    yield checks.check_magnitude(ours, efaar, n_controls=n_controls, n_null=n_null)
    yield checks.check_replicates(ours, copairs)
    for step in BESIDE:
        yield checks.check_cosines(step, bench.out / OURS_BESIDE, bench.out / "pycytominer")
