"""Threads for work that numpy does: products, sorts and searches let one another run."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

from phenopipe.compute import usable_cores

T = TypeVar("T")
R = TypeVar("R")

# Each thread holds a block of what it works on, and beyond this they wait for memory.
_MOST_THREADS = 8


def run_threads(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Call a function on each item, in as many threads as there are cores, and at most 8.

    BLAS runs on one thread meanwhile: products in each of ours would start as many again, which
    wait for one another by spinning (six times the CPU time on a busy machine).

    Returns
    -------
    list
        The results in the items' order.

    Examples
    --------
    >>> run_threads(abs, [-1, 2])
    [1, 2]
    """
    threads = min(usable_cores(), _MOST_THREADS)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))
