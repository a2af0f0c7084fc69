"""Each contender writes the same plate: ``python -m benchmarks.contenders NAME PLATE TARGET``.

A process of its own each time. The clock runs from the vendor's files to the last byte handed to
the disk; imports, Dask's start and a first field for warming up come before. All write the same
pixels with the same codec (Blosc: zstd, level 1, bitshuffle), in chunks of 1 x 128 x 128 and two
levels; all but the bound as OME-Zarr 0.5.

Each peer is called in the fastest way that its documentation shows and that was found: a field
after the other, each field one shard a level. (Two fields at a time, in threads or as Dask's
delayed, took longer with all of them.)
"""
# ruff: noqa: PLC0415 - a contender imports its own library, and none of the others'

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from zarr.codecs import BloscCodec

from benchmarks.plates import SIZE, find_fields, read_field
from benchmarks.written import CHUNK, LEVELS, SHAPES, Write
from phenopipe.plates import FieldKey

CODEC = BloscCodec(typesize=2, cname="zstd", clevel=1, shuffle="bitshuffle")


def bound(threads: int) -> AbstractContextManager[Write]:
    """Read, halve and compress on every core at once, and append to one flat file."""
    from benchmarks import flat

    return flat.bound(threads)


@contextmanager
def phenopipe(threads: int, *, kind: str) -> Iterator[Write]:
    """Run the whole stage: digests, checks, pixels, QC, ledger and manifests."""
    from phenopipe.compute import client
    from phenopipe.config import IngestConfig
    from phenopipe.ingest import ingest_plate
    from phenopipe.lake import Lake

    config = IngestConfig(layout="imagexpress", levels=LEVELS, chunk=CHUNK)
    with client(kind, workers=threads) as started:

        def write(plate: Path, target: Path) -> None:
            ingest_plate(plate, Lake(target), client=started, config=config)

        yield write


@contextmanager
def ome_zarr(threads: int, *, sharded: bool) -> Iterator[Write]:
    """Call ome-zarr-py's `write_image` on each field, with its mean over 2 x 2 pixels."""
    from ome_zarr.format import FormatV05
    from ome_zarr.scale import Methods
    from ome_zarr.writer import write_image

    _pin(threads)

    def make_options() -> list[dict[str, object]]:
        # Made anew for each image: `write_image` takes the compressors out of those it is given.
        shards = SHAPES if sharded else [None] * LEVELS
        chunks = (1, CHUNK, CHUNK)
        return [{"chunks": chunks, "shards": s, "compressors": [CODEC]} for s in shards]

    def write(plate: Path, target: Path) -> None:
        for field in find_fields(plate):
            write_image(
                read_field(plate, field),
                str(target / _path(field)),
                axes="cyx",
                fmt=FormatV05(),
                scale_factors=[{"y": 2, "x": 2}],
                method=Methods.LOCAL_MEAN,
                storage_options=make_options(),
            )

    yield write


@contextmanager
def ngff_zarr(threads: int) -> Iterator[Write]:
    """Call ngff-zarr's `to_multiscales` and `to_ome_zarr`, with its mean over 2 x 2 pixels."""
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # its writer, zarrista, is in Rust
    import ngff_zarr as ngff

    _pin(threads)
    shards = {"c": SHAPES[0][0], "y": SIZE // CHUNK, "x": SIZE // CHUNK}

    def write(plate: Path, target: Path) -> None:
        for field in find_fields(plate):
            levels = ngff.to_multiscales(
                ngff.to_ngff_image(read_field(plate, field), dims=["c", "y", "x"]),
                scale_factors=[{"y": 2, "x": 2}],
                method=ngff.Methods.DASK_BIN_SHRINK,
                chunks={"c": 1, "y": CHUNK, "x": CHUNK},
                cache=False,
            )
            ngff.to_ome_zarr(
                str(target / _path(field)),
                levels,
                version="0.5",
                chunks_per_shard=shards,
                compressors=[CODEC],
            )

    yield write


@contextmanager
def bioio(threads: int) -> Iterator[Write]:
    """Call bioio-ome-zarr's `write_region` on each whole field; it keeps every other pixel.

    Its `write_full_volume` writes chunk by chunk under one lock, each time its whole shard anew.
    """
    from bioio_ome_zarr.writers import OMEZarrWriter

    _pin(threads)

    def write(plate: Path, target: Path) -> None:
        for field in find_fields(plate):
            writer = OMEZarrWriter(
                str(target / _path(field)),
                level_shapes=SHAPES,
                dtype="uint16",
                chunk_shape=(1, CHUNK, CHUNK),
                shard_shape=SHAPES,
                compressor=CODEC,
                axes_names=["c", "y", "x"],
                axes_types=["channel", "space", "space"],
            )
            whole = tuple(slice(0, size) for size in SHAPES[0])
            writer.write_region(read_field(plate, field), whole)

    yield write


CONTENDERS: dict[str, Callable[[int], AbstractContextManager[Write]]] = {
    "bound": bound,
    "phenopipe-threads": partial(phenopipe, kind="threads"),
    "phenopipe-local": partial(phenopipe, kind="local"),
    "ome-zarr-shards": partial(ome_zarr, sharded=True),
    "ome-zarr-files": partial(ome_zarr, sharded=False),
    "ngff-zarr-shards": ngff_zarr,
    "bioio-shards": bioio,
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("name", choices=CONTENDERS)
    arguments.add_argument("plate", type=Path)
    arguments.add_argument("target", type=Path)
    arguments.add_argument("--warm-up", type=Path, required=True, help="a plate of few fields")
    arguments.add_argument("--threads", type=int, required=True)
    given = arguments.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    with CONTENDERS[given.name](given.threads) as write:
        write(given.warm_up, given.target / "warm-up")
        start = time.perf_counter()
        write(given.plate, given.target / "timed")
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds}), flush=True)


def _pin(threads: int) -> None:
    """Give Dask and zarr-python so many threads; Blosc has one in each."""
    import dask
    import zarr
    from numcodecs import blosc

    dask.config.set(scheduler="threads", num_workers=threads)
    zarr.config.set({"threading.max_workers": threads})
    blosc.set_nthreads(1)


def _path(field: FieldKey) -> str:
    return f"{field.well.row_name}/{field.well.column_name}/{field.field}"


if __name__ == "__main__":
    main()
