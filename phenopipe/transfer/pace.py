"""How fast a transfer goes, and when it stops."""

import threading
import time


class Pace:
    """Spread what is sent over time, so that others on the line keep their share.

    Each file waits until those before it are paid for, at `rate` bytes a second. So from the
    second file on there is never more sent than the rate allows; one file goes as fast as it can.

    Parameters
    ----------
    rate
        Bytes a second; None is as fast as it goes.

    Examples
    --------
    >>> pace = Pace(None)
    >>> pace.wait(10**9)
    """

    def __init__(self, rate: float | None = None) -> None:
        self._rate = rate
        self._paid_at = 0.0
        self._turn = threading.Lock()
        self._stopped = threading.Event()

    def wait(self, n_bytes: int) -> None:
        """Wait for the turn of so many bytes.

        Raises
        ------
        InterruptedError
            If the transfer was stopped meanwhile.
        """
        if self._stopped.wait(self._book(n_bytes)):
            raise InterruptedError("stopped: start the transfer again, it goes on from here")

    def stop(self) -> None:
        """Let nobody send another file."""
        self._stopped.set()

    def _book(self, n_bytes: int) -> float:
        """Pay for so many bytes; returns the seconds until their turn."""
        if self._rate is None:
            return 0.0
        with self._turn:
            now = time.monotonic()
            starts = max(now, self._paid_at)
            self._paid_at = starts + n_bytes / self._rate
            return starts - now
