"""Batches: how many crops a run takes, without leaving a crop's bits to chance.

A kernel is chosen by the shape of its input, and another kernel may sum in another order. On a
CPU the sizes of the runs follow from the number of crops alone. On a GPU the fastest size that
fits is found by trying. There the first size says what a crop's vector is: a last run is padded
to it, and another size is taken only where a trial, on the crops in hand, gave the same bits.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from phenopipe.errors import InputError

Crops = npt.NDArray[Any]
Vectors = npt.NDArray[np.float32]
Run = Callable[[Crops], Vectors]

# A larger size takes more memory: it must be faster by this much.
_GAIN = 1.05
# Runs that are timed for each size; the best counts.
_TRIALS = 3


class OutOfMemory(Exception):  # noqa: N818  (a state of the device, not a mistake)
    """The device has no memory for a run of so many crops."""


class Batches:
    """The sizes of a session's runs, for crops of one shape; safe to share between threads.

    Parameters
    ----------
    batch
        Crops a run that say what the bits are.
    most
        Largest size that is tried; ``batch`` where none is, larger or smaller.
    fixed
        Whether the graph takes no other number.
    """

    def __init__(self, batch: int, *, most: int, fixed: bool = False) -> None:
        self.batch = batch
        self._size = batch
        self._same = {batch: True}
        self._most = most
        self._fixed = fixed
        self._tries = most > batch and not fixed
        self._ran = False
        self._grown = False
        self._growing = threading.Lock()

    def run_all(self, run: Run, crops: Crops) -> Vectors:
        """Run crops ``(n, c, y, x)`` in order; give their vectors ``(n, d)``.

        Raises
        ------
        InputError
            If there is no memory for the smallest run.
        OSError
            If there was memory before and is none now, for a size with the same bits.
        """
        if self._tries and not self._grown and len(crops) >= 2 * self.batch:
            self._grow(run, crops)
        parts, start = [], 0
        while start < len(crops):
            size = self._choose_size(len(crops) - start)
            part = crops[start : start + size]
            try:
                parts.append(self._run(run, part, size))
            except OutOfMemory as error:
                self._shrink(size, error)
                continue
            start += len(part)
        return np.concatenate(parts)

    def _choose_size(self, left: int) -> int:
        enough = [size for size, same in self._same.items() if same and size >= left]
        return min([self._size, *enough])

    def _run(self, run: Run, crops: Crops, size: int) -> Vectors:
        padded = _pad(crops, size) if self._tries or self._fixed else crops
        vectors = run(padded)
        self._ran = True
        fewer = 1 << (len(crops) - 1).bit_length()
        if self._tries and fewer < size and fewer not in self._same:
            self._same[fewer] = _equal(run(padded[:fewer]), vectors[:fewer])
        return vectors[: len(crops)]

    def _grow(self, run: Run, crops: Crops) -> None:
        """Double the size while that is faster and gives the same bits."""
        with self._growing:
            size = self._size
            while not self._grown and 2 * size <= min(len(crops), self._most):
                try:
                    seconds, vectors = _time(run, crops[: 2 * size], size)
                    in_double, again = _time(run, crops[: 2 * size], 2 * size)
                except OutOfMemory:
                    break
                if seconds < _GAIN * in_double or not _equal(again, vectors):
                    break
                size *= 2
                self._same[size] = True
                self._size = size
            self._grown = True

    def _shrink(self, size: int, error: OutOfMemory) -> None:
        """Take a smaller size, with the same bits if any crop had its vector already."""
        smaller = [other for other, same in self._same.items() if same and other < size]
        if smaller:
            self._size = max(smaller)
        elif self._ran:
            raise OSError(
                f"expected memory for {size} crops a run as before, found it taken ({error}): "
                "leave the device to one worker"
            ) from error
        elif self._fixed or size == 1:
            raise InputError(
                f"expected memory for {size} crops a run, found none ({error}): set embed.crop "
                "smaller, or use fewer workers or a device with more memory"
            ) from error
        else:
            self.batch = self._size = size // 2
            self._same = {self.batch: True}


def _pad(crops: Crops, size: int) -> Crops:
    """Repeat the crops in turn until there are so many."""
    if len(crops) == size:
        return crops
    return crops[np.arange(size) % len(crops)]


def _equal(one: Vectors, other: Vectors) -> bool:
    return one.tobytes() == other.tobytes()


def _time(run: Run, crops: Crops, size: int) -> tuple[float, Vectors]:
    """Time the crops in runs of a size: the best of some trials in seconds, and the vectors."""
    best = float("inf")
    for _ in range(_TRIALS):
        started = time.perf_counter()
        vectors = np.concatenate([run(crops[k : k + size]) for k in range(0, len(crops), size)])
        best = min(best, time.perf_counter() - started)
    return best, vectors
