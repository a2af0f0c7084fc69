"""Embed on one NVIDIA GPU: the rate, its share of the matrix peak, and how often the GPU idles.

``python -m benchmarks.embed_gpu``, where onnxruntime-gpu, dask-cuda and torch with CUDA are
installed (pip install 'phenopipe[gpu,train]'). The contenders are those of ``benchmarks.embed``:
phenopipe end to end; the bare session, on crops in the GPU's memory; and torch's eager loop over
TIFFs, in float32 as torch comes (without TF32).

The share of the peak is crops/s times FLOP a crop by the peak in FLOP/s. FLOP are counted from the
architecture (``Vit.flops`` in benchmarks/vits.py): 2 for a multiply and add, of matrix products
alone. The channel-agnostic S/16 makes n = 1 + 6 x 256 = 1,537 tokens of w = 384 values of a crop
of 6 x 256 x 256::

    tokens      2 x 6 x 256 x 256 x 384              0.30 GFLOP
    weights     12 blocks x 24 x 1,537 x 384^2      65.27 GFLOP
    attention   12 blocks x 4 x 1,537^2 x 384       43.54 GFLOP
    together                                       109.12 GFLOP

The peak is that of dense bf16 in the device's data sheet (benchmarks/gpu.py), or ``--peak``. The
989 TFLOP/s of an H100 are 9,064 such crops a second.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from onnxruntime import get_available_providers

from benchmarks.embed import OURS, PACKAGES, print_table
from benchmarks.embed_inputs import Inputs, Settings, prepare_inputs
from benchmarks.embed_rounds import find_settings, run_rounds
from benchmarks.gpu import PEAKS, find_peak, has_gpu, name_gpu
from benchmarks.measured import Measured
from benchmarks.plates import draw_plate, link_plate
from benchmarks.projection import Costs, describe_projection
from benchmarks.rounds import describe_machine, spread
from benchmarks.vits import VITS
from phenopipe.errors import InputError

# Crops of the bare session, which must fit in the GPU's memory, and of torch: seconds of work.
_CROPS = {"session": 4096, "torch": 1024}
_BATCHES = (16, 64, 256)
_DRAWN = 32
_WARM_UP_FIELDS = 16


def main() -> None:
    given = _parse()
    try:
        _check_machine()
        peak = _choose_peak(given)
    except InputError as error:
        print(f"embed_gpu: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    # One GPU, and the one that the driver calls its first: it is watched.
    os.environ |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0"}
    inputs = _prepare(given)
    settings = {name: _choose(name, inputs, given) for name in (OURS, *_CROPS)}
    runs = run_rounds(inputs, settings, repeats=given.repeats)
    print("\n" + describe_machine(given.folder, threads=given.threads, packages=PACKAGES))
    print(f"{name_gpu()}: {peak / 1e12:.0f} TFLOP/s of dense bf16")
    print_table(inputs, settings, runs)
    _print_shares(inputs, settings, runs, peak=peak)
    seconds = statistics.median(run.seconds for run in runs[OURS])
    print(describe_projection(Costs(settings[OURS].crops / seconds)))


def _parse() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--model", choices=VITS, default="agnostic-s16")
    arguments.add_argument("--provider", choices=("cuda", "tensorrt"), default="cuda")
    arguments.add_argument("--precision", choices=("fp32", "fp16", "bf16"), default="bf16")
    arguments.add_argument("--fields", type=int, default=1024, help="of 64 crops; 33 MB each")
    arguments.add_argument("--repeats", type=int, default=5, help="rounds that are timed")
    arguments.add_argument("--threads", type=int, default=8, help="cores that all may use")
    arguments.add_argument("--peak", type=float, help="the device's TFLOP/s of dense bf16")
    arguments.add_argument("--folder", type=Path, default=Path(".bench"), help="for the pixels")
    return arguments.parse_args()


def _check_machine() -> None:
    """Name all that the machine lacks."""
    needed = {
        "NVIDIA GPU": has_gpu,
        "onnxruntime-gpu": lambda: "CUDAExecutionProvider" in get_available_providers(),
        "dask-cuda": lambda: find_spec("dask_cuda") is not None,
        "torch with CUDA": _has_torch_with_cuda,
    }
    lacking = [f"no {what}" for what, is_there in needed.items() if not is_there()]
    if lacking:
        raise InputError(
            f"expected a GPU and what computes on it, found {', '.join(lacking)}: run this on a "
            "machine with an NVIDIA GPU after pip install 'phenopipe[gpu,train]'; "
            "python -m benchmarks.embed measures on a CPU"
        )


def _has_torch_with_cuda() -> bool:
    if find_spec("torch") is None:
        return False
    import torch  # noqa: PLC0415 - takes seconds, and is not everywhere

    return bool(torch.cuda.is_available())


def _choose_peak(given: argparse.Namespace) -> float:
    """Give the peak in FLOP/s: what is given, or the device's."""
    peak = given.peak * 1e12 if given.peak else find_peak(name_gpu())
    if peak is None:
        raise InputError(
            f"expected a GPU among {', '.join(PEAKS)}, found {name_gpu()}: give the TFLOP/s of "
            "dense bf16 in its data sheet (--peak)"
        )
    return peak


def _prepare(given: argparse.Namespace) -> Inputs:
    """Draw some fields, and link them into plates of as many as asked for."""
    drawn = draw_plate(given.folder / f"{_DRAWN}-fields", fields=_DRAWN)
    plate, warm_up = (
        link_plate(drawn, given.folder / f"{n}-linked", fields=n)
        for n in (given.fields, _WARM_UP_FIELDS)
    )
    lake = given.folder / f"embed-{given.fields}-linked"
    return prepare_inputs(
        plate,
        warm_up,
        lake,
        VITS[given.model],
        precision=given.precision,
        provider=given.provider,
    )


def _choose(name: str, inputs: Inputs, given: argparse.Namespace) -> Settings:
    crops = min(inputs.n_crops, _CROPS.get(name, inputs.n_crops))
    settings = Settings(given.threads, crops, provider=given.provider)
    if name == OURS:
        return settings
    return find_settings(name, inputs, settings, batches=_BATCHES, crops=crops)


def _print_shares(
    inputs: Inputs,
    settings: Mapping[str, Settings],
    runs: Mapping[str, Sequence[Measured]],
    *,
    peak: float,
) -> None:
    print("\n| contender | share of the bf16 peak (min to max) | GPU idle (min to max) |")
    print("|---|---|---|")
    for name, found in runs.items():
        flops = settings[name].crops * inputs.vit.flops
        shares = [flops / run.seconds / peak for run in found]
        idle = [run.gpu_idle for run in found if run.gpu_idle is not None]
        print(f"| {name} | {spread(shares)} | {spread(idle)} |")
    print()


if __name__ == "__main__":
    main()
