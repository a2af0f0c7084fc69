"""One run on a device: crops into a buffer there, vectors back; and what a failed run means."""

import re
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as faults

from phenopipe.errors import InputError
from phenopipe.models.batches import OutOfMemory

# What a run raises: bound to buffers it gives mostly a plain RuntimeError.
_RUN_FAULTS = (
    MemoryError,
    RuntimeError,
    faults.EPFail,
    faults.Fail,
    faults.InvalidArgument,
    faults.NotImplemented,
    faults.RuntimeException,
)

# ONNX Runtime has no kind of fault for this, only words: its arena's, CUDA's and TensorRT's.
_NO_MEMORY = re.compile(
    r"failed to allocate memory|smaller than requested bytes|bad_alloc|out ?of ?memory"
    r"|insufficient memory|_ALLOC_FAILED",
    re.IGNORECASE,
)
_BROKEN_DEVICE = re.compile(r"CUDA (failure|error)|CUDNN_STATUS|CUBLAS_STATUS|TensorRT", re.I)


class Binding:
    """The buffers of one thread, for one session.

    Crops are copied into a buffer on the GPU that is kept from run to run, and vectors stay there
    until they are fetched: ONNX Runtime then copies nothing by itself. On a CPU crops are used in
    place.

    Parameters
    ----------
    device
        Where the provider's tensors lie: ``cpu`` or ``cuda``.
    turn
        Held while the model runs, not while crops are copied: on a GPU one run at a time needs
        the memory of one, and the next run's crops arrive meanwhile.
    """

    def __init__(
        self, runtime: Any, *, device: str, turn: AbstractContextManager[Any] | None = None
    ) -> None:
        self._runtime = runtime
        self._device = device
        self._turn = turn or nullcontext()
        self._bound = runtime.io_binding()
        self._input = runtime.get_inputs()[0].name
        self._output = runtime.get_outputs()[0].name
        self._buffer: Any = None

    def run(self, crops: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Run crops ``(n, c, y, x)`` at once; give vectors ``(n, d)``.

        Raises
        ------
        OutOfMemory
            If the device has no memory for so many.
        InputError
            If the model does not take such crops, or does not give a vector a crop.
        OSError
            If the device fails.
        """
        try:
            vectors = self._run(crops)
        except _RUN_FAULTS as error:
            raise _tell_fault(error, crops.shape[1:]) from error
        if vectors.ndim != 2 or len(vectors) != len(crops):
            raise InputError(
                f"expected a vector a crop from the model, found {vectors.shape} for "
                f"{len(crops)} crops: export it with vectors (n, d) as its first output"
            )
        return np.asarray(vectors, np.float32)

    def _run(self, crops: npt.NDArray[Any]) -> Any:
        self._bound.bind_ortvalue_input(self._input, self._place(crops))
        self._bound.bind_output(self._output, self._device, 0)
        with self._turn:
            self._runtime.run_with_iobinding(self._bound)
        return self._bound.copy_outputs_to_cpu()[0]

    def _place(self, crops: npt.NDArray[Any]) -> Any:
        make = onnxruntime.OrtValue
        if self._device == "cpu":
            return make.ortvalue_from_numpy(np.ascontiguousarray(crops))
        if self._buffer is None or tuple(self._buffer.shape()) != crops.shape:
            self._buffer = None
            self._buffer = make.ortvalue_from_shape_and_type(
                crops.shape, crops.dtype, self._device, 0
            )
        self._buffer.update_inplace(crops)
        return self._buffer


def _tell_fault(error: Exception, shape: tuple[int, ...]) -> Exception:
    text = str(error)
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return OutOfMemory(text or "MemoryError")
    if _BROKEN_DEVICE.search(text):
        return OSError(f"expected the device to run crops {shape}, found {text}: try again")
    return InputError(
        f"expected crops that the model takes, found {shape}: {text}: set embed.crop to the "
        "model's size, or choose another model"
    )
