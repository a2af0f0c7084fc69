"""How a stage tells how far it is: a bar in the terminal, and an artifact in Prefect's UI."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from phenopipe.compute import Progress as OnProgress
from tasks.telling import UNTOLD, is_in_run

_log = logging.getLogger(__name__)

# Prefect's task threads run in a copy of the flow's context, so they see the flow's bars.
_bars: ContextVar[Progress | None] = ContextVar("bars", default=None)

# The server hears of a stage at most so often, and not at all of one that is done sooner.
EVERY_S = 5.0


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show a bar for each stage that runs inside, on the terminal."""
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[outcome]}"),
    )
    with Progress(*columns) as bars:
        token = _bars.set(bars)
        try:
            yield bars
        finally:
            _bars.reset(token)


@contextmanager
def show_progress(description: str, *, every_s: float = EVERY_S) -> Iterator[OnProgress]:
    """Show how far one stage is, as long as the block lasts.

    Yields
    ------
    Progress
        What the stage calls with what is done and the total. It returns at once: a slow server
        does not hold the stage up, and one that is down does not end it.
    """
    bar = _open_bar(description)
    report = _Report(description, every_s=every_s)

    def on_progress(done: int, total: int) -> None:
        bar(done, total)
        report(done, total)

    with report:
        yield on_progress


def _open_bar(description: str) -> OnProgress:
    bars = _bars.get()
    if bars is None:
        return lambda _done, _total: None
    bar = bars.add_task(description, total=None, outcome="")
    return lambda done, total: bars.update(bar, completed=done, total=total)


def show_outcome(description: str, outcome: str) -> None:
    """Write the outcome behind the stage's bar, which is full then."""
    bars = _bars.get()
    for bar in bars.tasks if bars else ():
        if bars and bar.description == description:
            bars.update(bar.id, completed=bar.total or 1, total=bar.total or 1, outcome=outcome)


class _Report:
    """The progress artifact of one stage of a run, made when the stage turns out to be long.

    It is written by a thread of its own, one request at a time.
    """

    def __init__(self, description: str, *, every_s: float) -> None:
        self._description = description
        self._every_s = every_s
        self._due_s = time.monotonic() + every_s if is_in_run() else float("inf")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="progress")
        self._sending: Future[None] | None = None
        self._artifact: UUID | None = None

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() < self._due_s or (self._sending and not self._sending.done()):
            return
        self._due_s = time.monotonic() + self._every_s
        self._submit(done, total)

    def __enter__(self) -> None:
        """Nothing to do: the artifact is made when it is due."""

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._sending and error is None:
            self._submit(1, 1, "done")
        self._writer.shutdown()

    def _submit(self, done: int, total: int, told: str = "") -> None:
        told = f"{self._description}: {told or f'{done:,} of {total:,}'}"
        # The run's context says to which run the artifact belongs.
        send = copy_context().run
        self._sending = self._writer.submit(send, self._send, 100 * done / max(total, 1), told)

    def _send(self, percent: float, told: str) -> None:
        try:
            if self._artifact is None:
                made = create_progress_artifact(percent, description=told)
                self._artifact = made if isinstance(made, UUID) else None
            else:
                update_progress_artifact(self._artifact, percent, description=told)
        except UNTOLD as error:
            _log.warning("%s: its progress could not be told: %s", self._description, error)
