"""One image file to an array, or a named fault: never a crash, never a silent blank.

Files of a microscope's user are damaged in every way: cut off, empty, overwritten, or with a
header that declares terabytes. Each format is therefore bounded by what its header says before
anything is allocated, and what is decoded must be what the header promises.
"""

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phenopipe.ingest import cellomics, png
from phenopipe.ingest.image_fault import MAX_BYTES, ImageFault
from phenopipe.ingest.tiff import decode_tiff
from phenopipe.ingest.zarr_image import ARRAY_FILES, read_zarr_array

__all__ = [
    "MAX_BYTES",
    "ImageFault",
    "decode_image",
    "read_image",
    "read_image_bytes",
]

_TIFF = (b"II", b"MM")
_OTHER_IMAGES = {
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"\x00\x00\x00\x0cjP": "JPEG 2000",
}


def read_image(path: str | Path) -> NDArray[Any]:
    """Read one image file as it was written.

    Parameters
    ----------
    path
        A TIFF, PNG or Cellomics C01 file, or the folder of a Zarr array.

    Returns
    -------
    ndarray
        ``(y, x)`` of a single grey image, in the file's own dtype (uint8, uint16, …) and the
        machine's byte order; a Zarr array on its own axes. A TIFF of several pages gives
        ``(page, y, x)``; RGB gives
        ``(y, x, sample)``, or ``(sample, y, x)`` where the file is planar. Palettes are not
        applied, and white-is-zero is not inverted: the numbers are the file's. Read-only where
        it is a view of the file's bytes.

    Raises
    ------
    ImageFault
        If the file gives no image, with `kind` and `path`; never another exception.
    """
    if any((Path(path) / name).is_file() for name in ARRAY_FILES):
        return read_zarr_array(path)
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


def decode_image(
    data: bytes, path: str | Path, *, pages: Sequence[int] | None = None
) -> NDArray[Any]:
    """Decode the bytes of an image file; the path is for the fault.

    Parameters
    ----------
    data, path
        The file.
    pages
        Which pages to decode, counted from 0: ``(len(pages), y, x)`` is returned, and the pixels
        of the others are not looked at. None decodes all.

    Returns
    -------
    ndarray
        As `read_image`.

    Raises
    ------
    ImageFault
        As `read_image`; also if a page that was asked for is not there, or is no grey plane.

    Examples
    --------
    >>> decode_image(b"", "B03_s1_w1.tif")
    Traceback (most recent call last):
    ...
    phenopipe.ingest.image_fault.ImageFault: B03_s1_w1.tif is empty file: the file has no bytes
    """
    if not data:
        raise ImageFault("empty_file", path, "the file has no bytes")
    if data.startswith(_TIFF):
        return decode_tiff(data, path, pages=pages)
    if data.startswith(png.MAGIC):
        image = png.decode_png(data, path)
    elif data.startswith(cellomics.MAGIC):
        image = cellomics.decode_c01(data, path)
    else:
        other = next((name for sign, name in _OTHER_IMAGES.items() if data.startswith(sign)), "")
        text = f"expected TIFF, PNG or Cellomics C01, found {other or repr(data[:8])}"
        raise ImageFault("unsupported" if other else "not_an_image", path, text)
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    return image if pages is None else _repeat(image, path, pages)


def _repeat(image: NDArray[Any], path: str | Path, pages: Sequence[int]) -> NDArray[Any]:
    """Give the one plane of a file without pages for each page that is asked for."""
    if not pages or set(pages) != {0}:
        raise ImageFault("missing", path, f"expected page {list(pages)}, found one page")
    if image.ndim != 2:
        raise ImageFault("unsupported", path, f"expected a grey plane, found {image.shape}")
    return np.stack([image] * len(pages))
