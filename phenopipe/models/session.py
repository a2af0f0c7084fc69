"""Run a model: an ONNX Runtime session that says where it runs, and never runs elsewhere."""

import hashlib
import math
import os
import threading
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as faults

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Thing
from phenopipe.models.batches import Batches
from phenopipe.models.binding import Binding
from phenopipe.models.engines import check_shape, engine_recipe, fix_shape, share_engine
from phenopipe.models.providers import (
    DEVICES,
    PROVIDERS,
    Options,
    check_placement,
    check_provider,
    choose_options,
    describe_device,
    prepare_cuda,
)

# Crops a run that say what the bits are, on a GPU, and the most that is tried. TensorRT's engine
# takes one number. 64 are the crops of a field of 2048² pixels.
_GPU_BATCHES = {"cuda": (64, 1024), "tensorrt": (64, 64)}

# On a CPU a run's planes, as float32, should stay in a core's cache: measured on ViT-S/16 and the
# classical features with crops of 48 to 256 px, this is within 5% of the best number for each;
# one crop a run takes up to 1.8 times as long, eight up to 1.3 times.
_CPU_BYTES, _CPU_MOST = 768 << 10, 16

_DTYPES = {"tensor(uint8)": "uint8", "tensor(uint16)": "uint16"}

_EXTERNAL = "session.model_external_initializers_file_folder_path"
_LOAD_FAULTS = (
    faults.EPFail,
    faults.Fail,
    faults.InvalidArgument,
    faults.InvalidGraph,
    faults.InvalidProtobuf,
    faults.NoSuchFile,
    faults.NotImplemented,
    faults.RuntimeException,
)

Shape = tuple[int, int, int]


class Session:
    """A loaded model; safe to share between threads.

    Two threads that embed at once overlap the copy to a GPU of one with the run of the other.

    Attributes
    ----------
    provider
        The execution provider that runs it, as ONNX Runtime reports it.
    dtype
        The crops' dtype: ``uint8`` or ``uint16``.
    """

    def __init__(self, runtime: Any, *, provider: str, dtype: str, fixed: int | None) -> None:
        self.provider = PROVIDERS[provider]
        self.dtype = dtype
        self._name = provider
        self._runtime = runtime
        self._fixed = fixed
        self._batches: dict[tuple[int, ...], Batches] = {}
        self._of_thread = threading.local()
        self._turn = threading.Lock() if DEVICES[provider] == "cuda" else None

    @property
    def batch(self) -> int:
        """Crops a run that say what the bits are; on a CPU 1 until it has seen their shape."""
        first, _ = _GPU_BATCHES.get(self._name, (1, 1))
        sizes = [batches.batch for batches in self._batches.values()]
        return self._fixed or min(sizes, default=first)

    def describe(self) -> dict[str, str]:
        """Say what the bits depend on: provider, device, runtime and batch.

        Examples
        --------
        >>> from phenopipe.models import build_classical
        >>> sorted(open_session(build_classical().SerializeToString()).describe())
        ['batch', 'device', 'provider', 'runtime']
        """
        return describe_device(self._name) | {"batch": str(self.batch)}

    def embed(self, crops: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Turn crops ``(n, c, y, x)``, n at least 1, into embeddings ``(n, d)`` float32.

        Crops are run some at a time, in order. The bits depend on a crop's pixels, on its place
        and on the number of crops, so give a field's crops at once, or cut at a multiple of
        ``batch``; how many a run takes on a GPU is found by trying and changes no bits.

        Raises
        ------
        InputError
            If the crops have another dtype or shape than the model takes, the model gives NaN or
            infinity, or there is no memory for one run.
        OSError
            If the device fails.
        """
        if crops.ndim != 4 or crops.dtype != self.dtype:
            raise InputError(
                f"expected crops (n, c, y, x) of {self.dtype}, found {crops.shape} of "
                f"{crops.dtype}: choose a model for these pixels"
            )
        embedded = self._find_batches(crops.shape[1:]).run_all(self._binding().run, crops)
        bad = np.flatnonzero(~np.isfinite(embedded).all(axis=1))
        if len(bad):
            raise InputError(
                f"expected finite values from the model, found NaN or infinity in {len(bad)} of "
                f"{len(crops)} crops (the first is crop {bad[0]}): export the model anew, with "
                "a floor under its denominators"
            )
        return embedded

    def _find_batches(self, shape: tuple[int, ...]) -> Batches:
        batch, most = _choose_batch(self._name, shape)
        fixed = self._fixed is not None or self._name == "tensorrt"
        new = Batches(self._fixed or batch, most=most, fixed=fixed)
        return self._batches.setdefault(shape, new)

    def _binding(self) -> Binding:
        binding: Binding | None = getattr(self._of_thread, "binding", None)
        if binding is None:
            binding = Binding(self._runtime, device=DEVICES[self._name], turn=self._turn)
            self._of_thread.binding = binding
        return binding


def open_session(
    model: Path | bytes,
    *,
    provider: str = "cpu",
    threads: int = 1,
    precision: str = "fp32",
    shape: Shape | None = None,
    cache: Path | None = None,
) -> Session:
    """Load a model on the provider that is asked for, and no other.

    Parameters
    ----------
    model
        The ONNX file, or its bytes.
    provider
        ``cpu``, ``cuda``, ``tensorrt`` or ``openvino``.
    threads
        Threads within an operator on the CPU; one where a worker runs on each core.
    precision
        The model's, from its card.
    shape
        A crop's ``(c, y, x)``: TensorRT builds its engine for one shape.
    cache
        A folder for TensorRT's engines.

    Raises
    ------
    InputError
        If the provider is not there, does not run all of the model's work, or this is not a model
        of crops that ONNX Runtime loads; or TensorRT is given no shape.

    Examples
    --------
    >>> from phenopipe.models import build_classical
    >>> session = open_session(build_classical().SerializeToString())
    >>> session.provider
    'CPUExecutionProvider'
    >>> session.embed(np.zeros((4, 6, 32, 32), np.uint16)).shape
    (4, 162)
    """
    check_provider(provider)
    options = _session_options(provider, threads=threads)
    if DEVICES[provider] == "cuda":
        prepare_cuda()
    if provider == "tensorrt":
        fix_shape(options, model, _engine_shape(shape))
    chain = choose_options(provider, threads=threads, precision=precision, cache=cache)
    runtime = _load(model, options, chain)
    _check_running(runtime, PROVIDERS[provider])
    dtype = _check_input(runtime)
    of_graph = runtime.get_inputs()[0].shape[0]
    fixed = of_graph if isinstance(of_graph, int) else None
    return Session(runtime, provider=provider, dtype=dtype, fixed=fixed)


@lru_cache(maxsize=2)
def open_cached_session(
    root: str,
    model: Thing,
    digest: str,
    provider: str,
    *,
    threads: int = 1,
    precision: str = "fp32",
    shape: Shape | None = None,
) -> Session:
    """Load a lake's model once a worker process, if it has the digest.

    TensorRT's engine comes from the lake; the first worker that needs it builds it.

    Raises
    ------
    InputError
        If the model has another digest, or does not load on the provider.
    """
    lake = Lake(root)
    check_provider(provider)
    open_model = partial(
        open_session,
        read_model(lake, model, digest),
        provider=provider,
        threads=threads,
        precision=precision,
        shape=shape,
    )
    if provider != "tensorrt":
        return open_model()
    recipe = engine_recipe(digest, precision=precision, shape=_engine_shape(shape))
    return share_engine(lake, recipe, build=lambda folder: open_model(cache=folder))


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


def _engine_shape(shape: Shape | None) -> tuple[int, ...]:
    return (_GPU_BATCHES["tensorrt"][0], *check_shape(shape))


def _choose_batch(provider: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Choose the crops a run for a shape ``(c, y, x)``, and the most that is tried."""
    if provider in _GPU_BATCHES:
        return _GPU_BATCHES[provider]
    fitting = _CPU_BYTES // (4 * math.prod(shape))
    batch = 1 << (min(max(fitting, 1), _CPU_MOST).bit_length() - 1)
    return batch, batch


def _session_options(provider: str, *, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.use_deterministic_compute = True
    # A thread that waits must not take the core of another worker.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider != "cpu":
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _load(model: Path | bytes, options: Any, chain: list[tuple[str, Options]]) -> Any:
    source = model if isinstance(model, bytes) else str(model)
    if isinstance(model, bytes):
        # Tensors kept in other files are looked for in the working directory otherwise, of which
        # the model's digest says nothing.
        options.add_session_config_entry(_EXTERNAL, os.devnull)
    try:
        return onnxruntime.InferenceSession(source, options, chain, enable_fallback=0)
    except _LOAD_FAULTS as error:
        where = "the bytes given" if isinstance(model, bytes) else str(model)
        raise InputError(
            f"expected an ONNX model in {where} for {chain[0][0]}, found {error}: export it and "
            "add it again, or choose another provider"
        ) from error


def _check_running(runtime: Any, wanted: str) -> None:
    running = runtime.get_providers()[0]
    if running != wanted:
        raise InputError(
            f"expected the model to run on {wanted}, found {running}: install the driver and the "
            "libraries that ONNX Runtime names in its log, or set embed.provider"
        )
    if wanted != PROVIDERS["cpu"]:
        parts = runtime.get_provider_graph_assignment_info()
        placed = [(part.ep_name, node.op_type) for part in parts for node in part.get_nodes()]
        check_placement(placed, provider=wanted)


def _check_input(runtime: Any) -> str:
    given = [tensor.type for tensor in runtime.get_inputs()]
    if len(given) != 1 or given[0] not in _DTYPES:
        raise InputError(
            f"expected a model of one input, crops of uint8 or uint16, found {', '.join(given)}: "
            "export it with the scaling inside the graph"
        )
    return _DTYPES[given[0]]
