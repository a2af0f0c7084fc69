"""Pixels in and out of Zarr arrays, always through one codec pipeline with one setting."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import LocalStore, MemoryStore, StorePath

from phenopipe.errors import InputError

# The zarrs pipeline packs and unpacks a shard in about 5 ms where zarr-python's own takes 16 to 27
# (6 x 160 x 160, measured). With more than one thread it lays the inner chunks in the order in
# which they are done, so the bytes would differ; a worker computes on one thread anyway. An array
# of zeros has no shard, as Zarr has it; the manifest's digests tell it from one that was lost.
_CODECS = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": 1}

_PYTHON = "zarr.core.codec_pipeline.BatchedCodecPipeline"
# An array keeps the pipeline with which it was opened; the setting itself is the process's.
_lock = Lock()


def read_array(path: Path, *, planes: Sequence[int] | None = None) -> NDArray[Any]:
    """Read an array, or some planes of it, decoding no others.

    Parameters
    ----------
    path
        The array's folder.
    planes
        Indices along the first axis, in the order wanted; all of them by default.

    Raises
    ------
    InputError
        If its bytes are damaged.
    """
    array = _build(path, (path / "zarr.json").read_bytes())
    try:
        if planes is None or list(planes) == list(range(array.shape[0])):
            return np.asarray(array[:])
        # One by one: zarrs takes what stands side by side only, and leaves the rest to zarr's own.
        return np.concatenate([np.asarray(array[plane : plane + 1]) for plane in planes])
    except RuntimeError as error:  # zarrs knows no other for bytes that it cannot decode
        raise InputError(
            f"expected pixels as they were published, found damaged bytes ({error}): list all that "
            "is damaged with phenopipe verify, and ingest the plate again"
        ) from error


def write_array(path: Path, pixels: NDArray[Any], *, metadata: bytes) -> None:
    """Write a whole array: first its metadata, then its shard.

    Parameters
    ----------
    path
        The array's folder; made here.
    pixels
        All of it, of the metadata's shape and dtype. The same pixels give the same bytes.
    metadata
        The content of ``zarr.json``, made once for all arrays that are alike.
    """
    path.mkdir(parents=True)
    (path / "zarr.json").write_bytes(metadata)
    _build(path, metadata)[:] = pixels


def open_files(files: Mapping[str, bytes]) -> zarr.Array[Any]:
    """Open an array of Zarr 2 or 3 from the content of its files, by their paths in its folder.

    zarr's own pipeline decodes it, from whatever source: on damaged bytes its decoders raise, where
    those of zarrs may end the process.
    """
    prototype = default_buffer_prototype()
    store = MemoryStore({name: prototype.buffer.from_bytes(data) for name, data in files.items()})
    zarr_format: Literal[2, 3] = 3 if "zarr.json" in files else 2
    with _lock, zarr.config.set({"codec_pipeline.path": _PYTHON}):
        return zarr.open_array(store, mode="r", zarr_format=zarr_format)


def _build(path: Path, metadata: bytes) -> zarr.Array[Any]:
    """Make the array from its metadata alone.

    Nothing is asked of the disk while the setting is made: zarr would start its pool of threads
    then, with one thread for the whole process, and two workers in it would wait for one another.
    """
    described = ArrayV3Metadata.from_dict(json.loads(metadata))
    place = StorePath(LocalStore(path))
    with _lock, zarr.config.set(_CODECS):
        return zarr.Array(zarr.AsyncArray(metadata=described, store_path=place))
