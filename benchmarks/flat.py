"""The bound: read, halve and compress on every core at once, and append to one flat file.

No format, no digest, no check, no QC: what is left is what no ingestion can save.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numcodecs.blosc
import numpy as np
from numcodecs import Blosc

from benchmarks.plates import find_fields, read_field
from benchmarks.written import CHUNK, LEVELS, Write
from phenopipe.plates import FieldKey
from phenopipe.pyramid import halve


@contextmanager
def bound(threads: int) -> Iterator[Write]:
    """Give a function that writes a plate with so many processes of one thread."""
    with get_context("spawn").Pool(threads, numcodecs.blosc.set_nthreads, (1,)) as pool:

        def write(plate: Path, target: Path) -> None:
            target.mkdir(parents=True)
            append = partial(_append_field, plate=plate, flat=target / "flat")
            pool.map(append, find_fields(plate), chunksize=1)

        yield write


def _append_field(field: FieldKey, *, plate: Path, flat: Path) -> None:
    codec = Blosc("zstd", 1, Blosc.BITSHUFFLE)
    pixels, packed = read_field(plate, field), []
    for level in range(LEVELS):
        pixels = halve(pixels) if level else pixels
        n, side = len(pixels), pixels.shape[-1] // CHUNK
        tiles = pixels.reshape(n, side, CHUNK, side, CHUNK).swapaxes(2, 3)
        chunks = np.ascontiguousarray(tiles).reshape(-1, CHUNK, CHUNK)
        packed += [codec.encode(chunk) for chunk in chunks]
    # One write under O_APPEND does not interleave with another process's.
    with flat.open("ab", buffering=0) as file:
        file.write(b"".join(packed))
