"""Write one image as a plain TIFF."""

from functools import cache
from io import BytesIO
from math import prod
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray


def write_tiff(path: Path, pixels: NDArray[np.uint16], *, pixel_size_um: float) -> None:
    """Write one image as an uncompressed TIFF that says its pixel size."""
    path.write_bytes(_header(pixels.shape, pixel_size_um) + pixels.astype("<u2").tobytes())


@cache
def _header(shape: tuple[int, ...], pixel_size_um: float) -> bytes:
    """Make what stands before the pixels once: it is the same for every image of a screen."""
    per_cm = 10_000 / pixel_size_um
    file = BytesIO()
    tifffile.imwrite(
        file,
        np.zeros(shape, np.uint16),
        byteorder="<",
        photometric="minisblack",
        metadata=None,
        software="phenopipe simulate",
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
    )
    return file.getvalue()[: -2 * prod(shape)]
