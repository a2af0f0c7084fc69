"""Every stage from the shell, without Prefect.

Exit codes: 0 done; 1 some items failed (a table says which and why); 2 unusable arguments or
input. Results go to stdout, progress and logs to stderr.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from phenopipe import catalogue, compute
from phenopipe.config import IngestConfig, MapConfig
from phenopipe.errors import InputError
from phenopipe.lake import Lake, MapRef, PlateRef, describe_counts

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From microscope plate images to maps of biology.",
)
models = typer.Typer(no_args_is_help=True, help="The models of a lake.")
app.add_typer(models, name="models")

Root = Annotated[str, typer.Option("--root", help="The lake's root folder.")]
MapName = Annotated[str, typer.Option("--map", help="The map's name.")]
ModelName = Annotated[str, typer.Option("--model", help="The model's name.")]
Compute = Annotated[
    str, typer.Option("--compute", help="threads, local, cuda, slurm or a scheduler's address.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def main() -> None:
    """Run the command line; bad input ends in one sentence and exit code 2."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(message)s",
        handlers=[RichHandler(console=Console(stderr=True), show_time=False, show_path=False)],
    )
    logging.getLogger("distributed").setLevel(logging.ERROR)
    try:
        app()
    except InputError as error:
        print(f"phenopipe: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="Where the screen is written.")],
    layout: Annotated[
        Literal["imagexpress", "harmony", "rxrx"], typer.Option(help="The vendor's layout.")
    ] = "imagexpress",
    plates: Annotated[int, typer.Option(min=1, help="Plates, spread over two batches.")] = 4,
    wells: Annotated[Literal["96", "384"], typer.Option(help="Wells a plate.")] = "384",
    seed: Annotated[int, typer.Option(help="The same seed draws the same screen.")] = 0,
) -> None:
    """Draw a screen with known truth as a vendor's files."""
    from phenopipe.simulate import simulate_screen

    with _progress(f"simulate {folder.name}") as on_progress:
        simulate_screen(
            folder,
            layout=layout,
            plates=plates,
            wells=int(wells),
            seed=seed,
            on_progress=on_progress,
        )
    print(f"{plates} plates of {wells} wells in {folder}, their truth in {folder / 'truth'}")


@app.command()
def ingest(
    source: Annotated[Path, typer.Argument(help="One plate's folder, or a folder of plates.")],
    root: Root,
    layout: Annotated[str, typer.Option(help="The vendor's layout, or auto.")] = "auto",
    platemap: Annotated[Path | None, typer.Option(help="What was done to each well (CSV).")] = None,
    experiment: Annotated[str | None, typer.Option(help="Default: the folder above.")] = None,
    where: Compute = "local",
) -> None:
    """Turn vendor folders into published plate images, QC tables and ledgers."""
    from phenopipe.ingest import find_platemap, find_plates, ingest_plate

    folders = find_plates(source, layout=layout)
    with compute.client(where) as client:
        run = partial(
            ingest_plate,
            lake=Lake(root),
            client=client,
            config=IngestConfig(layout=layout),
            platemap=platemap or find_platemap(source),
            experiment=experiment,
        )
        _run_each("ingest", {f"{f.parent.name}/{f.name}": partial(run, f) for f in folders})


@app.command()
def embed(
    root: Root,
    model: ModelName = "classical",
    experiment: Annotated[str | None, typer.Option(help="Only this experiment.")] = None,
    plate: Annotated[str | None, typer.Option(help="Only this plate.")] = None,
    where: Compute = "local",
) -> None:
    """Turn published plate images into published crop embeddings."""
    from phenopipe.embed import embed_plate

    lake = Lake(root)
    keys = [
        key
        for key in catalogue.list_plates(lake)
        if experiment in (None, key.experiment) and plate in (None, key.plate)
    ]
    if not keys:
        raise InputError(
            f"expected a published plate image of experiment {experiment or '(any)'}, plate "
            f"{plate or '(any)'} in {root}, found none: run `phenopipe ingest` first"
        )
    with compute.client(where) as client:
        run = partial(embed_plate, lake, model=model, client=client)
        _run_each("embed", {str(key): partial(run, key) for key in keys})


@app.command(name="map")
def build(
    root: Root,
    name: Annotated[str, typer.Option("--name", help="The map's name.")],
    model: ModelName = "classical",
    align: Annotated[
        Literal["tvn", "centerscale", "pca-centerscale", "none"], typer.Option()
    ] = "tvn",
    correct: Annotated[Literal["arms", "none"], typer.Option()] = "arms",
    expression: Annotated[
        Path | None, typer.Option(help="CSV of gene and zfpkm; default: the platemap's column.")
    ] = None,
) -> None:
    """Align, correct and aggregate embeddings into a published map."""
    from phenopipe.maps import build_map

    config = MapConfig(align=align, correct=correct)
    run = partial(build_map, Lake(root), model=model, expression=expression, config=config)
    _run_each("map", {name: partial(run, name=name)})


@app.command()
def benchmark(
    root: Root,
    name: MapName,
    annotations: Annotated[Path, typer.Option(help="A folder of known relationships.")],
) -> None:
    """Score a map against known relationships, and write its report."""
    from phenopipe.benchmark import benchmark_map
    from phenopipe.report import summarise_map, write_report

    lake = Lake(root)
    scores = partial(benchmark_map, lake, name=name, annotations=annotations)
    _run_each("benchmark", {"scores": scores, "report": partial(write_report, lake, name)})
    for line in summarise_map(lake, name):
        print(line)


@app.command()
def query(
    root: Root,
    name: MapName,
    perturbation: Annotated[str, typer.Argument(help="A gene or compound of the map.")],
    top: Annotated[int, typer.Option(min=1, help="How many neighbours.")] = 10,
    as_json: AsJson = False,
) -> None:
    """List a perturbation's nearest neighbours in a map."""
    from phenopipe.maps import query_map

    rows = query_map(Lake(root), name, perturbation, top=top).to_pylist()
    _show(rows, title=f"Neighbours of {perturbation} in {name}", as_json=as_json)


@app.command()
def status(root: Root, as_json: AsJson = False) -> None:
    """Tell plates by stages: published, stale, missing or half-written."""
    entries = catalogue.describe_lake(Lake(root))
    plates = catalogue.tabulate_plates(entries)
    things = [entry.as_row() for entry in entries]
    if as_json:
        print(json.dumps({"plates": plates, "things": things}, indent=1))
        return
    _show(plates, title="Plates")
    _show([row for row in things if row["state"] != "published"], title="Not as published")
    _show([row for row in things if row["thing"].startswith(("maps/", "models/"))], title="Maps")


@app.command()
def verify(root: Root) -> None:
    """Re-read every published file; exit with 1 and a list where anything differs."""
    damaged = catalogue.verify_lake(Lake(root))
    if damaged:
        _show([entry.as_row() for entry in damaged], title="Differs from what was published")
        raise typer.Exit(1)
    print("every published file has the bytes that were published")


@app.command()
def gc(
    root: Root,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
) -> None:
    """Remove half-written data."""
    for path in (swept := catalogue.sweep_lake(Lake(root), dry_run=dry_run)):
        print(path)
    print(f"{len(swept)} {'to remove' if dry_run else 'removed'}", file=sys.stderr)


@models.command(name="list")
def list_models_command(root: Root, as_json: AsJson = False) -> None:
    """List the lake's models."""
    from phenopipe.models import list_models

    rows = [card.model_dump(mode="json") for card in list_models(Lake(root))]
    _show(rows, title="Models", as_json=as_json)


def _run_each(stage: str, items: Mapping[str, Callable[..., PlateRef | MapRef]]) -> None:
    """Run a stage on each item; a table of what happened; exit with 1 where any failed."""
    rows = []
    for name, run in items.items():
        try:
            with _progress(f"{stage} {name}") as on_progress:
                ref = run(on_progress=on_progress)
            counts = describe_counts(ref.counts)
            rows.append((name, "done" if ref.computed else "published already", counts))
        except InputError as error:
            rows.append((name, "failed", str(error)))
    failed = [row for row in rows if row[1] == "failed"]
    if len(failed) == len(rows) == 1:
        raise InputError(failed[0][2])
    _show([dict(zip((stage, "outcome", "what"), row, strict=True)) for row in rows], title=stage)
    if failed:
        raise typer.Exit(1)


@contextmanager
def _progress(description: str) -> Iterator[compute.Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bars:
        bar = bars.add_task(description, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def _show(rows: Sequence[dict[str, Any]], *, title: str, as_json: bool = False) -> None:
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    if not rows:
        return
    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_spell(value) for value in row.values()))
    Console().print(table)


def _spell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
