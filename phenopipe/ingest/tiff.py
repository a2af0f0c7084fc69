"""TIFF: its pages to an array, once their directories are known to be whole."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from phenopipe.ingest.image_fault import MAX_BYTES, ImageFault, name_faults
from phenopipe.ingest.tiff_directories import MOST_SEGMENTS, check_directories
from phenopipe.ingest.tiff_segments import Raster, check_segments, decode_raster, read_raster


@contextmanager
def open_tiff(data: bytes, path: str | Path) -> Iterator[tifffile.TiffFile]:
    """Open the bytes of a TIFF once its directories are known to lie inside them.

    Raises
    ------
    ImageFault
        If the bytes are no TIFF, or are damaged; also for whatever tifffile raises in the body.
    """
    n_pages = check_directories(data, path)
    # No flavours for which tifffile would follow further files, or make pages up from a pattern.
    flavours: Any = {"is_ome": False, "is_scanimage": False, "is_ndpi": False}
    with name_faults(path), tifffile.TiffFile(io.BytesIO(data), **flavours) as tiff:
        if len(tiff.pages) != n_pages:
            text = f"expected {n_pages} pages, found {len(tiff.pages)}"
            raise ImageFault("corrupt", path, text)
        yield tiff


def decode_tiff(
    data: bytes, path: str | Path, *, pages: Sequence[int] | None = None
) -> NDArray[Any]:
    """Decode pages of a TIFF; the arguments and what is returned are those of `decode_image`.

    Raises
    ------
    ImageFault
        As `decode_image`.
    """
    with open_tiff(data, path) as tiff:
        if pages is None:
            _check_hidden_planes(tiff, path)
        wanted = range(len(tiff.pages)) if pages is None else pages
        rasters = [read_raster(_find_page(tiff, path, number), path) for number in wanted]
    for raster in rasters:
        check_segments(raster, data, path)
    _check_total(rasters, data, path)
    _check_alike(rasters, path)
    if pages is not None:
        _check_planes(rasters, path)
    elif len(rasters) == 1:
        return decode_raster(rasters[0], data, path)
    stack = np.empty((len(rasters), *rasters[0].shape), rasters[0].dtype)
    for plane, raster in zip(stack, rasters, strict=True):
        plane[...] = decode_raster(raster, data, path)
    return stack


def _find_page(tiff: tifffile.TiffFile, path: str | Path, number: int) -> Any:
    if not 0 <= number < len(tiff.pages):
        raise ImageFault("missing", path, f"expected page {number}, found {len(tiff.pages)} pages")
    return tiff.pages[number]


def _check_total(rasters: Sequence[Raster], data: bytes, path: str | Path) -> None:
    """Bound what all pages take together; they may share strips, and some codes give no pixels."""
    size = sum(raster.nbytes for raster in rasters)
    if size > MAX_BYTES:
        raise ImageFault("too_large", path, f"its {len(rasters)} pages exceed {MAX_BYTES} bytes")
    if sum(sum(raster.counts) for raster in rasters) > len(data) + size:
        raise ImageFault("corrupt", path, "its strips or tiles overlap beyond the file's size")
    n_segments = sum(len(raster.offsets) for raster in rasters if not raster.is_one_piece)
    if n_segments > MOST_SEGMENTS:
        text = f"expected {MOST_SEGMENTS} strips or tiles at most, found {n_segments}"
        raise ImageFault("too_large", path, text)


def _check_alike(rasters: Sequence[Raster], path: str | Path) -> None:
    if not rasters:
        raise ImageFault("missing", path, "expected the numbers of pages, found none")
    kinds = {(raster.shape, raster.dtype) for raster in rasters}
    if len(kinds) > 1:
        text = f"expected pages of one size and type, found {len(kinds)}"
        raise ImageFault("unsupported", path, text)


def _check_planes(rasters: Sequence[Raster], path: str | Path) -> None:
    if len(rasters[0].shape) != 2:
        text = f"expected pages of one grey plane, found {rasters[0].shape}"
        raise ImageFault("unsupported", path, text)


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
