"""What Prefect costs: a plate's share, a backfill with nothing to do, a thousand plates in a row.

``python -m benchmarks.orchestration``. A server on SQLite, a worker of the pool ``cpu`` and the
project's deployments, each as a process of this machine; see docs/benchmarks.md. It takes
half an hour: ``--only`` and fewer ``--plates`` take less.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.orchestration_lake import (
    SMALL,
    TINY,
    open_fresh_lake,
    publish_embeddings,
    write_lake,
)
from benchmarks.orchestration_server import Ended, MemoryWatch, Server, serving
from benchmarks.rounds import describe_machine, spread, turned
from phenopipe.backlog import Wanted, plan_embeddings
from phenopipe.catalogue import list_plates
from phenopipe.lake import Lake

PACKAGES = ("phenopipe", "prefect", "dask")

# The work that a run's plates are put together for; see `phenopipe.backlog.group_plates`.
_GROUP_S = 440.0
_SLICES = 10


def main() -> None:
    given = _parse()
    parts: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "share": measure_share,
        "published": measure_published,
        "missing": measure_missing,
    }
    given.folder = given.folder.absolute()
    given.folder.mkdir(parents=True, exist_ok=True)
    print(describe_machine(given.folder, threads=2, packages=PACKAGES), flush=True)
    told = {name: parts[name](given) for name in given.only}
    if given.json:
        given.json.write_text(json.dumps(told, indent=1) + "\n")


def measure_share(given: argparse.Namespace) -> dict[str, Any]:
    """Embed the same plates in a run of ``plates/cpu`` and with the library alone."""
    prepared = write_lake(given.folder / "small", plates=given.share_plates, design=SMALL)
    plates = [str(key) for key in list_plates(prepared)]
    bare: list[float] = []
    runs: list[Ended] = []
    with serving(given.folder / "share", prepared.root) as server:
        for turn in range(given.repeats):
            for name in turned(["bare", "flow"], turn):
                lake = open_fresh_lake(prepared, given.folder / "fresh")
                if name == "bare":
                    bare.append(_time_bare(lake))
                else:
                    runs.append(_run(server, "plates/cpu", root=lake.root, plates=plates))
    _print_share(bare, runs, plates=len(plates))
    return {"plates": len(plates), "bare_s": bare, "runs": [vars(run) for run in runs]}


def measure_published(given: argparse.Namespace) -> dict[str, Any]:
    """Backfill plates that are all published."""
    lake = write_lake(given.folder / "tiny", plates=given.plates, design=TINY)
    keys = list_plates(lake)
    publish_embeddings(lake, keys)
    started = time.perf_counter()
    backlog = plan_embeddings(lake, Wanted())
    plan_s = time.perf_counter() - started
    if (len(backlog.done), len(backlog.missing)) != (len(keys), 0):
        raise SystemExit(f"expected all to be published, found {len(backlog.missing)} missing")
    with serving(given.folder / "published", lake.root) as server:
        runs = [_run(server, "backfill/backfill", root=lake.root) for _ in range(given.repeats)]
        children = sum(server.count_children(run) for run in runs)
    print(
        f"\nbackfill of {len(keys):,} published plates: {spread([run.seconds for run in runs])} s "
        f"from asked for to its end, of which {spread([run.waited_s for run in runs])} s until it "
        f"ran; the plan alone {plan_s:.2f} s; {children} flow runs and "
        f"{max(run.task_runs for run in runs)} task runs",
        flush=True,
    )
    return {"plates": len(keys), "plan_s": plan_s, "runs": [vars(run) for run in runs]}


def measure_missing(given: argparse.Namespace) -> dict[str, Any]:
    """Backfill tiny plates of which none is embedded, to their end."""
    prepared = write_lake(given.folder / "tiny", plates=given.plates, design=TINY)
    lake = open_fresh_lake(prepared, given.folder / "fresh")
    asked = {"root": lake.root, "where": "cpu", "in_flight": given.in_flight}
    with (
        serving(given.folder / "missing", lake.root) as server,
        MemoryWatch(server.process) as memory,
    ):
        run = _run(server, "backfill/backfill", **asked)
        children = server.count_children(run)
    left = plan_embeddings(lake, Wanted()).missing
    if left:
        raise SystemExit(f"expected all plates to be embedded, found {len(left)} left: {left[0]}")
    mib = [part / 2**20 for part in _slice(memory.bytes)]
    print(
        f"\nbackfill of {given.plates:,} missing plates: {run.seconds:.0f} s, "
        f"{children} flow runs, {run.task_runs:,} task runs\n\n"
        f"server's memory in MiB by tenths of the time: {' '.join(f'{one:.0f}' for one in mib)}\n"
        f"last tenth by the second: {mib[-1] / mib[1]:.2f}",
        flush=True,
    )
    return {"plates": given.plates, "children": children, "server_mib": mib, **vars(run)}


def _run(server: Server, name: str, **parameters: Any) -> Ended:
    run = server.run(name, **parameters)
    if run.state not in {"Completed", "Cached"}:
        raise SystemExit(f"{name} ended {run.state}: {run.message}")
    return run


def _print_share(bare: Sequence[float], runs: Sequence[Ended], *, plates: int) -> None:
    flow = [run.seconds for run in runs]
    costs = [one - other for one, other in zip(flow, bare, strict=True)]
    shares = [100 * cost / one for cost, one in zip(costs, flow, strict=True)]
    grouped = [100 * cost / (cost + _GROUP_S) for cost in costs]
    print(
        f"\n{plates} plates of 96 wells in one run, {len(runs)} rounds\n\n"
        f"| | median (min to max) |\n|---|---|\n"
        f"| the library alone, s | {spread(bare)} |\n"
        f"| plates/cpu, from asked for to its end, s | {spread(flow)} |\n"
        f"| of these, until it ran, s | {spread([run.waited_s for run in runs])} |\n"
        f"| Prefect's share, % | {spread(shares)} |\n"
        f"| of a run with {_GROUP_S:.0f} s of work, % | {spread(grouped)} |",
        flush=True,
    )


def _time_bare(lake: Lake) -> float:
    command = [sys.executable, "-m", "benchmarks.orchestration_bare", lake.root]
    started = time.perf_counter()
    subprocess.run(command, check=True)  # noqa: S603 - our own script
    return time.perf_counter() - started


def _slice(samples: Sequence[int]) -> list[float]:
    """Give the medians of as many parts of the time, each as long."""
    edges = [len(samples) * part // _SLICES for part in range(_SLICES + 1)]
    return [
        statistics.median(samples[first : max(last, first + 1)]) for first, last in pairwise(edges)
    ]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("share", "published", "missing")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--plates", type=int, default=1000, help="of the backfills")
    parser.add_argument(
        "--share-plates", type=int, default=40, help="of the run beside the library"
    )
    parser.add_argument("--repeats", type=int, default=3, help="rounds of share and published")
    parser.add_argument("--in-flight", type=int, default=2, help="runs of plates at a time")
    parser.add_argument("--folder", type=Path, default=Path(".bench/orchestration"))
    parser.add_argument("--json", type=Path, help="where to write every figure")
    return parser.parse_args()


if __name__ == "__main__":
    main()
