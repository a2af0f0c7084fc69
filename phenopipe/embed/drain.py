"""SIGTERM in the main process: what is in hand is finished and published, then the run ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = 128 + signal.SIGTERM


class Drain:
    """Whether the run was asked to end."""

    def __init__(self) -> None:
        self._asked = False

    def is_asked(self) -> bool:
        """Tell whether it was."""
        return self._asked

    def ask(self, _number: int = 0, _frame: object = None) -> None:
        """Ask it to end; the second time, it ends on the spot."""
        if self._asked:
            raise SystemExit(EXIT_CODE)
        self._asked = True


@contextmanager
def drain_on_sigterm() -> Iterator[Drain]:
    """Let SIGTERM ask the run to end, as long as the block lasts.

    Only the main thread can hear signals; elsewhere nothing changes.
    """
    drain = Drain()
    if threading.current_thread() is not threading.main_thread():
        yield drain
        return
    before = signal.signal(signal.SIGTERM, drain.ask)
    try:
        yield drain
    finally:
        signal.signal(signal.SIGTERM, before)
