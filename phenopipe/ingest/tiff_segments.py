"""The strips and tiles of a TIFF page, decoded into an array: each whole, or a fault.

Decoders are told how much to give at most, and what they give must be what the page's header
promises. Left alone they fill what is missing with zeros, and stop unseen where a header
declares fewer rows than there are. Only compressions without loss whose decoders notice both are
here: those of fax fill a torn page with white, and JPEG's with grey.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from phenopipe.ingest.image_fault import MAX_BYTES, ImageFault, name_faults

_WHOLE_BYTES = {8, 16, 32, 64}
_HEADER_BYTES = 8
_NO_PREDICTOR, _FLOAT_DIFFERENCES = 1, 3


@dataclass(frozen=True)
class _Codec:
    """A decoder, how many bytes one compressed byte can give, and whether it fails at too many."""

    decode: Callable[..., bytes | bytearray]
    expansion: int
    is_strict: bool = True


# A code of LZW has 9 bits or more and gives a string shorter than its table of 4096; Deflate as
# in zlib.net/zlib_tech.html; PackBits 128 of 2 bytes; Zstandard a block of 128 KiB of 4 bytes.
_DEFLATE = _Codec(imagecodecs.deflate_decode, 1032)
CODECS = {
    1: _Codec(lambda data, out: data[:out], 1, is_strict=False),
    5: _Codec(imagecodecs.lzw_decode, 4096, is_strict=False),
    8: _DEFLATE,
    32773: _Codec(imagecodecs.packbits_decode, 64),
    32946: _DEFLATE,
    50000: _Codec(imagecodecs.zstd_decode, 2**15),
    50013: _DEFLATE,
}


@dataclass(frozen=True)
class Raster:
    """How the pixels of one page are written.

    Parameters
    ----------
    shape
        Of the page's array.
    normal
        The same with all axes: planes of samples, rows, columns, samples of a pixel.
    dtype, stored
        The array's dtype; and the file's, with its byte order.
    bits
        Of one sample in the file.
    codec, predictor
        How its segments are compressed, and by which of TIFF's predictors made smaller before.
    is_reversed
        Whether the bits of each byte run from the lowest to the highest.
    segment
        Rows and columns of a strip or tile; a tile has all its rows at the page's end too.
    is_tiled
        Whether it has tiles and not strips.
    offsets, counts
        Where each segment lies, and its bytes.
    """

    shape: tuple[int, ...]
    normal: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    stored: np.dtype[Any]
    bits: int
    codec: _Codec
    predictor: int
    is_reversed: bool
    segment: tuple[int, int]
    is_tiled: bool
    offsets: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.normal) * self.dtype.itemsize

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of one row of a strip or tile in the file, once decompressed."""
        return (self.segment[1] * self.normal[3] * self.bits + 7) // 8

    @property
    def grid(self) -> tuple[int, int, int]:
        """Planes, rows and columns of segments."""
        planes, height, width, _ = self.normal
        rows, columns = self.segment
        return planes, -(-height // rows), -(-width // columns)

    @cached_property
    def is_one_piece(self) -> bool:
        """Whether the array lies in the file as it is, but for its byte order."""
        ends = (at + count for at, count in zip(self.offsets, self.counts, strict=False))
        return (
            self.codec is CODECS[1]
            and self.bits in _WHOLE_BYTES
            and self.predictor == _NO_PREDICTOR
            and not (self.is_reversed or self.is_tiled)
            and sum(self.counts) == self.nbytes
            and set(self.counts[:-1]) <= {self.segment[0] * self.row_bytes}
            and all(end == at for end, at in zip(ends, self.offsets[1:], strict=False))
        )

    def rows_of(self, row: int) -> int:
        """Rows that a segment holds which starts at this row of the page."""
        rows = self.segment[0]
        return rows if self.is_tiled else min(rows, self.normal[1] - row)


def read_raster(page: Any, path: str | Path) -> Raster:
    """Read how the pixels of a page are written, and refuse what is not decoded here.

    Parameters
    ----------
    page
        tifffile's page, whose directory has been checked.
    path
        The file, for the fault.

    Raises
    ------
    ImageFault
        If it is written in a way that is not supported, or its numbers contradict themselves.
    """
    _refuse_unsupported(page, path)
    planes, _, height, width, samples = page.shaped
    tiled = page.is_tiled
    segment = (page.tilelength, page.tilewidth) if tiled else (page.rowsperstrip, width)
    if min(*page.shaped, *segment, page.samplesperpixel) < 1:
        text = f"expected pixels, found shape {page.shape} in strips or tiles of {segment}"
        raise ImageFault("corrupt", path, text)
    dtype = np.dtype(page.dtype)
    size = max(math.prod(page.shaped), math.prod(segment) * samples) * dtype.itemsize
    if size > MAX_BYTES:
        text = f"its header declares {page.shape} {dtype}, above {MAX_BYTES} bytes"
        raise ImageFault("too_large", path, text)
    return Raster(
        shape=page.shape,
        normal=(planes, height, width, samples),
        dtype=dtype,
        stored=dtype.newbyteorder(page.parent.byteorder),
        bits=page.bitspersample,
        codec=CODECS[page.compression],
        predictor=int(page.predictor),
        is_reversed=page.fillorder == 2,
        segment=segment,
        is_tiled=tiled,
        offsets=_segment_numbers(page, 324, 273),
        counts=_segment_numbers(page, 325, 279),
    )


def _segment_numbers(page: Any, *codes: int) -> tuple[int, ...]:
    """Read offsets or sizes, which are those of tiles or of strips but not of both."""
    tags = [page.tags[code] for code in codes if code in page.tags]
    value = tags[0].value if len(tags) == 1 else ()
    return tuple(value) if isinstance(value, (tuple, bytes)) else (value,)


def _refuse_unsupported(page: Any, path: str | Path) -> None:
    bits = page.bitspersample
    whole = bits in _WHOLE_BYTES
    known = isinstance(bits, int) and page.dtype is not None and page.sampleformat != 5
    text = ""
    if page.compression not in CODECS:
        name = getattr(page.compression, "name", page.compression)
        text = f"compression {name}: save it without loss, as LZW or Deflate"
    elif not known or not (whole or np.dtype(page.dtype).kind in "bu"):
        text = f"expected numbers, found {bits} bits of sample format {page.sampleformat}"
    elif page.predictor != _NO_PREDICTOR and (
        # Without compression some readers apply it, and some do not.
        page.predictor not in {2, 3} or not whole or page.compression == 1
    ):
        text = f"predictor {page.predictor} of {bits} bits and compression {page.compression}"
    elif page.planarconfig not in {1, 2} or (page.imagedepth, page.tiledepth) != (1, 1):
        text = f"expected flat pixels, found a volume or planes of kind {page.planarconfig}"
    elif page.is_subsampled or page.fillorder not in {1, 2}:
        text = f"expected whole pixels, found subsampled ones or bits of order {page.fillorder}"
    if text:
        raise ImageFault("unsupported", path, text)


def check_segments(raster: Raster, data: bytes, path: str | Path) -> None:
    """Refuse what cannot be decoded in full, before anything is allocated.

    Raises
    ------
    ImageFault
        If a strip or tile is not there, or they cannot hold all pixels.
    """
    expected, offsets, counts = math.prod(raster.grid), raster.offsets, raster.counts
    if not len(offsets) == len(counts) == expected:
        text = f"expected {expected} strips or tiles, found {len(offsets)} of {len(counts)} sizes"
        raise ImageFault("truncated" if len(offsets) < expected else "corrupt", path, text)
    end = max(offset + count for offset, count in zip(offsets, counts, strict=True))
    if end > len(data):
        text = f"expected pixels up to byte {end}, found the end at byte {len(data)}"
        raise ImageFault("truncated", path, text)
    if min(offsets) < _HEADER_BYTES or not all(counts):
        raise ImageFault("truncated", path, "expected each strip or tile, found empty ones")
    size = math.prod(raster.normal) * raster.bits // 8
    if size > raster.codec.expansion * sum(counts):
        text = f"expected {size} bytes of pixels, which {sum(counts)} in the file cannot hold"
        raise ImageFault("truncated", path, text)


def decode_raster(raster: Raster, data: bytes, path: str | Path) -> NDArray[Any]:
    """Decode the pixels of one page, whose segments have been checked.

    Returns
    -------
    ndarray
        Of the raster's shape, in the machine's byte order; a read-only view of the data where
        they lie there in one piece.

    Raises
    ------
    ImageFault
        If a strip or tile is damaged, or holds less or more than its share.
    """
    with name_faults(path):
        if raster.is_one_piece:
            size = math.prod(raster.normal)
            pixels = np.frombuffer(data, raster.stored, size, offset=raster.offsets[0])
        elif len(raster.offsets) == 1 and not raster.is_tiled:
            pixels = _decode_segment(raster, data, path, 0, raster.normal[1])
        else:
            pixels = _join_segments(raster, data, path)
        return pixels.astype(raster.dtype, copy=False).reshape(raster.shape)


def _join_segments(raster: Raster, data: bytes, path: str | Path) -> NDArray[Any]:
    pixels = np.empty(raster.normal, raster.dtype)
    rows, columns = raster.segment
    _, height, width, _ = raster.normal
    for index, (plane, down, across) in enumerate(np.ndindex(raster.grid)):
        y, x = down * rows, across * columns
        segment = _decode_segment(raster, data, path, index, raster.rows_of(y))
        pixels[plane, y : y + rows, x : x + columns] = segment[: height - y, : width - x]
    return pixels


def _decode_segment(
    raster: Raster, data: bytes, path: str | Path, index: int, rows: int
) -> NDArray[Any]:
    """Decode one strip or tile to ``(row, column, sample)``."""
    at, count = raster.offsets[index], raster.counts[index]
    raw: Any = memoryview(data)[at : at + count]
    if raster.is_reversed:
        raw = imagecodecs.bitorder_decode(raw)
    size, full = rows * raster.row_bytes, raster.segment[0] * raster.row_bytes
    codec = raster.codec
    most = min(full if codec.is_strict else full + raster.row_bytes, codec.expansion * count)
    raw = codec.decode(raw, out=most) if most >= size else b""
    if len(raw) < size:
        text = f"expected {size} bytes of strip or tile {index}, found {len(raw)}"
        raise ImageFault("truncated", path, text)
    # Some writers fill up the last strip to the size of the others.
    if len(raw) >= size + raster.row_bytes and len(raw) != full:
        text = f"expected {size} bytes of strip or tile {index}, found further rows"
        raise ImageFault("corrupt", path, text)
    shape = (rows, raster.segment[1], raster.normal[3])
    return _unpredict(raster, _unpack(raster, raw, math.prod(shape)).reshape(shape))


def _unpack(raster: Raster, raw: Any, size: int) -> NDArray[Any]:
    """Read the numbers of a strip or tile, which may be packed to fewer bits than a byte."""
    if raster.bits in _WHOLE_BYTES:
        # Differences of floats are taken of their bytes, highest first, whatever the file's order.
        stored = raster.dtype if raster.predictor == _FLOAT_DIFFERENCES else raster.stored
        return np.frombuffer(raw, stored, size)
    runlen = raster.segment[1] * raster.normal[3]
    numbers: NDArray[Any] = imagecodecs.packints_decode(
        raw, raster.dtype, raster.bits, runlen=runlen
    )
    return numbers[:size]


def _unpredict(raster: Raster, segment: NDArray[Any]) -> NDArray[Any]:
    if raster.predictor == _NO_PREDICTOR:
        return segment
    native = segment.astype(raster.dtype, copy=False)
    sums: NDArray[Any] = tifffile.TIFF.UNPREDICTORS[raster.predictor](native, axis=-2)
    return sums
