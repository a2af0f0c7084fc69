"""The one place that makes a Dask client. Stages take a client and do not know where it runs."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import dask
from distributed import Client, LocalCluster, as_completed

from phenopipe.errors import InputError

# What a worker keeps of the memory that it frees. Dask's 64 kB has the pages of each image faulted
# in anew (ingest takes 1.5 times as long); glibc's own rule keeps 100 MB a worker for nothing.
_ENVIRON = "distributed.nanny.pre-spawn-environ"
_KEEP_MEMORY = {
    f"{_ENVIRON}.MALLOC_TRIM_THRESHOLD_": 16 << 20,
    f"{_ENVIRON}.MALLOC_MMAP_THRESHOLD_": 12 << 20,
}

T = TypeVar("T")
R = TypeVar("R")

KINDS = ("threads", "local", "cuda", "slurm")

Progress = Callable[[int, int], None]


@contextmanager
def client(kind: str = "local", *, workers: int | None = None) -> Iterator[Client]:
    """Start the cluster of a kind, or join the one at an address; close it at the end.

    Parameters
    ----------
    kind
        ``threads`` (this process), ``local`` (a process a core), ``cuda`` (a worker a GPU),
        ``slurm`` (Dask-Jobqueue, set up by its own configuration file), or a scheduler's
        address such as ``tcp://10.0.0.1:8786``.
    workers
        Their number; by default the number of cores.

    Raises
    ------
    InputError
        If the kind is unknown, or what it needs is not installed.
    """
    if "://" in kind:
        with Client(kind) as joined:
            yield joined
        return
    with dask.config.set(_KEEP_MEMORY):
        cluster = _cluster(kind, workers or usable_cores())
    with cluster, Client(cluster) as started:
        yield started


def scheduler_address(client: Client) -> str:
    """Give the address at which others join the client's cluster, for :func:`client`."""
    return str(client.scheduler_info(n_workers=0)["address"])


def usable_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cluster(kind: str, workers: int) -> Any:
    if kind == "threads":
        return LocalCluster(
            n_workers=1,
            threads_per_worker=workers,
            processes=False,
            dashboard_address="127.0.0.1:0",
        )
    if kind == "local":
        # Distributed starts its workers with one thread of BLAS and OpenMP each.
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            # What fails in a worker is raised here; what it logs while it closes is noise.
            silence_logs=logging.CRITICAL,
        )
    if kind == "cuda":
        return _import("dask_cuda", extra="gpu").LocalCUDACluster()
    if kind == "slurm":
        return _import("dask_jobqueue", extra="slurm").SLURMCluster(n_workers=workers)
    raise InputError(
        f"expected compute to be one of {', '.join(KINDS)} or a scheduler's address "
        f"such as tcp://host:8786, found {kind!r}"
    )


def _import(module: str, *, extra: str) -> Any:
    try:
        return __import__(module)
    except ImportError as error:
        raise InputError(
            f"expected {module} to be installed, found {error}: pip install 'phenopipe[{extra}]'"
        ) from error


def map_ordered(
    client: Client,
    function: Callable[..., R],
    items: Iterable[T],
    *,
    on_progress: Progress | None = None,
    **constants: Any,
) -> list[R]:
    """Run the function on each item in the cluster; results in the items' order.

    The order in which workers finish never shows, so what is written from the results is the
    same bytes each time. A task whose worker died is run again, as often as
    ``distributed.scheduler.allowed-failures`` says (three times).

    Raises
    ------
    InputError
        If the function does: bad input travels as an answer, so no worker logs a traceback of it.
    """
    items = list(items)
    futures = client.map(_answer, items, function=function, pure=False, **constants)
    results: dict[Any, R] = {}
    for done, future in enumerate(as_completed(futures), start=1):
        answer = future.result()
        if isinstance(answer, InputError):
            raise answer
        results[future.key] = answer
        if on_progress:
            on_progress(done, len(items))
    return [results[future.key] for future in futures]


def _answer(item: T, *, function: Callable[..., R], **constants: Any) -> R | InputError:
    try:
        return function(item, **constants)
    except InputError as error:
        return error
