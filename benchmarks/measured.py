"""Run a command in a process of its own, and watch the memory of it and its children."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

# Each look at a tree of processes takes a millisecond of a core, or more.
_EVERY_S = 0.2
# What the libraries of linear algebra and OpenMP read when they are loaded.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Measured:
    """Seconds as the command told them in its last line, and the peak of its memory.

    The memory is the sum of resident sets over the process tree: pages that processes share count
    once for each. On a GPU, the command also tells the share of the time in which it idled.
    """

    seconds: float
    peak_bytes: int
    gpu_idle: float | None = None


def measure(
    arguments: Sequence[str], *, python: str = sys.executable, threads: int | None = None
) -> Measured:
    """Run ``python ARGUMENTS``, whose last line is a JSON record with its ``seconds``.

    Parameters
    ----------
    python
        Another environment's, for a contender that lives in one of its own.
    threads
        How many linear algebra may use; what the libraries choose if None.
    """
    limits = {} if threads is None else dict.fromkeys(_THREADS, str(threads))
    process = subprocess.Popen(  # noqa: S603 - our own script
        [python, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | limits,
    )
    watch = _Watch(process.pid)
    watch.start()
    out, errors = process.communicate()
    watch.stop()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}:\n{errors}")
    told = json.loads(out.splitlines()[-1])
    return Measured(told["seconds"], watch.peak, told.get("gpu_idle"))


def resident_bytes(root: psutil.Process) -> int:
    """Sum the resident sets of a process and all below it."""
    total = 0
    try:
        for process in [root, *root.children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass  # it ended between being listed and being asked
    return total


class _Watch(threading.Thread):
    """Sample the memory of a process tree until it is told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._root = psutil.Process(pid)
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(_EVERY_S):
            self.peak = max(self.peak, resident_bytes(self._root))

    def stop(self) -> None:
        self._done.set()
        self.join()
