"""One Zarr array, version 2 or 3, as an image: its folder's files to pixels, or a named fault."""

import os
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import ceil, prod
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from phenopipe.arrays import open_files
from phenopipe.digests import digest_bytes, digest_json
from phenopipe.ingest.image_fault import MAX_BYTES, ImageFault

ARRAY_FILES = (".zarray", "zarr.json")
# An array of 1 GiB in chunks of 64 x 64 pixels has half as many; more would take minutes.
_MOST_CHUNKS = 2**18
# The offset of a chunk that a shard does not hold.
_ABSENT = 2**64 - 1


def read_zarr_array(path: str | Path) -> NDArray[Any]:
    """Read a whole Zarr array.

    Parameters
    ----------
    path
        The array's folder, with ``.zarray`` (version 2) or ``zarr.json`` (version 3).

    Returns
    -------
    ndarray
        ``(…, y, x)`` on the array's own axes, in its own dtype and the machine's byte order. A
        chunk that is not there has the array's fill value, as Zarr has it.

    Raises
    ------
    ImageFault
        If the folder gives no array, with `kind` and `path`; never another exception.
    """
    return decode_zarr_array(read_zarr_files(path), path)


def read_zarr_files(path: str | Path) -> dict[str, bytes]:
    """Read all files of an array's folder, for `decode_zarr_array` and for their digest.

    Returns
    -------
    dict
        Content by path relative to the folder, with ``/``, sorted.

    Raises
    ------
    ImageFault
        If there is no such folder, a file cannot be read, or all have more than `MAX_BYTES`.
    """
    folder = Path(path)
    try:
        names = sorted(_walk(folder))
        size = sum(_plain_size(folder / name, path) for name in names)
        if size > MAX_BYTES:
            raise ImageFault("too_large", path, f"its files have {size} bytes")
        return {name: (folder / name).read_bytes() for name in names}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageFault("missing", path, "there is no such folder") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ImageFault("unreadable", path, str(error)) from error


def digest_zarr_files(files: Mapping[str, bytes]) -> str:
    """Digest an array's files together: the digest of their paths and digests.

    Examples
    --------
    >>> one, other = {".zarray": b"{}", "0.0": b"12"}, {"0.0": b"12", ".zarray": b"{}"}
    >>> digest_zarr_files(one) == digest_zarr_files(other) != digest_zarr_files({"0.0": b"12"})
    True
    """
    return digest_json({name: digest_bytes(data) for name, data in files.items()})


def decode_zarr_array(files: Mapping[str, bytes], path: str | Path) -> NDArray[Any]:
    """Decode the files of a Zarr array; the path is for the fault.

    Returns and raises as `read_zarr_array`.
    """
    if not any(name in files for name in ARRAY_FILES):
        raise ImageFault("not_an_image", path, f"expected one of {', '.join(ARRAY_FILES)} in it")
    with _faults(path, "its metadata"):
        array = open_files(files)
    _check_size(array, path)
    with _faults(path, "its chunks"):
        _check_chunks(array, files)
        pixels = np.asarray(array[...])
    return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))


def _check_size(array: zarr.Array[Any], path: str | Path) -> None:
    """Refuse what is no image or too large, by what the metadata declare."""
    shape, chunks = array.shape, array.shards or array.chunks
    if array.dtype.kind not in "biuf":
        raise ImageFault("unsupported", path, f"expected numbers, found {array.dtype}")
    if len(shape) < 2 or not all(shape) or not all(array.chunks):
        raise ImageFault("corrupt", path, f"expected pixels, found {shape} in {array.chunks}")
    counts = [ceil(size / chunk) for size, chunk in zip(shape, array.chunks, strict=True)]
    nbytes = max(prod(shape), prod(chunks)) * array.dtype.itemsize
    if nbytes > MAX_BYTES or prod(counts) > _MOST_CHUNKS:
        text = f"its metadata declare {nbytes} bytes in {prod(counts)} chunks"
        raise ImageFault("too_large", path, text)


def _check_chunks(array: zarr.Array[Any], files: Mapping[str, bytes]) -> None:
    """Refuse chunks that zarr would read as blank, or beyond their end: c-blosc trusts its header.

    An empty shard reads as one without chunks.
    """
    blosc = any(isinstance(codec, BloscCodec | numcodecs.Blosc) for codec in array.compressors)
    for name, data in files.items():
        if name.startswith(".z") or name == "zarr.json":
            continue
        if not data:
            raise ValueError(f"{name} has no bytes")
        for chunk in _cut_shard(array, data) if blosc else ():
            if len(chunk) < 16 or struct.unpack_from("<I", chunk, 12)[0] != len(chunk):
                raise ValueError(f"a Blosc header in {name} does not fit its chunk")


def _cut_shard(array: zarr.Array[Any], data: bytes) -> list[bytes]:
    """Cut a file into its compressed chunks by the table at the shard's end or start."""
    if array.shards is None:
        return [data]
    metadata: Any = array.metadata
    (sharding,) = metadata.codecs
    per_shard = zip(array.shards, array.chunks, strict=True)
    length = 16 * prod(shard // chunk for shard, chunk in per_shard)
    # A checksum of 4 bytes follows the table where its codecs say so: zarr checks it.
    check = 4 * (len(sharding.index_codecs) - 1)
    at = 0 if sharding.index_location.value == "start" else len(data) - length - check
    table = np.frombuffer(data, "<u8", length // 8, offset=at).reshape(-1, 2).tolist()
    return [data[start : start + size] for start, size in table if start != _ABSENT]


def _walk(folder: Path, inner: str = "") -> Iterator[str]:
    """Give the path of each file below the folder; links to folders are not followed."""
    with os.scandir(folder / inner) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder, f"{inner}{entry.name}/")
            else:
                yield inner + entry.name


def _plain_size(file: Path, path: str | Path) -> int:
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ImageFault("not_an_image", path, f"expected plain files, found {file.name}")
    return found.st_size


@contextmanager
def _faults(path: str | Path, what: str) -> Iterator[None]:
    """Name what a decoder raises: on damaged bytes that is any exception there is."""
    try:
        yield
    except MemoryError as error:
        raise ImageFault("too_large", path, "it does not fit into memory") from error
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ImageFault("corrupt", path, f"{what}: {text}") from error
