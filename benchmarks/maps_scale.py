"""How time and memory of a map grow with its wells, and what a genome's pairs take.

``python -m benchmarks.maps_scale``. Lakes of 0.1, 0.5 and 2.2 million wells are written into
``.bench`` once (4 GB); see docs/benchmarks.md.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.maps_lake import GENES, WELLS_A_PLATE, WIDTH, list_plates, write_lake
from benchmarks.measured import Measured, measure
from benchmarks.rounds import describe_machine, spread

PACKAGES = ("phenopipe", "numpy", "scipy", "pyarrow")
_WELLS = (100_000, 500_000, 2_200_000)


def main() -> None:
    given = _parse()
    for wells in given.wells:
        write_lake(given.folder / f"maps-lake-{wells}", wells=wells, genes=given.genes)
    runs = {wells: _repeat(given, wells) for wells in given.wells}
    bias = [_measure("bias", str(given.genes), given.threads) for _ in range(given.repeats)]
    print("\n" + describe_machine(given.folder, threads=given.threads, packages=PACKAGES))
    print_maps(runs)
    pairs = given.genes * (given.genes - 1) // 2
    print(
        f"\nBrunner-Munzel on {given.genes:,} genes x {WIDTH} ({pairs / 1e6:.0f} M pairs): "
        f"{spread([run.seconds for run in bias])} s, {_peak(bias):.0f} MiB"
    )
    if given.json:
        told = {str(n): [vars(run) for run in found] for n, found in {**runs, "bias": bias}.items()}
        given.json.write_text(json.dumps(told, indent=1) + "\n")


def print_maps(runs: dict[int, list[Measured]]) -> None:
    """Print a row a size, and the line through the medians."""
    print("| wells | plates | s, median (min to max) | microseconds a well | peak MiB |")
    print("|---|---|---|---|---|")
    sizes = [len(list_plates(wells)) * WELLS_A_PLATE for wells in runs]
    for size, found in zip(sizes, runs.values(), strict=True):
        seconds = [run.seconds for run in found]
        print(
            f"| {size:,} | {size // WELLS_A_PLATE:,} | {spread(seconds)} "
            f"| {median(seconds) / size * 1e6:.0f} | {_peak(found):.0f} |"
        )
    if len(sizes) > 1:
        medians = [median(run.seconds for run in found) for found in runs.values()]
        print("\n" + describe_line(sizes, medians))


def describe_line(sizes: Sequence[int], seconds: Sequence[float]) -> str:
    """Fit seconds = fixed + rate x wells, and say how far off the worst size is.

    Weighted by 1 / seconds, so that all sizes count alike.

    Examples
    --------
    >>> describe_line([100_000, 200_000, 400_000], [3.0, 5.0, 9.0])
    'line: 1.0 s + 20.0 microseconds a well; no size is further off than 0.0%'
    """
    taken = np.asarray(seconds, dtype=float)
    rate, fixed = np.polyfit(sizes, taken, 1, w=1 / taken)
    worst = float(np.abs((fixed + rate * np.asarray(sizes)) / taken - 1).max())
    return (
        f"line: {fixed:.1f} s + {rate * 1e6:.1f} microseconds a well; no size is further off than "
        f"{worst:.1%}"
    )


def _repeat(given: argparse.Namespace, wells: int) -> list[Measured]:
    """Build the map in a lake that shares the embeddings and holds nothing else."""
    lake, runs = given.folder / f"maps-lake-{wells}", []
    for turn in range(given.repeats):
        os.sync()
        with TemporaryDirectory(dir=given.folder) as fresh:
            (Path(fresh) / "embeddings").symlink_to((lake / "embeddings").absolute())
            runs.append(_measure("map", fresh, given.threads))
        print(f"round {turn + 1}: {wells:,} wells: {runs[-1].seconds:.1f} s", flush=True)
    return runs


def _measure(what: str, of: str, threads: int) -> Measured:
    return measure(["-m", "benchmarks.maps_scale_run", what, of], threads=threads)


def _peak(runs: Sequence[Measured]) -> float:
    return max(run.peak_bytes for run in runs) / 2**20


def _parse() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--wells", nargs="+", type=int, default=list(_WELLS))
    arguments.add_argument("--genes", type=int, default=GENES)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--folder", type=Path, default=Path(".bench"), help="for the lakes")
    arguments.add_argument("--json", type=Path, help="where to write every figure")
    return arguments.parse_args()


if __name__ == "__main__":
    main()
