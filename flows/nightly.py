"""Every night: ingest what arrived, embed what is missing, and bring the map up to date."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows.fan_out import cancel_children
from flows.forms import (
    Annotations,
    ComputeKind,
    InFlight,
    Landing,
    MapNameOrNone,
    ModelName,
    OverdueHours,
    ProviderOrAuto,
    QuietMinutes,
    Root,
    SettingsFile,
    Version,
    Where,
    ask,
    choose_embedding,
    choose_settings,
)
from flows.guard import guarded
from flows.ingest import ingest_landing
from flows.missing import Embedding, embed_missing, read_backlog
from flows.plates import TWO_PLATES
from flows.scoring import map_and_score
from flows.steps import Step, conclude
from phenopipe.backlog import Backlog, PlateWork, Wanted


def _name_run() -> str:
    return f"night of {flow_run.scheduled_start_time:%Y-%m-%d}"


@flow(
    name="nightly",
    flow_run_name=_name_run,
    on_cancellation=[cancel_children],
    task_runner=TWO_PLATES,
)
@guarded
def nightly(
    source: Landing,
    root: Root,
    model: ModelName = "classical",
    version: Version = "",
    map_name: MapNameOrNone = "",
    annotations: Annotations = "",
    quiet_minutes: QuietMinutes = 30.0,
    overdue_hours: OverdueHours = 24.0,
    layout: Annotated[str, ask("The vendor's layout. Empty: the settings', or auto.")] = "",
    where: Where = "here",
    in_flight: InFlight = 8,
    provider: ProviderOrAuto = "auto",
    settings: SettingsFile = "",
    compute_kind: ComputeKind = "local",
) -> State[Any]:
    """Ingest plates that are complete, embed those without embeddings, and make the map anew.

    A plate that fails does not stop the others. Nights that were missed need nothing of their own:
    each run takes up whatever is there. What is embedded with an older model or other settings is
    told of and left to a backfill: no night embeds a whole lake anew because a model came out.
    """
    chosen = choose_settings(settings)
    config = choose_embedding(chosen, provider=provider, where=where)
    ingested = ingest_landing(
        Path(source),
        root,
        layout=layout or None,
        quiet_minutes=quiet_minutes,
        overdue_hours=overdue_hours,
        settings=Path(settings) if settings else None,
        compute_kind=compute_kind,
        return_state=True,
    )
    wanted = Wanted(model=model, version=version or None)
    how = Embedding(
        root=root,
        wanted=wanted,
        config=config,
        where=where,
        queue="nightly",
        in_flight=in_flight,
        compute_kind=compute_kind,
    )
    backlog = read_backlog(how)
    embedded = embed_missing(_find_new(backlog), how, version=backlog.model_version)
    steps = [Step.of("ingest", source, ingested), *embedded]
    if map_name and _is_any_embedded(backlog, embedded):
        steps += map_and_score(
            map_name,
            root=root,
            model=model,
            experiments=None,
            annotations=Path(annotations) if annotations else None,
            map_config=chosen.map,
            benchmark_config=chosen.benchmark,
        )
    return conclude(steps, key="nightly")


def _is_any_embedded(backlog: Backlog, steps: Sequence[Step]) -> bool:
    """Tell whether there is anything to make a map of."""
    before = backlog.done or any(work.state == "stale" for work in backlog.missing)
    return bool(before) or any(step.outcome == "done" for step in steps)


def _find_new(backlog: Backlog) -> list[PlateWork]:
    """Choose the plates without embeddings; say how many have others than asked for."""
    stale = [work for work in backlog.missing if work.state == "stale"]
    if stale:
        get_run_logger().warning(
            "%d plates are embedded otherwise than asked for, such as %s (%s): a backfill brings "
            "them up to date",
            len(stale),
            stale[0].key,
            stale[0].why,
        )
    return [work for work in backlog.missing if work.state != "stale"]
