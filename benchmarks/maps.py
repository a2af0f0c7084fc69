"""Maps side by side with EFAAR_benchmarking, proxbias, pycytominer and copairs.

``python -m benchmarks.maps``, or ``make bench-maps``. All contenders read the same wells; what they
find is compared before anything is timed. Then each round runs all of them in an order that turns,
and ratios are taken within a round. See docs/benchmarks.md.
"""

import argparse
import json
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.maps_draw import WELLS_A_BATCH, WIDTH, draw_screen
from benchmarks.maps_rounds import (
    CONTENDERS,
    OURS,
    OURS_BESIDE,
    Bench,
    Run,
    find_threads,
    run_checks,
    run_rounds,
)
from benchmarks.maps_screen import Screen
from benchmarks.maps_steps import BESIDE, CHAIN
from benchmarks.rounds import describe_machine, spread

PACKAGES = ("phenopipe", "numpy", "scipy", "pandas", "pyarrow")
PEERS = ("efaar_benchmarking", "proxbias", "statsmodels", "pycytominer", "copairs", "numpy")
_WARM_UP_WELLS = 2000
_TRIAL_WELLS = 6000  # few enough controls for EFAAR_benchmarking to take all, and so to compare

Runs = Mapping[str, Sequence[Run]]


def main() -> None:
    given = _parse()
    annotations = given.annotations or _find_annotations(given.peers)
    trial, bench = (_prepare(wells, annotations, given) for wells in (_TRIAL_WELLS, given.wells))
    run_checks(trial)
    threads = find_threads(trial, CONTENDERS)
    run_checks(bench)
    runs = run_rounds(bench, threads, repeats=given.repeats)
    print("\n" + describe_machine(given.folder, threads=given.cores, packages=PACKAGES))
    print(f"peers: {_list_versions(given.peers)}")
    _describe(bench.screen, repeats=given.repeats)
    print_steps(runs)
    print_chain(runs, threads)
    if given.json:
        told = {
            name: [vars(run.measured) | run.steps for run in found] for name, found in runs.items()
        }
        given.json.write_text(json.dumps(told, indent=1) + "\n")


def print_steps(runs: Runs) -> None:
    """Print a row a step and peer: medians, and the peer's time by phenopipe's within a round."""
    print(f"| step | {OURS}, s (min to max) | peer | s (min to max) | times {OURS} |")
    print("|---|---|---|---|---|")
    for step in (*CHAIN, *BESIDE):
        own = [run.steps[step] for run in runs[OURS if step in CHAIN else OURS_BESIDE]]
        for name in find_peers(runs, step):
            theirs = [run.steps[step] for run in runs[name]]
            ratios = [peer / mine for peer, mine in zip(theirs, own, strict=True)]
            print(f"| {step} | {spread(own)} | {name} | {spread(theirs)} | {spread(ratios)} |")


def print_chain(runs: Runs, threads: Mapping[str, tuple[int, int]]) -> None:
    """Print the whole chain against the fastest peer of each step, and each peak of memory."""
    own = [sum(run.steps[step] for step in CHAIN) for run in runs[OURS]]
    theirs = [sum_fastest(runs, turn) for turn in range(len(own))]
    ratios = [peer / mine for peer, mine in zip(theirs, own, strict=True)]
    print(f"\nchain: {OURS} {spread(own)} s, the fastest peer of each step {spread(theirs)} s")
    print(f"chain: {spread(ratios)} times as fast as the peers' sum\n")
    print("| contender | peak MiB | threads, jobs |\n|---|---|---|")
    peaks = {n: max(run.measured.peak_bytes for run in found) for n, found in runs.items()}
    for name, peak in peaks.items():
        print(f"| {name} | {peak / 2**20:.0f} | {threads[name][0]}, {threads[name][1]} |")
    most = max(peaks[name] for name in find_chain_peers(runs))
    print(f"\nmemory: {peaks[OURS] / most:.2f} of the chain's largest peer")


def find_peers(runs: Runs, step: str) -> list[str]:
    """Name the peers that have a step."""
    ours = {OURS, OURS_BESIDE}
    return [name for name, found in runs.items() if name not in ours and step in found[0].steps]


def find_chain_peers(runs: Runs) -> set[str]:
    """Name the peers whose step is the fastest of some step of the chain."""
    return {
        min(
            find_peers(runs, step),
            key=lambda name: statistics.median(run.steps[step] for run in runs[name]),
        )
        for step in CHAIN
    }


def sum_fastest(runs: Runs, turn: int) -> float:
    """Add up, in one round, the time of the fastest peer of each step of the chain."""
    return sum(
        min(runs[name][turn].steps[step] for name in find_peers(runs, step)) for step in CHAIN
    )


def _parse() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--wells", type=int, default=60_000, help="a batch has 1,000")
    arguments.add_argument("--repeats", type=int, default=5, help="rounds that are timed")
    arguments.add_argument("--cores", type=int, default=2, help="that each contender may use")
    arguments.add_argument(
        "--peers", type=Path, default=Path(".venv-peers/bin/python"), help="their interpreter"
    )
    arguments.add_argument(
        "--annotations", type=Path, help="EFAAR_benchmarking's five; those it comes with if None"
    )
    arguments.add_argument("--folder", type=Path, default=Path(".bench"), help="for the wells")
    arguments.add_argument("--json", type=Path, help="where to write every figure")
    return arguments.parse_args()


def _prepare(wells: int, annotations: Path, given: argparse.Namespace) -> Bench:
    screen, warm_up = (
        draw_screen(given.folder / f"maps-{n}", annotations, wells=n)
        for n in (wells, _WARM_UP_WELLS)
    )
    return Bench(given.peers, screen, warm_up, given.folder / f"maps-{wells}-out", given.cores)


def _find_annotations(python: Path) -> Path:
    """Find the tables that come with the peer, without loading it and all that it needs."""
    code = "import importlib.util as u; print(u.find_spec('efaar_benchmarking').origin)"
    return Path(_ask(python, code)).parent / "benchmark_annotations"


def _list_versions(python: Path) -> str:
    code = f"from importlib.metadata import version as v; print(*map(v, {PEERS!r}))"
    return ", ".join(map(" ".join, zip(PEERS, _ask(python, code).split(), strict=True)))


def _ask(python: Path, code: str) -> str:
    if not python.is_file():
        raise SystemExit(f"expected the peers' interpreter at {python}: make bench-maps makes it")
    told = subprocess.run(  # noqa: S603 - our own code
        [str(python), "-c", code], capture_output=True, text=True, check=False
    )
    if told.returncode:
        last = told.stderr.strip().splitlines()[-1]
        raise SystemExit(f"expected the peers in {python}, found {last}: make bench-maps")
    return told.stdout.strip()


def _describe(screen: Screen, *, repeats: int) -> None:
    wells, genes = screen.wells, screen.genes
    print(
        f"{len(wells):,} wells x {WIDTH}, {wells['experiment'].nunique()} batches of "
        f"{WELLS_A_BATCH:,}, {len(genes):,} genes; {repeats} rounds\n"
    )


if __name__ == "__main__":
    main()
