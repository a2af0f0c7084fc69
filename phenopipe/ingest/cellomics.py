"""Cellomics ArrayScan and CellInsight ``.C01``: 4 bytes (16), then zlib of a header and the pixels.

The header is Windows' BITMAPINFOHEADER (size, width, height, planes, bits a pixel …) and three
colour masks: 52 bytes. The pixels are little-endian and start with the upper row. As read by
cellom2tif (https://github.com/jni/cellom2tif) and Bio-Formats' CellomicsReader.
"""

import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from phenopipe.ingest.image_fault import MAX_BYTES, ImageFault, name_faults

# The bits of a pixel, and the first byte of a zlib stream with a window of 32 KiB.
MAGIC = b"\0\0\0\x10\x78"

_HEADER = struct.Struct("<IiiHH")
_HEADER_BYTES = 52
# Deflate gives at most this many bytes for one (zlib.net/zlib_tech.html).
_EXPANSION = 1032


def decode_c01(data: bytes, path: str | Path) -> NDArray[Any]:
    """Decode the bytes of a ``.C01`` file to ``(y, x)`` uint16; the path is for the fault.

    Raises
    ------
    ImageFault
        If the stream is damaged, cut off or followed by anything, or gives other than what its
        header declares; before more than that is allocated.
    """
    height, width = _read_size(data, path)
    size = _HEADER_BYTES + 2 * height * width
    if size > MAX_BYTES:
        raise ImageFault("too_large", path, f"its header declares {height} x {width} pixels")
    if size > _EXPANSION * len(data):
        text = f"expected {size} bytes of pixels, found {len(data)} compressed ones"
        raise ImageFault("truncated", path, text)
    with name_faults(path):
        pixels = imagecodecs.deflate_decode(data[4:], out=size)
    if len(pixels) < size:
        raise ImageFault("truncated", path, f"expected {size} bytes, found {len(pixels)}")
    if zlib.adler32(pixels).to_bytes(4, "big") != data[-4:]:
        raise ImageFault("corrupt", path, "expected its checksum at the end, found other bytes")
    return np.frombuffer(pixels, "<u2", offset=_HEADER_BYTES).reshape(height, width)


def _read_size(data: bytes, path: str | Path) -> tuple[int, int]:
    """Decompress the header alone."""
    with name_faults(path):
        header = zlib.decompressobj().decompress(memoryview(data)[4:], _HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        text = f"expected a header of {_HEADER_BYTES} bytes, found {len(header)}"
        raise ImageFault("truncated", path, text)
    _, width, height, planes, bits = _HEADER.unpack_from(header)
    if (planes, bits) != (1, 16):
        text = f"expected one plane of 16 bits, found {planes} of {bits}"
        raise ImageFault("unsupported", path, text)
    if width <= 0 or height <= 0:
        raise ImageFault("corrupt", path, f"expected pixels, found {height} x {width}")
    return height, width
