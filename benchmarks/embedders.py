"""Each contender embeds the same crops: ``python -m benchmarks.embedders NAME --vit VIT ...``.

A process of its own each time. The clock starts when libraries and model are loaded, processes
stand and a few crops have been embedded; it stops when the vectors are written or, for the bare
session, in memory. Then they are put in ``TARGET/vectors.npy``, field by field, for the check.
"""
# ruff: noqa: PLC0415 - a contender imports its own library, and none of the others'

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.embed_inputs import WARM_UP, Embed, Inputs, Read, Settings, open_fresh_lake
from benchmarks.gpu import watch_gpu
from benchmarks.plates import KEY, SIZE
from benchmarks.vits import VITS


@contextmanager
def phenopipe(inputs: Inputs, target: Path, settings: Settings) -> Iterator[Embed]:
    """Run the whole stage: Zarr in; Parquet and its manifest out."""
    from phenopipe.compute import client
    from phenopipe.config import EmbedConfig
    from phenopipe.embed import embed_plate

    lake = open_fresh_lake(inputs.lake, target / "lake")
    config = EmbedConfig(provider=settings.provider, include_failed=True)
    one_a_field = config.model_copy(update={"stride": SIZE})
    kind = "local" if settings.device == "cpu" else "cuda"
    with client(kind, workers=settings.threads) as dask:

        def embed() -> Read:
            embed_plate(lake, KEY, model=inputs.model, client=dask, config=config)
            return partial(_read_vectors, target / f"lake/embeddings/{inputs.model}/{KEY}.parquet")

        embed_plate(lake, WARM_UP, model=inputs.model, client=dask, config=one_a_field)
        yield embed


def session(inputs: Inputs, target: Path, settings: Settings) -> AbstractContextManager[Embed]:  # noqa: ARG001
    """Run ONNX Runtime on crops that lie in the device's memory: the ceiling."""
    from benchmarks.embed_bare import open_processes

    return open_processes(inputs, settings)


def torch(inputs: Inputs, target: Path, settings: Settings) -> AbstractContextManager[Embed]:
    """Run torch eagerly over a DataLoader of TIFFs: the loop that a user writes."""
    from benchmarks.embed_eager import open_loop

    return open_loop(inputs, target / "rows.npy", settings)


CONTENDERS = {"phenopipe": phenopipe, "session": session, "torch": torch}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("name", choices=CONTENDERS)
    arguments.add_argument("--vit", choices=VITS, required=True)
    arguments.add_argument("--plate", type=Path, required=True, help="folder of TIFFs")
    arguments.add_argument("--lake", type=Path, required=True)
    arguments.add_argument("--target", type=Path, required=True)
    arguments.add_argument("--precision", required=True)
    arguments.add_argument("--settings", type=json.loads, required=True)
    given = arguments.parse_args()
    settings = Settings(**given.settings)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: settings.threads])
    inputs = Inputs(given.plate, given.lake, VITS[given.vit], given.precision)
    with CONTENDERS[given.name](inputs, given.target, settings) as embed:
        with watch_gpu(settings.device) as watch:
            start = time.perf_counter()
            read = embed()
            seconds = time.perf_counter() - start
        np.save(given.target / "vectors.npy", read())
    print(json.dumps({"seconds": seconds, "gpu_idle": watch.idle}), flush=True)


def _read_vectors(path: Path) -> np.ndarray:
    """Read a plate's embeddings ``(n, d)``; their rows are sorted by well, field, y and x."""
    column = pq.read_table(path, columns=["embedding"])["embedding"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


if __name__ == "__main__":
    main()
