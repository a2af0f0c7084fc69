"""The one place that makes a Dask client. Stages take a client and do not know where it runs."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, Security, as_completed, wait
from distributed.comm.addressing import get_address_host_port

from phenopipe import slurm
from phenopipe.errors import InputError

# What a worker keeps of the memory that it frees. Dask's 64 kB has the pages of each image faulted
# in anew (ingest takes 1.5 times as long); glibc's own rule keeps 100 MB a worker for nothing.
_ENVIRON = {"MALLOC_TRIM_THRESHOLD_": 16 << 20, "MALLOC_MMAP_THRESHOLD_": 12 << 20}
_KEEP_MEMORY = {f"distributed.nanny.pre-spawn-environ.{k}": v for k, v in _ENVIRON.items()}

# Dask is not to run a task again whose worker died: it would count deaths for tasks that only stood
# in line there, and not tell of the first. Who submits a task decides; see `is_killed`.
_BLAME_AT_ONCE = {"distributed.scheduler.allowed-failures": 0}

# Profiles of each second are kept for an hour, some 0.2 MB a worker and plate; and a cluster of two
# processes that waits takes 4% to 5% of a core for ticks, its memory and its history. As here it
# takes 1.4% (all measured): cores are for the model.
_QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
}

# Workers on other machines have settings of their own; there Dask reads these.
_REMOTE_ENVIRON = _ENVIRON | {
    "DASK_" + name.upper().replace(".", "__").replace("-", "_"): value
    for name, value in _QUIET.items()
}
_TRIES = 4

T = TypeVar("T")
R = TypeVar("R")

KINDS = ("threads", "local", "cuda", "slurm")

Progress = Callable[[int, int], None]

# How this process joins the clusters that it has started, by their schedulers' addresses.
_security: dict[str, Security] = {}


@contextmanager
def client(kind: str = "local", *, workers: int | None = None) -> Iterator[Client]:
    """Start the cluster of a kind, or join the one at an address; close it at the end.

    Parameters
    ----------
    kind
        ``threads`` (this process), ``local`` (a process a core), ``cuda`` (a worker a GPU),
        ``slurm`` (a worker a job, as Dask-Jobqueue's own configuration file says), or a
        scheduler's address such as ``tcp://10.0.0.1:8786``.
    workers
        Their number; by default the number of cores, of jobs what that file says.

    Raises
    ------
    InputError
        If the kind is unknown, what it needs is not installed, Slurm starts no worker, or an
        address is malformed or asks for a certificate that Dask's configuration does not name.
    OSError
        If nobody answers at the address.
    """
    if "://" in kind:
        with Client(kind, security=_admit(kind)) as joined:
            yield joined
        return
    with dask.config.set(_KEEP_MEMORY | _BLAME_AT_ONCE | _QUIET):
        cluster = _start_slurm(workers) if kind == "slurm" else _cluster(kind, workers)
    with cluster, Client(cluster) as started, _joinable(cluster, scheduler_address(started)):
        yield started


def _admit(address: str) -> Security:
    """Look up what lets this process in, before a client is made.

    A client that fails on its address is never closed, and Python then closes it at any moment:
    where that is the moment at which the next one starts, both wait for one lock for ever.
    """
    security = _security.get(address) or Security()
    if address.startswith("inproc://"):  # of this process: as Dask has written it
        return security
    try:
        get_address_host_port(address, strict=True)
    except ValueError as error:
        raise InputError(
            f"expected a scheduler's address such as tcp://host:8786, found {address!r} ({error})"
        ) from error
    if (
        address.startswith(("tls://", "wss://"))
        and not security.get_connection_args("client")["ssl_context"]
    ):
        raise InputError(
            f"expected a certificate for the scheduler at {address}, found none: name its files "
            "in Dask's configuration, as distributed.comm.tls.ca-file and "
            "distributed.comm.tls.client.cert and .key"
        )
    return security


@contextmanager
def _joinable(cluster: Any, address: str) -> Iterator[None]:
    """Let others in this process join: they need the certificate where there is one."""
    _security[address] = cluster.security
    try:
        yield
    finally:
        del _security[address]


def scheduler_address(client: Client) -> str:
    """Give the address at which others join the client's cluster, for :func:`client`."""
    return str(client.scheduler_info(n_workers=0)["address"])


def usable_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_slurm(jobs: int | None) -> Any:
    _import("dask_jobqueue", extra="slurm")
    return slurm.start_jobs(jobs, environ=_REMOTE_ENVIRON)


def _cluster(kind: str, workers: int | None) -> Any:
    workers = workers or usable_cores()
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
        # Two threads a GPU: one embeds while the other publishes, or reads its first field.
        return _import("dask_cuda", extra="gpu").LocalCUDACluster(threads_per_worker=2)
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
    same bytes each time. A task whose worker died is run again, three times at most.

    Raises
    ------
    InputError
        If the function does: bad input travels as an answer, so no worker logs a traceback of it.
    """
    items = list(items)
    futures = client.map(_answer, items, function=function, pure=False, **constants)
    places = {future: (place, 1) for place, future in enumerate(futures)}
    results: dict[int, R] = {}
    coming = as_completed(futures)
    for future in coming:
        place, tries = places.pop(future)
        if tries < _TRIES and is_killed(future):
            again = submit(client, function, items[place], **constants)
            places[again] = place, tries + 1
            coming.add(again)
            continue
        results[place] = result_of(future)
        if on_progress:
            on_progress(len(results), len(items))
    return [results[place] for place in range(len(items))]


def stream_ordered(
    client: Client, function: Callable[..., R], items: Iterable[T], **constants: Any
) -> Iterator[R]:
    """Run the function on each item in the cluster; yield results in the items' order.

    As :func:`map_ordered`, but no more than two items a thread are at work or wait to be taken,
    so that results need not fit in memory together.

    Raises
    ------
    InputError
        If the function does.
    """
    ahead = 2 * sum(client.nthreads().values())
    waiting: deque[tuple[T, Future[Any]]] = deque()
    for item in items:
        waiting.append((item, submit(client, function, item, **constants)))
        if len(waiting) > ahead:
            yield _settle(client, function, *waiting.popleft(), **constants)
    while waiting:
        yield _settle(client, function, *waiting.popleft(), **constants)


def _settle(
    client: Client, function: Callable[..., R], item: Any, future: Future[Any], **constants: Any
) -> R:
    """Wait for one result; where its worker dies, run the item again, three times at most."""
    for _ in range(_TRIES - 1):
        wait(future)
        if not is_killed(future):
            break
        future = submit(client, function, item, **constants)
    result: R = result_of(future)
    return result


def submit(client: Client, function: Callable[..., R], item: Any, **constants: Any) -> Future[Any]:
    """Run the function on one item in the cluster.

    Where its worker dies meanwhile, it is not run again: see :func:`is_killed`.
    """
    return client.submit(_answer, item, function=function, pure=False, **constants)


def is_killed(future: Future[Any]) -> bool:
    """Tell whether a future that is done failed as its worker died."""
    return future.status == "error" and isinstance(future.exception(), KilledWorker)


def result_of(future: Future[Any]) -> Any:
    """Wait for what the function of :func:`submit` gave; raise what it raised."""
    answer = future.result()
    if isinstance(answer, InputError):
        raise answer
    return answer


def _answer(item: T, *, function: Callable[..., R], **constants: Any) -> R | InputError:
    try:
        return function(item, **constants)
    except InputError as error:
        return error
