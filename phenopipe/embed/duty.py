"""What a worker process has in hand: how it is told to end early, and how it ends when hung."""

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from distributed import Client, Worker, WorkerPlugin, get_worker

_TERMINATED = 128 + signal.SIGTERM

# State of this process. Each change is one step of the interpreter, so a signal's handler needs
# no lock.
_at_work: set[object] = set()
_told_to_end: dict[str, bool] = {}
_signals: set[int] = set()


class EndOnSigterm(WorkerPlugin):
    """Have a worker that gets SIGTERM publish what it has in hand before it ends.

    Without it the signal ends a worker on the spot. A preempted machine's whole process group is
    sent the signal, and given some time.
    """

    idempotent = True

    def setup(self, worker: Worker) -> None:  # noqa: ARG002
        """Handle the signal, in workers that are processes of their own."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _end_soon)


def prepare_workers(client: Client) -> None:
    """Have this cluster's workers, and those that will join it, publish on SIGTERM."""
    # Dask fails where a worker dies just now; it has noted what the one in its place is to get.
    with suppress(OSError):
        client.register_plugin(EndOnSigterm(), name="phenopipe-embed")


@contextmanager
def on_duty() -> Iterator[None]:
    """Let SIGTERM wait until the block is left; the process ends then."""
    token = object()
    _at_work.add(token)
    if _signals:
        _end_if_idle(token)
    try:
        yield
    finally:
        _end_if_idle(token)


def end_early(run: str, keep: bool) -> None:
    """Tell this process to end its work for a run, and to keep what it has done so far, or not."""
    _told_to_end[run] = keep


def is_told_to_end(run: str) -> bool:
    """Tell whether work for a run is to end early."""
    return bool(_signals) or run in _told_to_end


def is_discarded(run: str) -> bool:
    """Tell whether nobody wants what is done for a run."""
    return not _told_to_end.get(run, True)


def is_replaced_if_lost() -> bool:
    """Tell whether another process takes this one's place when it ends: a nanny watches it.

    Asked in the thread of a Dask task.
    """
    return get_worker().nanny is not None


class Watchdog:
    """Ends this process when a block takes too long, whatever holds it up.

    A thread of C counts the time, so it works where a hung library holds Python's lock too.
    Several threads of a process may be watched at once.
    """

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._deadlines: dict[object, float] = {}
        self._nowhere: IO[str] | None = None

    @contextmanager
    def watch(self, patience_s: float) -> Iterator[None]:
        """End the process if the block takes longer than this."""
        token = object()
        with self._changing:
            self._deadlines[token] = time.monotonic() + patience_s
            self._set()
        try:
            yield
        finally:
            with self._changing:
                del self._deadlines[token]
                self._set()

    def _set(self) -> None:
        if not self._deadlines:
            faulthandler.cancel_dump_traceback_later()
            return
        # The traceback would go to the user's terminal; the engine says what happened.
        self._nowhere = self._nowhere or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
        left_s = max(min(self._deadlines.values()) - time.monotonic(), 0.001)
        faulthandler.dump_traceback_later(left_s, exit=True, file=self._nowhere)


WATCHDOG = Watchdog()


def _end_soon(number: int, _frame: object) -> None:
    _signals.add(number)
    if not _at_work:
        os._exit(_TERMINATED)


def _end_if_idle(token: object) -> None:
    _at_work.discard(token)
    if _signals and not _at_work:
        os._exit(_TERMINATED)
