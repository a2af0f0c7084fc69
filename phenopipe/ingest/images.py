"""One image file to an array, or a named fault: never a crash, never a silent blank.

Files of a microscope's user are damaged in every way: cut off, empty, overwritten, or with a
header that declares terabytes. The directories of a TIFF are therefore walked and bounded before
tifffile reads it, and only compressions whose decoders are told how much to give are read.
"""

import io
import math
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

FaultKind = Literal[
    "missing",
    "unreadable",
    "empty_file",
    "not_an_image",
    "truncated",
    "corrupt",
    "unsupported",
    "too_large",
]

# A camera's field is below 100 MB; this bounds a worker's memory whatever a header declares.
MAX_BYTES = 2**30

# None, LZW, Deflate (three codes), PackBits, Zstandard: their decoders take the size to give, so
# that a few bytes cannot expand without end. Image codecs inside a TIFF take their size from
# their own stream, and the lossy ones change intensities.
_COMPRESSIONS = {1, 5, 8, 32773, 32946, 50000, 50013}

_PNG = b"\x89PNG\r\n\x1a\n"
_OTHER_IMAGES = {
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"\x00\x00\x00\x0cjP": "JPEG 2000",
}


class ImageFault(Exception):  # noqa: N818 (a fault of the file, recorded and not fatal)
    """A file that gives no image, and why.

    Parameters
    ----------
    kind
        One of `FaultKind`.
    path
        The file.
    text
        What was expected and found.

    Examples
    --------
    >>> str(ImageFault("truncated", "B03_w1.tif", "expected 512 bytes of pixels, found 100"))
    'B03_w1.tif is truncated: expected 512 bytes of pixels, found 100'
    """

    def __init__(self, kind: FaultKind, path: str | Path, text: str) -> None:
        # All three as args: an exception is pickled by them when it travels from a worker.
        super().__init__(kind, str(path), text)
        self.kind: FaultKind = kind
        self.path = str(path)
        self.text = text

    def __str__(self) -> str:
        return f"{self.path} is {self.kind.replace('_', ' ')}: {self.text}"


def read_image(path: str | Path) -> NDArray[Any]:
    """Read one image file as it was written.

    Parameters
    ----------
    path
        A TIFF or PNG file.

    Returns
    -------
    ndarray
        ``(y, x)`` of a single grey image, in the file's own dtype (uint8, uint16, …) and the
        machine's byte order. A TIFF of several pages gives ``(page, y, x)``; RGB gives
        ``(y, x, sample)``, or ``(sample, y, x)`` where the file is planar. Palettes are not
        applied, and white-is-zero is not inverted: the numbers are the file's.

    Raises
    ------
    ImageFault
        If the file gives no image, with `kind` and `path`; never another exception.
    """
    return decode_image(read_image_bytes(path), path)


def read_image_bytes(path: str | Path) -> bytes:
    """Read a file's bytes for `decode_image` and for its digest.

    Raises
    ------
    ImageFault
        If the file is missing, cannot be read, is no plain file, or is larger than `MAX_BYTES`.
    """
    try:
        found = Path(path).stat()
        if stat.S_ISDIR(found.st_mode):
            raise ImageFault("not_an_image", path, "expected a file, found a folder")
        if not stat.S_ISREG(found.st_mode):
            raise ImageFault("not_an_image", path, "expected a file, found a device or pipe")
        if found.st_size > MAX_BYTES:
            raise ImageFault("too_large", path, f"the file has {found.st_size} bytes")
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ImageFault("missing", path, "there is no such file") from error
    except (OSError, ValueError) as error:
        raise ImageFault("unreadable", path, str(error)) from error


def decode_image(data: bytes, path: str | Path) -> NDArray[Any]:
    """Decode the bytes of an image file; the path is for the fault.

    Returns and raises as `read_image`.

    Examples
    --------
    >>> decode_image(b"", "B03_s1_w1.tif")
    Traceback (most recent call last):
    ...
    phenopipe.ingest.images.ImageFault: B03_s1_w1.tif is empty file: the file has no bytes
    """
    if data.startswith(_PNG):
        image = _decode_png(data, path)
    else:
        with open_tiff(data, path) as tiff:
            image = _decode_pages(tiff, data, path)
    return np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("="))


@contextmanager
def open_tiff(data: bytes, path: str | Path) -> Iterator[tifffile.TiffFile]:
    """Open the bytes of a TIFF once its directories are known to lie inside them.

    Raises
    ------
    ImageFault
        If the bytes are no TIFF, or are damaged; also for whatever tifffile raises in the body.
    """
    _check_directories(data, path)
    with _faults(path), tifffile.TiffFile(io.BytesIO(data), is_ome=False) as tiff:
        yield tiff


@contextmanager
def _faults(path: str | Path) -> Iterator[None]:
    """Name what a decoder raises: on damaged bytes that is any exception there is."""
    try:
        yield
    except ImageFault:
        raise
    except MemoryError as error:
        raise ImageFault("too_large", path, "it does not fit into memory") from error
    except NotImplementedError as error:
        raise ImageFault("unsupported", path, str(error)) from error
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ImageFault("corrupt", path, f"{type(error).__name__}: {text}") from error


# --- TIFF: directories -----------------------------------------------------------------------

# Bytes of one value of each type of TIFF 6.0 and BigTIFF.
_TYPE_BYTES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}
_MOST_PAGES = 10_000


@dataclass(frozen=True)
class _Dialect:
    """How classic TIFF and BigTIFF write their directories, in the file's byte order."""

    first: struct.Struct
    first_at: int
    count: struct.Struct
    entry: struct.Struct
    inline: int


def _check_directories(data: bytes, path: str | Path) -> None:
    """Follow the chain of directories; all of it, and each tag's value, must lie in the file.

    tifffile passes over what lies outside with a line in its log, so a file that was cut off
    could lose pages or tags unseen.
    """
    dialect = _read_dialect(data, path)
    (at,) = dialect.first.unpack_from(data, dialect.first_at)
    seen: set[int] = set()
    tag_bytes = 0
    while at:
        if at in seen or len(seen) == _MOST_PAGES:
            text = f"its pages run in a circle or are more than {_MOST_PAGES}"
            raise ImageFault("corrupt", path, text)
        seen.add(at)
        at, more = _check_directory(data, path, dialect, at)
        tag_bytes += more
        if tag_bytes > 2 * len(data):
            raise ImageFault("corrupt", path, f"expected {len(data)} bytes of tags at most")
    if not seen:
        raise ImageFault("corrupt", path, "expected a page, found none")


def _read_dialect(data: bytes, path: str | Path) -> _Dialect:
    if not data:
        raise ImageFault("empty_file", path, "the file has no bytes")
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    if not order:
        other = next((name for sign, name in _OTHER_IMAGES.items() if data.startswith(sign)), "")
        text = f"expected TIFF or PNG, found {other or repr(data[:8])}"
        raise ImageFault("unsupported" if other else "not_an_image", path, text)
    if len(data) < 16:
        raise ImageFault("truncated", path, f"expected a TIFF header, found {len(data)} bytes")
    (version,) = struct.unpack_from(f"{order}H", data, 2)
    if version not in {42, 43}:
        raise ImageFault("not_an_image", path, f"expected TIFF version 42 or 43, found {version}")
    if version == 42:
        formats = (f"{order}I", 4, f"{order}H", f"{order}HHII", 4)
    else:
        formats = (f"{order}Q", 8, f"{order}Q", f"{order}HHQQ", 8)
    first, first_at, count, entry, inline = formats
    return _Dialect(
        struct.Struct(first), first_at, struct.Struct(count), struct.Struct(entry), inline
    )


def _check_directory(data: bytes, path: str | Path, dialect: _Dialect, at: int) -> tuple[int, int]:
    """Check one directory; give the next one's offset and the bytes of its tags' values."""
    start = at + dialect.count.size
    n_tags = dialect.count.unpack_from(data, at)[0] if start <= len(data) else 0
    end = start + n_tags * dialect.entry.size
    if start > len(data) or end + dialect.first.size > len(data):
        text = f"expected a directory at byte {at}, found the end at byte {len(data)}"
        raise ImageFault("truncated", path, text)
    total = 0
    for tag, kind, count, offset in dialect.entry.iter_unpack(data[start:end]):
        size = _TYPE_BYTES.get(kind, 0) * count
        if size > dialect.inline and offset + size > len(data):
            text = f"expected tag {tag} up to byte {offset + size}, found the end at {len(data)}"
            raise ImageFault("truncated", path, text)
        total += size
    return dialect.first.unpack_from(data, end)[0], total


# --- TIFF: pixels ----------------------------------------------------------------------------


def _decode_pages(tiff: tifffile.TiffFile, data: bytes, path: str | Path) -> NDArray[Any]:
    pages = list(tiff.pages)
    for page in pages:
        _check_page(page, data, path)
    if sum(page.nbytes for page in pages) > MAX_BYTES:
        raise ImageFault("too_large", path, f"its {len(pages)} pages exceed {MAX_BYTES} bytes")
    _check_hidden_planes(tiff, path)
    kinds = {(page.shape, page.dtype) for page in pages}
    if len(kinds) > 1:
        text = f"expected pages of one size and type, found {len(kinds)}"
        raise ImageFault("unsupported", path, text)
    images = [page.asarray(maxworkers=1) for page in pages]
    if any(image.shape != page.shape for image, page in zip(images, pages, strict=True)):
        raise ImageFault("corrupt", path, f"expected {pages[0].shape}, found {images[0].shape}")
    return images[0] if len(images) == 1 else np.stack(images)


def _check_page(page: Any, data: bytes, path: str | Path) -> None:
    """Refuse what cannot be decoded in full or in bounded memory, before anything is allocated."""
    if page.dtype is None:
        text = f"{page.bitspersample} bits of sample format {page.sampleformat}"
        raise ImageFault("unsupported", path, f"expected numbers, found {text}")
    if 0 in page.shape or page.ndim < 2:
        raise ImageFault("corrupt", path, f"expected pixels, found shape {page.shape}")
    segment = math.prod(page.chunks) * page.dtype.itemsize
    if max(page.nbytes, segment) > MAX_BYTES:
        text = f"its header declares {page.shape} {page.dtype}, above {MAX_BYTES} bytes"
        raise ImageFault("too_large", path, text)
    if page.compression not in _COMPRESSIONS:
        text = f"compression {page.compression!s}: save it without loss as LZW or Deflate"
        raise ImageFault("unsupported", path, text)
    _check_segments(page, data, path)


def _check_segments(page: Any, data: bytes, path: str | Path) -> None:
    """Every strip or tile must be there: tifffile fills one that is not with zeros."""
    offsets, counts = page.dataoffsets, page.databytecounts
    expected = math.prod(page.chunked)
    found = min(len(offsets), len(counts))
    if found < expected or not all(offsets[:expected]) or not all(counts[:expected]):
        text = f"expected {expected} strips or tiles, found {found} or empty ones"
        raise ImageFault("truncated", path, text)
    if page.is_contiguous:
        # Read in one piece: a count that promises more than the pixels need does no harm.
        end = offsets[0] + page.nbytes
        if sum(counts) < page.nbytes:
            text = f"expected {page.nbytes} bytes of pixels, found {sum(counts)}"
            raise ImageFault("truncated", path, text)
    else:
        end = max(offset + count for offset, count in zip(offsets, counts, strict=False))
    if end > len(data):
        text = f"expected pixels up to byte {end}, found the end at byte {len(data)}"
        raise ImageFault("truncated", path, text)
    if not page.is_contiguous and sum(counts) > len(data) + page.nbytes:
        raise ImageFault("corrupt", path, "its strips or tiles overlap beyond the file's size")


def _check_hidden_planes(tiff: tifffile.TiffFile, path: str | Path) -> None:
    """ImageJ and MetaMorph stacks keep further planes behind one page."""
    planes = 1
    if tiff.is_imagej:
        planes = int((tiff.imagej_metadata or {}).get("images", 1))
    elif tiff.is_stk:
        planes = tiff.pages.first.tags["UIC2tag"].count
    if planes > len(tiff.pages):
        text = f"expected a page for each of its {planes} planes, found {len(tiff.pages)}"
        raise ImageFault("unsupported", path, text)


# --- TIFF: what the microscope wrote about itself -----------------------------------------------

# A resolution tag that makes pixels larger than this is a printer's default, not a microscope's.
_LARGEST_PIXEL_UM = 20.0


def read_metaseries(path: str | Path) -> tuple[dict[str, Any], float | None]:
    """Read the plane's properties as MetaMorph and MetaXpress write them, and the pixel's side.

    Returns
    -------
    tuple
        The properties by name, empty where there are none; and the side of a pixel in
        micrometres by the TIFF's resolution tags, None where they say nothing likely.

    Raises
    ------
    ImageFault
        As `read_image`; pixels are not decoded.
    """
    with open_tiff(read_image_bytes(path), path) as tiff:
        plane = (tiff.metaseries_metadata or {}).get("PlaneInfo")
        page = tiff.pages.first
        unit, per_unit = int(page.resolutionunit), float(page.get_resolution()[0])
    micrometres = {2: 25_400.0, 3: 10_000.0}.get(unit, 0.0)
    size = micrometres / per_unit if per_unit > 0 else 0.0
    likely = 0 < size <= _LARGEST_PIXEL_UM
    return plane if isinstance(plane, dict) else {}, size if likely else None


# --- PNG -------------------------------------------------------------------------------------


def _decode_png(data: bytes, path: str | Path) -> NDArray[Any]:
    _check_png(data, path)
    with _faults(path):
        image: NDArray[Any] = imagecodecs.png_decode(data)
        return image


def _check_png(data: bytes, path: str | Path) -> None:
    """Walk the chunks to the last one: libpng gives what came before a cut as if it were whole."""
    at, name = len(_PNG), b""
    while name != b"IEND":
        if at + 12 > len(data):
            raise ImageFault("truncated", path, f"expected another chunk at byte {at}")
        size, name = struct.unpack_from(">I4s", data, at)
        at += 12 + size
    if at > len(data) or data[12:16] != b"IHDR":
        raise ImageFault("corrupt", path, "expected chunks from IHDR to IEND")
    width, height = struct.unpack_from(">II", data, 16)
    if width * height * 8 > MAX_BYTES:
        raise ImageFault("too_large", path, f"its header declares {height} x {width} pixels")
