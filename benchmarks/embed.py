"""Embed side by side with the bare session, the ceiling, and with torch's loop over TIFFs.

``python -m benchmarks.embed``, or ``make bench``. For each model all contenders embed the same
crops with as many threads. Their vectors are compared before anything is timed; then each round
runs all of them in an order that turns, and ratios are taken within a round. See
docs/benchmarks.md.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.embed_inputs import CROPS_A_FIELD, Inputs, Settings, prepare_inputs
from benchmarks.embed_rounds import find_settings, run_rounds
from benchmarks.measured import Measured
from benchmarks.plates import SIZE, draw_plate
from benchmarks.rounds import describe_machine, spread
from benchmarks.vits import N_CHANNELS, VITS, Vit

OURS = "phenopipe"
CONTENDERS = (OURS, "session", "torch")
PACKAGES = ("phenopipe", "onnxruntime", "torch", "zarr", "zarrs", "dask")

# A minute's work a run on two cores: the costs of a plate that do not grow with it weigh little.
_FIELDS = {"vit-s16": 12, "agnostic-s16": 2}
_BATCHES = (1, 4, 16)
# So many that the fastest of them is not a matter of chance.
_TRIAL_CROPS = {"vit-s16": 128, "agnostic-s16": 16}


def main() -> None:
    given = _parse()
    told = {}
    for name in given.models:
        inputs = _prepare(VITS[name], given)
        settings = {contender: _choose(contender, inputs, given) for contender in CONTENDERS}
        runs = run_rounds(inputs, settings, repeats=given.repeats)
        print("\n" + describe_machine(given.folder, threads=given.threads, packages=PACKAGES))
        print_table(inputs, settings, runs)
        told[inputs.model] = {who: [vars(run) for run in found] for who, found in runs.items()}
    if given.json:
        given.json.write_text(json.dumps(told, indent=1) + "\n")


def print_table(
    inputs: Inputs, settings: Mapping[str, Settings], runs: Mapping[str, Sequence[Measured]]
) -> None:
    """Print a row a contender: medians, and how far the rounds spread."""
    fields, gflop = inputs.n_crops // CROPS_A_FIELD, inputs.vit.flops / 1e9
    print(
        f"{inputs.model}: {inputs.vit.tokens} tokens and {gflop:.1f} GFLOP a crop; {fields} fields "
        f"of {N_CHANNELS} x {SIZE} x {SIZE} uint16, {CROPS_A_FIELD} crops each; "
        f"{len(runs[OURS])} rounds\n"
    )
    print(
        "| contender | s, median (min to max) | crops/s | GFLOP/s | times phenopipe (min to max) "
        "| peak MiB | processes x batch |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, found in runs.items():
        seconds = [run.seconds for run in found]
        rate = settings[name].crops / statistics.median(seconds)
        # By crop: on a GPU the contenders run as many as take them some seconds.
        size = settings[name].crops / settings[OURS].crops
        pairs = zip(found, runs[OURS], strict=True)
        ratios = [run.seconds / size / own.seconds for run, own in pairs]
        peak = max(run.peak_bytes for run in found) / 2**20
        chosen = settings[name]
        how = "its own" if name == OURS else f"{chosen.processes} x {chosen.batch}"
        print(
            f"| {name} | {spread(seconds)} | {rate:.2f} | {rate * gflop:.0f} | {spread(ratios)} "
            f"| {peak:.0f} | {how} |"
        )


def _parse() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--models", nargs="+", choices=VITS, default=list(VITS))
    arguments.add_argument("--fields", type=int, help=f"of 64 crops; by default {_FIELDS}")
    arguments.add_argument("--repeats", type=int, default=5, help="rounds that are timed")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--provider", choices=("cpu", "openvino"), default="cpu")
    arguments.add_argument("--precision", choices=("fp32", "int8"), default="fp32")
    arguments.add_argument("--batch", type=int, help="of session and torch; by trial if not given")
    arguments.add_argument("--folder", type=Path, default=Path(".bench"), help="for the pixels")
    arguments.add_argument("--json", type=Path, help="where to write every figure")
    return arguments.parse_args()


def _prepare(vit: Vit, given: argparse.Namespace) -> Inputs:
    """Draw as many fields as asked for, and one a worker to warm up with."""
    fields = given.fields or _FIELDS[vit.name]
    plate, warm_up = (
        draw_plate(given.folder / f"{n}-fields", fields=n) for n in (fields, given.threads)
    )
    lake = given.folder / f"embed-{fields}"
    return prepare_inputs(
        plate, warm_up, lake, vit, precision=given.precision, provider=given.provider
    )


def _choose(contender: str, inputs: Inputs, given: argparse.Namespace) -> Settings:
    n = given.threads if contender == "session" else 1
    settings = Settings(given.threads, inputs.n_crops, processes=n, provider=given.provider)
    if contender == OURS:
        return settings
    batches = (given.batch,) if given.batch else _BATCHES
    crops = _TRIAL_CROPS[inputs.vit.name]
    return find_settings(contender, inputs, settings, batches=batches, crops=crops)


if __name__ == "__main__":
    main()
