"""Locks of the operating system, that hold other writers off; a bucket has leases instead."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout


class Lock(Protocol):
    """What holds others off a thing."""

    def confirm(self) -> None:
        """Make sure that it does so still; else an `OSError`."""
        ...


class Flock:
    """A lock of the operating system's: it goes with the process that holds it."""

    def confirm(self) -> None:
        """Nobody takes it away."""


@contextmanager
def flock(path: Path, *, wait: bool) -> Iterator[Flock | None]:
    """Hold a file's flock; yields None where another holds it, unless told to wait.

    The file is made, and stays: who removed it would let two writers lock two files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        yield None
        return
    try:
        yield Flock()
    finally:
        lock.release()
