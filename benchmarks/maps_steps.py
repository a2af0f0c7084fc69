"""What a contender of the map benchmark is: a chain of steps, each timed and its result kept.

Imported in the peers' environments too: nothing but numpy and pandas is needed.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.maps_screen import Screen

# The chain, from aligned wells to scores. Its results, a file each:
# align (n, d) and aggregate (genes, d) as .npy; the others as tables of key, value and p_value.
CHAIN = ("align", "aggregate", "recall", "bias", "consistency", "magnitude", "replicates")
# Steps of profiling that stand beside the chain.
BESIDE = ("standardize", "spherize")


@dataclass(frozen=True)
class Place:
    """Where a chain writes and reads, and with what.

    Attributes
    ----------
    out
        A folder of its own; its results go there.
    handed
        Another contender's results, for one that starts in the midst of the chain.
    jobs
        Processes or threads that it may start, where it takes such a number.
    dtype
        In which it takes the vectors.
    """

    out: Path
    handed: Path
    jobs: int
    dtype: type


Result = np.ndarray | pd.DataFrame
# A step's name and how to get its result, which is asked for while the clock stands.
Step = tuple[str, Callable[[], Result]]
Chain = Callable[[Screen, Place], Iterator[Step]]


def run_chain(chain: Chain, screen: Screen, place: Place) -> dict[str, float]:
    """Run the steps; give the seconds of each. Results are kept while the clock stands."""
    place.out.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    for name, get_result in chain(screen, place):
        seconds[name] = time.perf_counter() - start
        _keep(get_result(), place.out / name)
        start = time.perf_counter()
    return seconds


def _keep(result: Result, path: Path) -> None:
    if isinstance(result, pd.DataFrame):
        result.to_parquet(path.with_suffix(".parquet"))
    else:
        np.save(path.with_suffix(".npy"), result)


def run_contender(chains: Mapping[str, Chain], description: str | None) -> None:
    """Run the contender that the command line names, on a small screen first to warm up."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("name", choices=chains)
    arguments.add_argument("screen", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--warm-up", type=Path, required=True, help="a small screen")
    arguments.add_argument("--handed", type=Path, required=True)
    arguments.add_argument("--cores", type=int, required=True)
    arguments.add_argument("--jobs", type=int, required=True)
    arguments.add_argument("--dtype", choices=("float32", "float64"), required=True)
    given = arguments.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    chain, dtype = chains[given.name], np.dtype(given.dtype).type
    warm_up = Place(given.out / "warm-up", given.handed / "warm-up", given.jobs, dtype)
    run_chain(chain, Screen(given.warm_up), warm_up)
    place = Place(given.out, given.handed, given.jobs, dtype)
    steps = run_chain(chain, Screen(given.screen), place)
    (given.out / "steps.json").write_text(json.dumps(steps))
    print(json.dumps({"seconds": sum(steps.values())}), flush=True)
