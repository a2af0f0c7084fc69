"""A landing zone, night by night: ingest each plate that is complete, tell what wants a person."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed

from flows.forms import OverdueHours, QuietMinutes, ask
from flows.guard import guarded
from flows.plates import TWO_PLATES
from flows.steps import show_table
from flows.terminal import shown_in_terminal
from flows.verdicts import judge_batches
from phenopipe import compute
from phenopipe.config import IngestConfig, Settings, override, read_settings
from phenopipe.errors import InputError
from phenopipe.ingest.arrival import TROUBLED, Sighting
from phenopipe.ingest.watch import remember_sighting, scan_landing
from phenopipe.lake import Lake
from tasks.ingest import ingest_plate
from tasks.labels import tagged
from tasks.telling import report_overdue


@flow(
    name="ingest-landing",
    flow_run_name="{source}",
    task_runner=TWO_PLATES,
)
@guarded
def ingest_landing(
    source: Annotated[Path, ask("The landing zone: a folder of plates.")],
    root: Annotated[str, ask("The lake's root.")],
    layout: Annotated[str | None, ask("The vendor's layout; the settings', or auto.")] = None,
    quiet_minutes: QuietMinutes = 30.0,
    overdue_hours: OverdueHours = 24.0,
    settings: Annotated[Path | None, ask("An assay's settings (TOML).")] = None,
    compute_kind: Annotated[
        str, ask("threads, local, cuda, slurm or a scheduler's address.")
    ] = "local",
) -> State[Any]:
    """Ingest each plate of a landing zone that is complete and new; tell what was delivered again.

    What was ingested is remembered in the lake.
    """
    chosen = Settings() if settings is None else read_settings(settings)
    config = override(chosen.ingest, layout=layout)
    seen = scan_landing(
        source,
        Lake(root),
        layout=config.layout,
        pattern=config.pattern,
        quiet_minutes=quiet_minutes,
    )
    report_overdue(seen, hours=overdue_hours)
    complete = [sighting for sighting in seen if sighting.state == "complete"]
    others = [sighting for sighting in seen if sighting.state != "complete"]
    done = _ingest(complete, root, config, compute_kind) if complete else []
    fresh = {one.key.experiment for one in done if one.state == "ingested" and one.key}
    if fresh:
        judge_batches(root, fresh, config.qc)
    return _conclude([*done, *others])


def _ingest(
    complete: list[Sighting], root: str, config: IngestConfig, compute_kind: str
) -> list[Sighting]:
    with compute.client(compute_kind) as client:
        scheduler = compute.scheduler_address(client)
        runs = [_submit(sighting, root, scheduler, config) for sighting in complete]
        return [_settle(one, run, root) for one, run in zip(complete, runs, strict=True)]


def _submit(
    sighting: Sighting, root: str, scheduler: str, config: IngestConfig
) -> PrefectFuture[Any]:
    key = sighting.key
    named = {"experiment": key.experiment, "plate": key.plate} if key else {}
    with tagged(**named):
        return ingest_plate.submit(
            sighting.folder,
            root=root,
            scheduler=scheduler,
            config=config,
            platemap=sighting.platemap,
        )


def _settle(sighting: Sighting, run: PrefectFuture[Any], root: str) -> Sighting:
    """Wait for one plate, and remember how its folder looked if it is published now."""
    run.wait()
    message = run.state.message or ""
    if not run.state.is_completed():
        return replace(sighting, state="failed", why=message)
    try:
        remember_sighting(sighting, Lake(root))
    except InputError as error:
        return replace(sighting, state="failed", why=str(error))
    return replace(sighting, state="ingested", why=message)


def _conclude(seen: list[Sighting]) -> State[Any]:
    counts = Counter(sighting.state for sighting in seen)
    counted = ", ".join(f"{count:,} {state}" for state, count in sorted(counts.items()))
    told = f"{len(seen):,} plate{'s' * (len(seen) != 1)}: {counted or 'none'}"
    news = [sighting for sighting in seen if sighting.why]
    show_table([sighting.as_row() for sighting in news], key="landing", description=told)
    troubled = [sighting for sighting in seen if sighting.state in TROUBLED]
    if troubled:
        listed = "; ".join(f"{one.as_row()['plate']} {one.state}: {one.why}" for one in troubled)
        return Failed(message=f"{told}. {listed}", data=troubled)
    return Completed(message=told)


def main(
    source: Annotated[Path, typer.Argument(help="The landing zone: a folder of plates.")],
    root: Annotated[str, typer.Option(help="The lake's root.")],
    quiet_minutes: Annotated[float, typer.Option(help="Quiet for so long is complete.")] = 30.0,
    compute_kind: Annotated[str, typer.Option("--compute", help="Where it runs.")] = "local",
) -> None:
    """Look at a landing zone once from the shell: a bar a plate, then one line."""
    with shown_in_terminal() as console:
        state = ingest_landing(
            source,
            root,
            quiet_minutes=quiet_minutes,
            compute_kind=compute_kind,
            return_state=True,
        )
    console.print(f"{state.name}: {state.message}", highlight=False, soft_wrap=True)
    raise typer.Exit(0 if state.is_completed() else 1)


if __name__ == "__main__":
    typer.run(main)
