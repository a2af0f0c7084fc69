"""How a stage tells how far it is: a bar in the terminal where one is shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from phenopipe.compute import Progress as OnProgress

# Prefect's task threads run in a copy of the flow's context, so they see the flow's bars.
_bars: ContextVar[Progress | None] = ContextVar("bars", default=None)


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


def show_progress(description: str) -> OnProgress:
    """Open a bar for one stage; returns what the stage calls with what is done and the total."""
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
