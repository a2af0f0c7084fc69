"""Pixels in and out of Zarr arrays, always through one codec pipeline with one setting."""

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

# The zarrs pipeline packs and unpacks a shard in about 5 ms where zarr-python's own takes 16 to 27
# (6 x 160 x 160, measured). With more than one thread it lays the inner chunks in the order in
# which they are done, so the bytes would differ; a worker computes on one thread anyway. An array
# of zeros has no shard, as Zarr has it; the manifest's digests tell it from one that was lost.
_CODECS = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": 1}


def read_array(path: Path) -> NDArray[Any]:
    """Read a whole array.

    Parameters
    ----------
    path
        The array's folder.
    """
    return np.asarray(_open(path, mode="r")[:])


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
    _open(path, mode="r+")[:] = pixels


def _open(path: Path, *, mode: str) -> zarr.Array[Any]:
    # Set for the process, not for a while: threads would undo one another's settings.
    zarr.config.set(_CODECS)
    return zarr.open_array(path, mode=mode)
