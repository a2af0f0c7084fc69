"""PNG: grey or colours of 8 or 16 bits, once its chunks are known to be whole."""

import struct
from pathlib import Path
from typing import Any

import imagecodecs
from numpy.typing import NDArray

from phenopipe.ingest.image_fault import MAX_BYTES, ImageFault, name_faults

MAGIC = b"\x89PNG\r\n\x1a\n"

# Samples of each colour type; a palette (3) is absent.
_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}
# Deflate gives at most this many bytes for one (zlib.net/zlib_tech.html).
_EXPANSION = 1032


def decode_png(data: bytes, path: str | Path) -> NDArray[Any]:
    """Decode the bytes of a PNG to ``(y, x)`` or ``(y, x, sample)``; the path is for the fault.

    Raises
    ------
    ImageFault
        If it is damaged or cut off, or its numbers are not pixels' own: a palette's indices, or
        less than 8 bits, which decoders stretch.
    """
    stream = _check_chunks(data, path)
    shape, bits = _read_shape(data, path)
    size = shape[0] * shape[1] * shape[2] * bits // 8
    if size > MAX_BYTES:
        raise ImageFault("too_large", path, f"its header declares {shape[0]} x {shape[1]} pixels")
    if size > _EXPANSION * stream:
        text = f"expected {size} bytes of pixels, found {stream} compressed ones"
        raise ImageFault("truncated", path, text)
    with name_faults(path):
        image: NDArray[Any] = imagecodecs.png_decode(data)
    if image.shape != (shape if shape[2] > 1 else shape[:2]):
        raise ImageFault("corrupt", path, f"expected {shape}, found {image.shape}")
    return image


def _check_chunks(data: bytes, path: str | Path) -> int:
    """Walk the chunks to the last one, and give the bytes of those with pixels.

    libpng gives what came before a cut as if it were whole.
    """
    at, name, stream = len(MAGIC), b"", 0
    while name != b"IEND":
        if at + 12 > len(data):
            raise ImageFault("truncated", path, f"expected another chunk at byte {at}")
        size, name = struct.unpack_from(">I4s", data, at)
        at += 12 + size
        stream += size if name == b"IDAT" else 0
    if at > len(data) or data[12:16] != b"IHDR" or len(data) < 33:
        raise ImageFault("corrupt", path, "expected chunks from IHDR to IEND")
    return stream


def _read_shape(data: bytes, path: str | Path) -> tuple[tuple[int, int, int], int]:
    width, height, bits, colours = struct.unpack_from(">IIBB", data, 16)
    if colours not in _SAMPLES or bits not in {8, 16}:
        text = f"expected grey or RGB of 8 or 16 bits, found colour type {colours} of {bits} bits"
        raise ImageFault("unsupported", path, text)
    return (height, width, _SAMPLES[colours]), bits
