"""SIGTERM in the main process: what is in hand is finished and published, then the run ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = 128 + signal.SIGTERM

# Of this process: whether it is about to end, and the runs in it that have work in hand.
_ending = threading.Event()
_at_work: set["Drain"] = set()
_changed = threading.Condition()


class Drain:
    """Whether the run was asked to end."""

    def __init__(self) -> None:
        self._asked = False

    def is_asked(self) -> bool:
        """Tell whether it was, alone or with all of its process."""
        return self._asked or is_ending()

    def ask(self, _number: int = 0, _frame: object = None) -> None:
        """Ask it to end; the second time, it ends on the spot."""
        if self._asked:
            raise SystemExit(EXIT_CODE)
        self._asked = True


@contextmanager
def drain_on_sigterm() -> Iterator[Drain]:
    """Let SIGTERM ask the run to end, as long as the block lasts.

    Only the main thread can hear signals; elsewhere :func:`end_all` asks.
    """
    drain = Drain()
    with _counted(drain):
        if threading.current_thread() is not threading.main_thread():
            yield drain
            return
        before = signal.signal(signal.SIGTERM, drain.ask)
        try:
            yield drain
        finally:
            signal.signal(signal.SIGTERM, before)


def end_all(*, within_s: float) -> bool:
    """Have every run of this process publish what it has in hand and end; wait for that.

    For who hears of the process's end in another way than :func:`drain_on_sigterm`, with the runs
    in other threads. Runs that begin from now on end at once.

    Parameters
    ----------
    within_s
        Seconds to wait at most.

    Returns
    -------
    bool
        Whether all have ended.
    """
    _ending.set()
    with _changed:
        return _changed.wait_for(lambda: not _at_work, timeout=within_s)


def is_ending() -> bool:
    """Tell whether this process is about to end."""
    return _ending.is_set()


@contextmanager
def _counted(drain: Drain) -> Iterator[None]:
    with _changed:
        _at_work.add(drain)
    try:
        yield
    finally:
        with _changed:
            _at_work.discard(drain)
            _changed.notify_all()
