"""Illumination functions: how bright the light falls on each pixel, and images divided by it."""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phenopipe.errors import InputError
from phenopipe.ingest.image_fault import MAX_BYTES


@lru_cache(maxsize=16)
def read_illumination(path: Path) -> NDArray[np.float32]:
    """Read an illumination function as CellProfiler saves it: a ``.npy`` file of ``(y, x)``.

    Raises
    ------
    InputError
        If it cannot be read, or is not of two dimensions with numbers above zero.
    """
    try:
        found = _load(path)
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, MemoryError) as error:
        raise InputError(
            f"expected an illumination function (.npy) at {path}, found {error}: copy it anew, "
            "or ingest without illumination"
        ) from error
    good = found.ndim == 2 and found.dtype.kind in "fiu" and np.isfinite(found).all()
    if not good or found.size == 0 or found.min() <= 0:
        raise InputError(
            f"expected numbers above zero of shape (y, x) in {path}, found {found.shape} "
            f"{found.dtype}: make the illumination function anew, or ingest without illumination"
        )
    return np.asarray(found, np.float32)


def _load(path: Path) -> NDArray[Any]:
    """Load an array whose header promises as many bytes as the file has."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(file)
        left = path.stat().st_size - file.tell()
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes != left or nbytes > MAX_BYTES:
        raise ValueError(f"{left} bytes where its header declares {shape} {dtype}")
    loaded: NDArray[Any] = np.load(path, allow_pickle=False)
    return loaded


def correct_illumination(plane: NDArray[Any], function: NDArray[np.float32]) -> NDArray[Any]:
    """Divide an image by its illumination function, in the image's own dtype.

    Quotients are rounded half to even, and cut off at the dtype's top.

    Parameters
    ----------
    plane, function
        Pixels ``(y, x)`` of an unsigned integer, and the function of the same shape.

    Raises
    ------
    InputError
        If their shapes differ.

    Examples
    --------
    >>> plane = np.array([[100, 200], [250, 3]], dtype="uint8")
    >>> correct_illumination(plane, np.array([[2, 1], [0.5, 2]], dtype="float32"))
    array([[ 50, 200],
           [255,   2]], dtype=uint8)
    """
    if plane.shape != function.shape:
        raise InputError(
            f"expected an illumination function of the image's {plane.shape}, found "
            f"{function.shape}: give the function of this plate, or ingest without illumination"
        )
    top = np.iinfo(plane.dtype).max
    return np.clip(np.rint(plane / function), 0, top).astype(plane.dtype)
