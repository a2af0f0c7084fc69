"""Ingest side by side with ome-zarr-py, ngff-zarr and bioio-ome-zarr, and with the bound.

``python -m benchmarks.ingest --fields 24 --repeats 5``, or ``make bench``. Every contender is
checked before it is timed: codec, chunks and each pixel of level 0 as tifffile reads it, and each
pixel of level 1 among the four that it stands for. Then each round runs all of them, one after the
other, in an order that turns; ratios are taken within a round, so that a machine that slows down
slows all of it. See docs/benchmarks.md.
"""

import argparse
import json
import math
import os
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.contenders import CONTENDERS
from benchmarks.measured import Measured, measure
from benchmarks.plates import SIZE, draw_plate
from benchmarks.rounds import describe_machine, spread, turned
from benchmarks.written import SHAPES, check_arrays, check_flat, count_bytes, count_files

OURS = "phenopipe-threads"
PACKAGES = ("phenopipe", "ome-zarr", "ngff-zarr", "bioio-ome-zarr", "zarr", "zarrs", "numcodecs")
_WARM_UP_FIELDS = 1


def main() -> None:
    given = _parse()
    names = [OURS, *(name for name in given.only or CONTENDERS if name != OURS)]
    plate = draw_plate(given.folder / f"{given.fields}-fields", fields=given.fields)
    warm_up = draw_plate(given.folder / "warm-up", fields=_WARM_UP_FIELDS)
    runs: dict[str, list[Measured]] = {name: [] for name in names}
    files: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for turn in range(given.repeats + 1):
        for name in turned(names, turn):
            with TemporaryDirectory(dir=given.folder) as target:
                measured = _run(name, plate, Path(target), warm_up, given.threads)
                timed = Path(target) / "timed"
                if turn == 0:
                    check = check_flat if name == "bound" else check_arrays
                    check(plate, timed)
                    files[name], sizes[name] = count_files(timed), count_bytes(timed)
                    print(f"checked: {name}", flush=True)
                    continue
                runs[name].append(measured)
                print(f"round {turn}: {name} {measured.seconds:.2f} s", flush=True)
    print("\n" + describe_machine(given.folder, threads=given.threads, packages=PACKAGES))
    print(f"{given.fields} fields of 6 x {SIZE} x {SIZE} uint16, {given.repeats} rounds\n")
    _print_table(runs, files, sizes, fields=given.fields)
    if given.json:
        told = {name: [vars(run) for run in found] for name, found in runs.items()}
        given.json.write_text(json.dumps(told, indent=1) + "\n")


def _parse() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--fields", type=int, default=24, help="of 6 x 2048 x 2048 (50 MB)")
    arguments.add_argument("--repeats", type=int, default=5, help="rounds that are timed")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--only", nargs="+", choices=CONTENDERS, help="beside phenopipe's own")
    arguments.add_argument("--folder", type=Path, default=Path(".bench"), help="for the pixels")
    arguments.add_argument("--json", type=Path, help="where to write every figure")
    return arguments.parse_args()


def _run(name: str, plate: Path, target: Path, warm_up: Path, threads: int) -> Measured:
    """Run one contender on files that lie in memory, with no one else's writes under way."""
    for path in plate.rglob("*.TIF"):
        path.read_bytes()
    os.sync()
    arguments = ["-m", "benchmarks.contenders", name, str(plate), str(target)]
    return measure([*arguments, "--warm-up", str(warm_up), "--threads", str(threads)])


def _print_table(
    runs: dict[str, list[Measured]], files: dict[str, float], sizes: dict[str, int], *, fields: int
) -> None:
    """Print a row a contender: medians, and how far the rounds spread."""
    raw = fields * math.prod(SHAPES[0]) * 2
    print(
        "| contender | s, median (min to max) | MB/s | times phenopipe (min to max) | peak MiB "
        "| files a field and level | bytes written / pixels |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, found in runs.items():
        seconds = [run.seconds for run in found]
        ratios = [run.seconds / own.seconds for run, own in zip(found, runs[OURS], strict=True)]
        peak = max(run.peak_bytes for run in found) / 2**20
        print(
            f"| {name} | {spread(seconds)} | {raw / 1e6 / statistics.median(seconds):.0f} "
            f"| {spread(ratios)} | {peak:.0f} | {files[name]:.1f} | {sizes[name] / raw:.2f} |"
        )


if __name__ == "__main__":
    main()
