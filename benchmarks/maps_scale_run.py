"""What is measured of maps at a screen's size: ``python -m benchmarks.maps_scale_run WHAT ...``.

A process of its own each time: ``map LAKE`` builds a map of all that is published in a lake, and
``bias GENES`` tests the pairs of so many genes. The clock starts when libraries are loaded.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from benchmarks.maps_lake import MODEL, WIDTH, list_genes
from phenopipe.genome import chromosome_arms
from phenopipe.lake import Lake
from phenopipe.maps import build_map, proximity_bias


def run_map(folder: Path) -> float:
    """Build a map from all published plates: Parquet in, map, wells and neighbours out."""
    start = time.perf_counter()
    build_map(Lake(folder), name="scale", model=MODEL)
    return time.perf_counter() - start


def run_bias(genes: int) -> float:
    """Run Brunner-Munzel's test on all pairs of genes, per arm and over the genome."""
    names = list_genes(genes)
    arms = [chromosome_arms()[name] for name in names]
    vectors = np.random.default_rng(0).standard_normal((len(names), WIDTH), dtype=np.float32)
    start = time.perf_counter()
    proximity_bias(vectors, arms)
    return time.perf_counter() - start


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("what", choices=("map", "bias"))
    arguments.add_argument("of")
    given = arguments.parse_args()
    seconds = run_map(Path(given.of)) if given.what == "map" else run_bias(int(given.of))
    print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
