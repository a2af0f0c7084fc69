"""Every stage from the shell, without Prefect.

Exit codes: 0 done; 1 some items failed (a table says which and why); 2 unusable arguments or
input. Results go to stdout, progress and logs to stderr.
"""

import json
import logging
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from phenopipe import catalogue, compute
from phenopipe.cli_benchmark import benchmark, leaderboard
from phenopipe.cli_embeddings import embeddings
from phenopipe.cli_hits import hits, rescue
from phenopipe.cli_maps import maps, query
from phenopipe.cli_models import models
from phenopipe.cli_transfer import transfer
from phenopipe.config import (
    Edge,
    IngestConfig,
    Per,
    Provider,
    override,
)
from phenopipe.console import (
    AsJson,
    Root,
    SettingsFile,
    choose_settings,
    log_to_stderr,
    run_each,
    show_progress,
    show_rows,
)
from phenopipe.errors import InputError
from phenopipe.lake import Lake

if TYPE_CHECKING:
    from phenopipe.ingest.arrival import Sighting

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From microscope plate images to maps of biology.",
)
app.add_typer(models, name="models")
app.add_typer(embeddings, name="embeddings")
app.add_typer(maps, name="map")
app.command()(query)
app.command()(benchmark)
app.command()(leaderboard)
app.command()(hits)
app.command()(rescue)
app.command()(transfer)

ModelName = Annotated[str, typer.Option("--model", help="The model's name.")]
Compute = Annotated[
    str, typer.Option("--compute", help="threads, local, cuda, slurm or a scheduler's address.")
]

# Between two looks at a landing zone.
_A_MINUTE_S = 60


def main() -> None:
    """Run the command line; bad input ends in one sentence and exit code 2."""
    log_to_stderr()
    try:
        app()
    except (InputError, OSError) as error:
        print(f"phenopipe: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)


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

    with show_progress(f"simulate {folder.name}") as on_progress:
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
    layout: Annotated[str | None, typer.Option(help="The vendor's layout; default: auto.")] = None,
    pattern: Annotated[
        str | None,
        typer.Option(help="Your own file names: a regular expression with groups plate, well, …"),
    ] = None,
    platemap: Annotated[Path | None, typer.Option(help="What was done to each well (CSV).")] = None,
    experiment: Annotated[str | None, typer.Option(help="Default: the folder above.")] = None,
    channels: Annotated[
        Path | None, typer.Option(help="Vendor's channels to stains (CSV: channel,stain).")
    ] = None,
    z: Annotated[str | None, typer.Option(help="keep, max or one z-step, from 0.")] = None,
    t: Annotated[str | None, typer.Option(help="keep or one time point, from 0.")] = None,
    illumination: Annotated[
        bool | None, typer.Option("--illumination", help="Divide by illumination functions.")
    ] = None,
    missing: Annotated[
        Literal["fail", "skip"] | None, typer.Option(help="Sites without all their channels.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Ingest anew what was delivered with other files.")
    ] = False,
    settings: SettingsFile = None,
    where: Compute = "local",
) -> None:
    """Turn vendor folders into published plate images, QC tables and ledgers."""
    from phenopipe.ingest import find_platemap, find_plates, ingest_plate

    config = override(
        choose_settings(settings).ingest,
        layout=layout,
        pattern=pattern,
        channels=channels,
        z=_number(z),
        t=_number(t),
        illumination=illumination,
        missing=missing,
    )
    folders = find_plates(source, config.layout, pattern=config.pattern)
    with compute.client(where) as client:
        run = partial(
            ingest_plate,
            lake=Lake(root),
            client=client,
            config=config,
            platemap=platemap or find_platemap(source),
            experiment=experiment,
            replace=replace,
        )
        run_each("ingest", {f"{f.parent.name}/{f.name}": partial(run, f) for f in folders})


@app.command()
def watch(
    source: Annotated[Path, typer.Argument(help="The landing zone: a folder of plates.")],
    root: Root,
    quiet_minutes: Annotated[
        float, typer.Option(min=0, help="A plate that nothing changed in for so long is complete.")
    ] = 30.0,
    once: Annotated[
        bool, typer.Option("--once", help="Look once, instead of each minute.")
    ] = False,
    layout: Annotated[str | None, typer.Option(help="The vendor's layout; default: auto.")] = None,
    settings: SettingsFile = None,
    where: Compute = "local",
) -> None:
    """Ingest each plate of a landing zone once it is complete; tell what was delivered again."""
    from phenopipe.ingest.arrival import TROUBLED
    from phenopipe.ingest.watch import scan_landing

    lake, config = Lake(root), override(choose_settings(settings).ingest, layout=layout)
    look = partial(
        scan_landing,
        source,
        lake,
        layout=config.layout,
        pattern=config.pattern,
        quiet_minutes=quiet_minutes,
    )
    seen = _ingest_complete(look(), lake, config, where)
    _show_news(seen, source)
    if once:
        raise typer.Exit(int(any(sighting.state in TROUBLED for sighting in seen)))
    while True:
        time.sleep(_A_MINUTE_S)
        try:
            before, seen = seen, _ingest_complete(look(before=seen), lake, config, where)
        except InputError as error:
            # A share that is not mounted now may be there in a minute.
            logging.getLogger(__name__).warning("%s", error)
            continue
        if [one.as_row() for one in seen] != [one.as_row() for one in before]:
            _show_news(seen, source)


@app.command()
def qc(
    root: Root,
    experiment: Annotated[str | None, typer.Option(help="Only this experiment.")] = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare an experiment's plates, and tell the verdict on each."""
    from phenopipe.ingest import judge_batch, summarise_qc

    lake, config = Lake(root), choose_settings(settings).ingest.qc
    found = {key.experiment for key in catalogue.list_plates(lake)}
    rows = []
    for one in sorted(found if experiment is None else {experiment}):
        judge_batch(lake, one, config=config)
        rows += summarise_qc(lake, one)
    show_rows(rows, title="QC", as_json=as_json)


@app.command()
def embed(
    root: Root,
    model: ModelName = "classical",
    experiment: Annotated[str | None, typer.Option(help="Only this experiment.")] = None,
    plate: Annotated[str | None, typer.Option(help="Only this plate.")] = None,
    include_failed: Annotated[
        bool | None, typer.Option("--include-failed", help="Embed fields that failed QC too.")
    ] = None,
    provider: Annotated[
        Provider | None, typer.Option(help="What runs the model, or it is refused.")
    ] = None,
    edge: Annotated[
        Edge | None, typer.Option(help="What is done with pixels left over at the border.")
    ] = None,
    turns: Annotated[
        int | None, typer.Option(help="1; or 4, the mean over a crop's quarter turns.")
    ] = None,
    per: Annotated[Per | None, typer.Option(help="A row a crop, or a field.")] = None,
    settings: SettingsFile = None,
    where: Compute = "local",
) -> None:
    """Turn published plate images into published crop embeddings."""
    from phenopipe.embed import embed_plate

    lake = Lake(root)
    config = override(
        choose_settings(settings).embed,
        include_failed=include_failed,
        provider=provider,
        edge=edge,
        turns=turns,
        per=per,
    )
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
        run = partial(embed_plate, lake, model=model, client=client, config=config)
        run_each("embed", {str(key): partial(run, key) for key in keys})


@app.command()
def status(root: Root, as_json: AsJson = False) -> None:
    """Tell plates by stages: published, stale, missing or half-written."""
    entries = catalogue.describe_lake(Lake(root))
    plates = catalogue.tabulate_plates(entries)
    things = [entry.as_row() for entry in entries]
    if as_json:
        print(json.dumps({"plates": plates, "things": things}, indent=1))
        return
    show_rows(plates, title="Plates")
    show_rows([row for row in things if row["state"] != "published"], title="Not as published")
    show_rows(
        [row for row in things if row["thing"].startswith(("maps/", "models/"))], title="Maps"
    )


@app.command()
def verify(root: Root) -> None:
    """Re-read every published file; exit with 1 and a list where anything differs."""
    damaged = catalogue.verify_lake(Lake(root))
    if damaged:
        show_rows([entry.as_row() for entry in damaged], title="Differs from what was published")
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


def _ingest_complete(
    seen: "Sequence[Sighting]", lake: Lake, config: IngestConfig, where: str
) -> "list[Sighting]":
    """Ingest the plates that are complete; a cluster is started only if there are any."""
    from phenopipe.ingest.watch import ingest_sighting

    if all(sighting.state != "complete" for sighting in seen):
        return list(seen)
    done = []
    with compute.client(where) as client:
        for sighting in seen:
            if sighting.state != "complete":
                done.append(sighting)
                continue
            with show_progress(f"ingest {sighting.key}") as on_progress:
                done.append(
                    ingest_sighting(
                        sighting, lake, client=client, config=config, on_progress=on_progress
                    )
                )
    return done


def _show_news(seen: "Sequence[Sighting]", source: Path) -> None:
    rows = [sighting.as_row() for sighting in seen if sighting.why]
    show_rows(rows, title=str(source))
    print(f"{len(seen):,} plates, {len(seen) - len(rows):,} of them ingested before")


def _number(text: str | None) -> str | int | None:
    return int(text) if text is not None and text.isdigit() else text
