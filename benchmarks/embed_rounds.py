"""Find each contender's best settings, check what it gives, then time all of them in turn."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.embed_inputs import Inputs, Settings
from benchmarks.measured import Measured, measure
from benchmarks.rounds import turned

# The smallest cosine between a contender's vector of a crop and torch's, both from the mean of all
# crops: the vectors of random weights resemble one another, what is left of them is what differs.
_LEAST_COSINE = {"fp32": 0.9999, "fp16": 0.999, "bf16": 0.99, "int8": 0.9}


def find_settings(
    name: str, inputs: Inputs, settings: Settings, *, batches: Sequence[int], crops: int
) -> Settings:
    """Try the batches, each with the processes that are set and with one of all threads."""
    splits = dict.fromkeys((settings.processes, 1))
    trials = [replace(settings, batch=b, processes=n) for b, n in product(batches, splits)]
    if len(trials) == 1:
        return trials[0]
    seconds = {}
    for trial in trials:
        measured, _ = run(name, inputs, replace(trial, crops=crops))
        seconds[trial] = measured.seconds
        how = f"{trial.processes} x batch {trial.batch}"
        print(f"{name}: {how}: {crops / measured.seconds:.2f} crops/s", flush=True)
    return min(trials, key=seconds.__getitem__)


def run_rounds(
    inputs: Inputs, settings: Mapping[str, Settings], *, repeats: int
) -> dict[str, list[Measured]]:
    """Run all contenders in every round, each time in another order; the first is for checks."""
    runs: dict[str, list[Measured]] = {name: [] for name in settings}
    vectors: dict[str, np.ndarray] = {}
    for turn in range(repeats + 1):
        for name in turned(list(settings), turn):
            measured, found = run(name, inputs, settings[name])
            if turn == 0:
                vectors[name] = found
                continue
            runs[name].append(measured)
            print(f"round {turn}: {name} {measured.seconds:.2f} s", flush=True)
        if turn == 0:
            _check_vectors(vectors, inputs.precision)
    return runs


def run(name: str, inputs: Inputs, settings: Settings) -> tuple[Measured, np.ndarray]:
    """Run one contender in a process of its own; give its time and its vectors."""
    for path in inputs.plate.rglob("*.TIF"):
        path.read_bytes()
    os.sync()
    with TemporaryDirectory(dir=inputs.lake.parent) as target:
        arguments = {
            "vit": inputs.vit.name,
            "plate": inputs.plate,
            "lake": inputs.lake,
            "target": target,
            "precision": inputs.precision,
            "settings": json.dumps(asdict(settings)),
        }
        given = [text for flag, value in arguments.items() for text in (f"--{flag}", str(value))]
        measured = measure(["-m", "benchmarks.embedders", name, *given])
        return measured, np.load(Path(target) / "vectors.npy")


def _check_vectors(vectors: Mapping[str, np.ndarray], precision: str) -> None:
    """Stop where a contender's vectors are not torch's; a shorter run is of the first crops."""
    for name, found in vectors.items():
        n = min(len(found), len(vectors["torch"]))
        cosine = _least_cosine(found[:n], vectors["torch"][:n])
        least = 1 - 1e-6 if name == "torch" else _LEAST_COSINE[precision]
        if not cosine > least:
            raise SystemExit(f"{name}: cosine {cosine:.6f} with torch's vectors, not {least}")
        print(f"checked: {name}, smallest cosine with torch's {cosine:.7f}", flush=True)


def _least_cosine(found: np.ndarray, wanted: np.ndarray) -> float:
    a, b = (vectors - wanted.mean(axis=0) for vectors in (found, wanted))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / lengths).min())
