"""The ceiling: ONNX Runtime alone, on crops in the device's memory before the clock starts.

No image is read or cut, and nothing is written. On a CPU there are as many processes as found
best, each with its share of the cores and of the crops; on a GPU one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

import numpy as np
import onnxruntime

from benchmarks.embed_inputs import Embed, Inputs, Read, Settings, read_crops
from phenopipe.lake import Lake, model_folder
from phenopipe.models import find_model
from phenopipe.models.providers import PROVIDERS


@contextmanager
def open_processes(inputs: Inputs, settings: Settings) -> Iterator[Embed]:
    """Start the processes; each has its crops in memory and has run a batch."""
    context, pipes = get_context("spawn"), []
    for share in range(settings.processes):
        here, there = context.Pipe()
        context.Process(target=_serve, args=(there, share, inputs, settings), daemon=True).start()
        pipes.append(here)
    for pipe in pipes:
        pipe.recv()

    def embed() -> Read:
        for pipe in pipes:
            pipe.send("run")
        shares = [pipe.recv() for pipe in pipes]
        return lambda: _interleave(shares)

    yield embed


def _serve(pipe: Connection, share: int, inputs: Inputs, settings: Settings) -> None:
    threads = settings.threads // settings.processes
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))[share * threads :][:threads]
        os.sched_setaffinity(0, cores)
    crops = read_crops(inputs.plate, settings.crops)[share :: settings.processes]
    runtime = _open_runtime(inputs, settings, threads=threads)
    starts = range(0, len(crops), settings.batch)
    batches = [_put(crops[k : k + settings.batch], settings.device) for k in starts]
    _run(runtime, batches[:1], settings.device)
    pipe.send("ready")
    pipe.recv()
    pipe.send(_run(runtime, batches, settings.device))


def _open_runtime(
    inputs: Inputs, settings: Settings, *, threads: int
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    lake = Lake(inputs.lake)
    card = find_model(lake, inputs.model)
    model = lake.read_bytes(model_folder(card.name, card.version), "model.onnx")
    provider = PROVIDERS[settings.provider]
    return onnxruntime.InferenceSession(model, options, providers=[provider])


def _put(crops: np.ndarray, device: str) -> onnxruntime.OrtValue:
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(crops), device, 0)


def _run(
    runtime: onnxruntime.InferenceSession, batches: list[onnxruntime.OrtValue], device: str
) -> np.ndarray:
    """Run the batches one after the other; the vectors are copied from the device at the end."""
    binding, outputs = runtime.io_binding(), []
    for batch in batches:
        binding.bind_ortvalue_input(runtime.get_inputs()[0].name, batch)
        binding.bind_output(runtime.get_outputs()[0].name, device)
        runtime.run_with_iobinding(binding)
        outputs.append(binding.get_outputs()[0])
    return np.concatenate([output.numpy() for output in outputs])


def _interleave(shares: list[np.ndarray]) -> np.ndarray:
    """Put the vectors of the shares back in the order of the crops."""
    vectors = np.empty((sum(map(len, shares)), shares[0].shape[1]), np.float32)
    for number, share in enumerate(shares):
        vectors[number :: len(shares)] = share
    return vectors
