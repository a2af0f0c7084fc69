"""Run a model: an ONNX Runtime session that says where it runs, and never runs elsewhere."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as faults

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Thing

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

# Crops a run. Fixed, so that a crop's neighbours in a batch follow from its field alone. One
# crop's planes stay in a core's cache: four at a time took 1.4 times as long on a CPU.
_BATCH = {"cpu": 1, "cuda": 16}

_DTYPES = {"tensor(uint8)": "uint8", "tensor(uint16)": "uint16"}

_LOAD_FAULTS = (
    faults.Fail,
    faults.InvalidArgument,
    faults.InvalidGraph,
    faults.InvalidProtobuf,
    faults.NoSuchFile,
    faults.NotImplemented,
)


@dataclass(frozen=True)
class Session:
    """A loaded model; safe to share between threads.

    Attributes
    ----------
    provider
        The execution provider that runs it, as ONNX Runtime reports it.
    dtype
        The crops' dtype: ``uint8`` or ``uint16``.
    batch
        Crops a run.
    """

    provider: str
    dtype: str
    batch: int
    _runtime: Any

    def embed(self, crops: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Turn crops ``(n, c, y, x)``, n at least 1, into embeddings ``(n, d)`` float32.

        Raises
        ------
        InputError
            If the crops have another dtype or shape than the model takes, or the model gives
            NaN or infinity.
        """
        if crops.ndim != 4 or crops.dtype != self.dtype:
            raise InputError(
                f"expected crops (n, c, y, x) of {self.dtype}, found {crops.shape} of "
                f"{crops.dtype}: choose a model for these pixels"
            )
        starts = range(0, len(crops), self.batch)
        embedded = np.concatenate([self._run(crops[k : k + self.batch]) for k in starts])
        bad = np.flatnonzero(~np.isfinite(embedded).all(axis=1))
        if len(bad):
            raise InputError(
                f"expected finite values from the model, found NaN or infinity in {len(bad)} of "
                f"{len(crops)} crops (the first is crop {bad[0]}): export the model anew, with "
                "a floor under its denominators"
            )
        return embedded

    def _run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        name = self._runtime.get_inputs()[0].name
        try:
            embedded = self._runtime.run(None, {name: batch})[0]
        except faults.InvalidArgument as error:
            raise InputError(
                f"expected crops that the model takes, found {batch.shape}: {error}: set "
                "embed.crop to the model's size, or choose another model"
            ) from error
        return np.asarray(embedded, np.float32)


def open_session(model: Path | bytes, *, provider: str = "cpu", threads: int = 1) -> Session:
    """Load a model on the provider that is asked for, and no other.

    Parameters
    ----------
    model
        The ONNX file, or its bytes.
    provider
        ``cpu`` or ``cuda``.
    threads
        Threads within an operator; one where a worker runs on each core.

    Raises
    ------
    InputError
        If the provider is not there, or this is not a model of crops that ONNX Runtime loads.

    Examples
    --------
    >>> from phenopipe.models import build_classical
    >>> session = open_session(build_classical().SerializeToString())
    >>> session.provider
    'CPUExecutionProvider'
    >>> session.embed(np.zeros((4, 6, 32, 32), np.uint16)).shape
    (4, 162)
    """
    wanted = _check_provider(provider)
    runtime = _load(model, wanted, threads=threads)
    running = runtime.get_providers()[0]
    if running != wanted:
        raise InputError(
            f"expected the model to run on {wanted}, found {running}: install the driver and the "
            "libraries that ONNX Runtime names in its log, or set embed.provider"
        )
    runtime.disable_fallback()
    given = [tensor.type for tensor in runtime.get_inputs()]
    if len(given) != 1 or given[0] not in _DTYPES:
        raise InputError(
            f"expected a model of one input, crops of uint8 or uint16, found {', '.join(given)}: "
            "export it with the scaling inside the graph"
        )
    return Session(running, _DTYPES[given[0]], _BATCH[provider], runtime)


@lru_cache(maxsize=2)
def open_cached_session(root: str, model: Thing, digest: str, provider: str) -> Session:
    """Load a lake's model once a worker process, if it has the digest.

    Raises
    ------
    InputError
        If the model has another digest, or does not load on the provider.
    """
    return open_session(read_model(Lake(root), model, digest), provider=provider)


def read_model(lake: Lake, model: Thing, digest: str) -> bytes:
    """Read a model's ``model.onnx``, if it has the digest.

    Raises
    ------
    InputError
        If it differs: damaged, or changed after it was published.
    """
    content = lake.read_bytes(model, "model.onnx")
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise InputError(
            f"expected SHA-256 {digest[:12]}… of {model}, found {found[:12]}…: the file was "
            "changed or damaged, delete the model's folder and manifest and add it again"
        )
    return content


def _check_provider(provider: str) -> str:
    available = onnxruntime.get_available_providers()
    wanted = PROVIDERS.get(provider, "")
    if wanted not in available:
        raise InputError(
            f"expected one of the execution providers that are here "
            f"({', '.join(name for name, full in PROVIDERS.items() if full in available)}), found "
            f"{provider!r}: for cuda install onnxruntime-gpu (pip install 'phenopipe[gpu]')"
        )
    return wanted


def _load(model: Path | bytes, provider: str, *, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.use_deterministic_compute = True
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=[provider])
    except _LOAD_FAULTS as error:
        where = "the bytes given" if isinstance(model, bytes) else str(model)
        raise InputError(
            f"expected an ONNX model in {where}, found {error}: export it and add it again"
        ) from error
