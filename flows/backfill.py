"""Bring old plates up to date: plan, show what it costs, fan out what is missing, tell the end."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.fan_out import cancel_children
from flows.forms import (
    Annotations,
    ComputeKind,
    DryRun,
    Experiments,
    Force,
    InFlight,
    MapNameOrNone,
    ModelName,
    Plates,
    ProviderOrAuto,
    Root,
    SettingsFile,
    Since,
    Stage,
    Stages,
    Until,
    Version,
    Where,
    choose_embedding,
    choose_settings,
)
from flows.guard import guarded
from flows.missing import Embedding, embed_missing, list_skipped, read_backlog
from flows.plates import TWO_PLATES
from flows.scoring import map_and_score, score_and_report
from flows.steps import Step, conclude, show_table
from phenopipe.backlog import Backlog, Wanted
from phenopipe.config import Settings
from phenopipe.errors import InputError


def _name_run() -> str:
    asked = flow_run.parameters
    named = [*asked["experiments"], *asked["plates"]] or ["all plates"]
    shown = ", ".join(named[:3]) + (", ..." if len(named) > 3 else "")
    return f"{asked['model']} of {shown}{' (dry run)' if asked['dry_run'] else ''}"


@flow(
    name="backfill",
    flow_run_name=_name_run,
    on_cancellation=[cancel_children],
    task_runner=TWO_PLATES,
)
@guarded
def backfill(
    root: Root,
    experiments: Experiments = (),
    plates: Plates = (),
    since: Since = None,
    until: Until = None,
    stages: Stages = ("embed",),
    model: ModelName = "classical",
    version: Version = "",
    where: Where = "here",
    force: Force = False,
    dry_run: DryRun = False,
    in_flight: InFlight = 8,
    map_name: MapNameOrNone = "",
    annotations: Annotations = "",
    provider: ProviderOrAuto = "auto",
    settings: SettingsFile = "",
    compute_kind: ComputeKind = "local",
) -> State[Any]:
    """Embed what is missing or stale of the chosen plates, then map and score if asked.

    A dry run tells in the table ``backfill-plan`` what is published and what is missing, with
    estimated crops, hours and bytes. A real run ends with the table ``backfill-result``. The map is
    made of the experiments of the chosen plates; of what could be embedded, if some could not.
    """
    _check_stages(stages, map_name=map_name, annotations=annotations)
    chosen = choose_settings(settings)
    config = choose_embedding(chosen, provider=provider, where=where)
    wanted = Wanted(experiments, plates, since, until, model, version or None, force)
    how = Embedding(
        root=root,
        wanted=wanted,
        config=config,
        where=where,
        queue="backfill",
        in_flight=in_flight,
        compute_kind=compute_kind,
    )
    backlog = read_backlog(how)
    planned = _show_plan(backlog)
    if dry_run:
        return Completed(message=planned)
    steps = []
    if "embed" in stages:
        steps += embed_missing(backlog.missing, how, version=backlog.model_version)
    steps += list_skipped(backlog, steps)
    experiments_done = _find_embedded(backlog, steps)
    steps += _map_and_score(
        stages, map_name, annotations, experiments_done, how=how, settings=chosen
    )
    return conclude(steps, key="backfill-result")


def _check_stages(stages: Collection[Stage], *, map_name: str, annotations: str) -> None:
    if {"map", "benchmark"} & set(stages) and not map_name:
        raise InputError("expected the map's name for the stages map and benchmark, found none")
    if "benchmark" in stages and not annotations:
        raise InputError("expected a folder of annotations for the stage benchmark, found none")


def _show_plan(backlog: Backlog) -> str:
    """Publish the table ``backfill-plan``; gives its totals in words."""
    totals = backlog.totals()
    told = (
        f"Plates to embed: {totals['missing']:,}; published already: {totals['done']:,}. To do: "
        f"{totals['crops']:,} crops in {_tell_hours(totals['hours'])} of one run "
        f"({backlog.basis}); {_tell_bytes(totals['bytes_read'])} to read, "
        f"{_tell_bytes(totals['bytes_written'])} to write"
    )
    show_table(backlog.as_rows(), key="backfill-plan", description=told)
    return told


def _find_embedded(backlog: Backlog, steps: Sequence[Step]) -> list[str]:
    """Name the experiments of the plates that have embeddings now, if from other settings."""
    failed = {step.item for step in steps if step.outcome == "failed"}
    done = [step.item for step in steps if step.outcome != "failed"]
    stale = [str(work.key) for work in backlog.missing if work.state == "stale"]
    return sorted({plate.split("/")[0] for plate in {*done, *stale} - failed})


def _tell_hours(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:,.1f} minutes"


def _tell_bytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _map_and_score(
    stages: Collection[Stage],
    name: str,
    annotations: str,
    experiments: Sequence[str],
    *,
    how: Embedding,
    settings: Settings,
) -> list[Step]:
    """Do what is asked after embedding, with what could be embedded."""
    known = Path(annotations) if "benchmark" in stages else None
    if "map" in stages:
        return map_and_score(
            name,
            root=how.root,
            model=how.wanted.model,
            experiments=experiments,
            annotations=known,
            map_config=settings.map,
            benchmark_config=settings.benchmark,
        )
    if known is None:
        return []
    return score_and_report(name, root=how.root, annotations=known, config=settings.benchmark)
