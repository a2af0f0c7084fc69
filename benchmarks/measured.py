"""Run a command in a process of its own, and watch the memory of it and its children."""

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

_EVERY_S = 0.02


@dataclass(frozen=True)
class Measured:
    """Seconds as the command told them in its last line, and the peak of its memory.

    The memory is the sum of resident sets over the process tree: pages that processes share count
    once for each. On a GPU, the command also tells the share of the time in which it idled.
    """

    seconds: float
    peak_bytes: int
    gpu_idle: float | None = None


def measure(arguments: Sequence[str]) -> Measured:
    """Run ``python ARGUMENTS``, whose last line is a JSON record with its ``seconds``."""
    process = subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watch = _Watch(process.pid)
    watch.start()
    out, errors = process.communicate()
    watch.stop()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}:\n{errors}")
    told = json.loads(out.splitlines()[-1])
    return Measured(told["seconds"], watch.peak, told.get("gpu_idle"))


class _Watch(threading.Thread):
    """Sample the memory of a process tree until it is told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._root = psutil.Process(pid)
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(_EVERY_S):
            self.peak = max(self.peak, self._now())

    def stop(self) -> None:
        self._done.set()
        self.join()

    def _now(self) -> int:
        total = 0
        try:
            for process in [self._root, *self._root.children(recursive=True)]:
                total += process.memory_info().rss
        except psutil.NoSuchProcess:
            pass  # it ended between being listed and being asked
        return total
