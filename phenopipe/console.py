"""What the command line prints: results on stdout, progress and logs on stderr."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from phenopipe.compute import Progress as OnProgress
from phenopipe.config import Settings, read_settings
from phenopipe.errors import InputError
from phenopipe.lake import SKIPPED, MapRef, PlateRef, describe_counts

# Options that several commands take.
Root = Annotated[
    str, typer.Option("--root", help="The lake's root: a folder or gs://bucket/prefix.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
MapName = Annotated[str, typer.Option("--map", help="The map's name.")]
SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="An assay's settings: TOML, a table a stage.")
]


def choose_settings(path: Path | None) -> Settings:
    """Read the settings file that was given, or take the defaults."""
    return Settings() if path is None else read_settings(path)


def log_to_stderr() -> None:
    """Send the library's log to stderr, and of Dask and torch's exporter only what went wrong."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(message)s",
        handlers=[RichHandler(console=Console(stderr=True), show_time=False, show_path=False)],
    )
    for chatty in ("distributed", "onnxscript", "onnx_ir"):
        logging.getLogger(chatty).setLevel(logging.ERROR)


def run_each(stage: str, items: Mapping[str, Callable[..., PlateRef | MapRef]]) -> None:
    """Run a stage on each item; a table of what happened.

    Exits with 1 where any failed, or is published without some of its fields.
    """
    rows = []
    for name, run in items.items():
        try:
            with show_progress(f"{stage} {name}") as on_progress:
                ref = run(on_progress=on_progress)
            rows.append((name, _outcome(ref), describe_counts(ref.counts)))
        except (InputError, OSError) as error:
            if len(items) == 1:
                raise
            rows.append((name, "failed", str(error)))
    failed = [row for row in rows if row[1] in ("failed", "incomplete")]
    show_rows(
        [dict(zip((stage, "outcome", "what"), row, strict=True)) for row in rows], title=stage
    )
    if failed:
        raise typer.Exit(1)


def _outcome(ref: PlateRef | MapRef) -> str:
    if ref.counts.get(SKIPPED):
        return "incomplete"
    return "done" if ref.computed else "published already"


@contextmanager
def show_progress(description: str) -> Iterator[OnProgress]:
    """Show a bar on stderr; yields what is called with what is done and the total."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bars:
        bar = bars.add_task(description, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def show_rows(rows: Sequence[dict[str, Any]], *, title: str, as_json: bool = False) -> None:
    """Print rows as a table, or as one JSON document; a table of none is not printed."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    if not rows:
        return
    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        # A cell may name a settings' [section]: Rich would take that for markup.
        table.add_row(*(escape(_spell(value)) for value in row.values()))
    Console().print(table)


def _spell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
