"""From a folder of plates to a map with its report: ingest and embed each plate, map, benchmark."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from prefect import flow
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, temporary_settings
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.urls import url_for
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from flows.verdicts import judge_batches
from phenopipe import compute
from phenopipe.config import Align, BenchmarkConfig, EmbedConfig, IngestConfig, MapConfig
from phenopipe.errors import InputError
from phenopipe.ingest import find_platemap, find_plates
from phenopipe.lake import Lake, map_part
from phenopipe.report import summarise_map
from tasks.benchmark import benchmark_map, write_report
from tasks.embed import embed_plate
from tasks.ingest import ingest_plate
from tasks.maps import build_map
from tasks.progress import progress_bars

# Two plates at once: one reads while the other computes, and no more lie in memory.
PLATES_AT_ONCE = 2


class Step(BaseModel):
    """One stage of one plate or map, and how it ended: a row of the run's table."""

    model_config = ConfigDict(frozen=True)

    stage: str
    item: str
    outcome: str
    message: str


@flow(
    name="screen-to-map",
    flow_run_name="{name}",
    # The runner's futures do not fit the decorator's annotation in Prefect 3.8.
    task_runner=ThreadPoolTaskRunner(max_workers=PLATES_AT_ONCE),  # type: ignore[arg-type]
)
def screen_to_map(
    source: Annotated[Path, Field(description="One plate's folder, or a folder of plates.")],
    root: Annotated[str, Field(description="The lake's root: a folder or gs://bucket/prefix.")],
    name: Annotated[str, Field(description="The map's name.")],
    annotations: Annotated[Path, Field(description="A folder of known relationships.")],
    layout: Annotated[str, Field(description="The vendor's layout, or auto.")] = "auto",
    platemap: Annotated[Path | None, Field(description="What was done to each well (CSV).")] = None,
    model: Annotated[str, Field(description="The embedding model's name.")] = "classical",
    align: Annotated[Align, Field(description="How batches are made alike.")] = "tvn",
    correct: Literal["arms", "none"] = "arms",
    compute_kind: Annotated[
        str, Field(description="threads, local, cuda, slurm or a scheduler's address.")
    ] = "local",
) -> State[Any]:
    """Turn a screen's vendor files into a corrected map with a report; skip what is published."""
    try:
        folders = find_plates(source, layout=layout)
    except InputError as error:
        return Failed(message=str(error))
    platemap = platemap or find_platemap(source)
    config = IngestConfig(layout=layout)
    with compute.client(compute_kind) as client:
        scheduler = compute.scheduler_address(client)
        runs = [
            _submit_plate(folder, root, scheduler, config, platemap=platemap, model=model)
            for folder in folders
        ]
        steps = [
            _describe(stage, f"{folder.parent.name}/{folder.name}", _finish(future))
            for folder, futures in zip(folders, runs, strict=True)
            for stage, future in zip(("ingest", "embed"), futures, strict=True)
        ]
    ingested = [ingest.state.result() for ingest, _ in runs if ingest.state.is_completed()]
    judged = judge_batches(root, {plate.experiment for plate in ingested}, config.qc)
    steps += [_describe("qc", experiment, state) for experiment, state in judged.items()]
    plates = [embedded.state.result() for _, embedded in runs if embedded.state.is_completed()]
    if plates:
        experiments = tuple(sorted({plate.experiment for plate in plates}))
        steps += _map_and_score(
            name,
            root,
            model,
            experiments,
            annotations,
            config=MapConfig(align=align, correct=correct),
        )
    return _conclude(name, root, steps)


def _submit_plate(
    folder: Path,
    root: str,
    scheduler: str,
    config: IngestConfig,
    *,
    platemap: Path | None,
    model: str,
) -> tuple[PrefectFuture[Any], PrefectFuture[Any]]:
    ingested = ingest_plate.submit(
        folder, root=root, scheduler=scheduler, config=config, platemap=platemap
    )
    embedded = embed_plate.submit(  # type: ignore[call-overload]  # Prefect awaits futures
        ingested, root=root, scheduler=scheduler, model=model, config=EmbedConfig()
    )
    return ingested, embedded


def _finish(future: PrefectFuture[Any]) -> State[Any]:
    future.wait()
    return future.state


def _map_and_score(
    name: str,
    root: str,
    model: str,
    experiments: tuple[str, ...],
    annotations: Path,
    *,
    config: MapConfig,
) -> list[Step]:
    stages: dict[str, Callable[[], State[Any]]] = {
        "map": lambda: build_map(
            name, root=root, model=model, experiments=experiments, config=config, return_state=True
        ),
        "benchmark": lambda: benchmark_map(
            name,
            root=root,
            annotations=annotations,
            config=BenchmarkConfig(),
            return_state=True,
        ),
        "report": lambda: write_report(name, root=root, return_state=True),
    }
    steps = []
    for stage, run in stages.items():
        steps.append(_describe(stage, name, run()))
        if steps[-1].outcome not in ("Completed", "Cached"):
            break
    return steps


def _describe(stage: str, item: str, state: State[Any]) -> Step:
    return Step(stage=stage, item=item, outcome=state.name or "", message=state.message or "")


def _conclude(name: str, root: str, steps: list[Step]) -> State[Any]:
    failed = [step for step in steps if step.outcome not in ("Completed", "Cached")]
    cached = [step for step in steps if step.outcome == "Cached"]
    create_table_artifact(
        [step.model_dump() for step in steps],
        key="screen-to-map",
        description=f"{len(steps)} stages: {len(cached)} cached, {len(failed)} failed.",
    )
    if failed:
        listed = "; ".join(f"{step.stage} {step.item}: {step.message}" for step in failed)
        return Failed(message=f"{len(failed)} of {len(steps)} stages failed. {listed}", data=steps)
    report = Lake(root).link(map_part(name, "report.html"))
    create_link_artifact(report, link_text=f"Report of {name}", key="map-report")
    if len(cached) == len(steps):
        return Completed(name="Cached", message="All was published already.", data=steps)
    return Completed(message=f"{len(steps)} stages, {len(cached)} of them cached.", data=steps)


def main(
    source: Annotated[Path, typer.Argument(help="One plate's folder, or a folder of plates.")],
    root: Annotated[str, typer.Option(help="The lake's root: a folder or gs://bucket/prefix.")],
    name: Annotated[str, typer.Option(help="The map's name.")],
    annotations: Annotated[Path, typer.Option(help="A folder of known relationships.")],
    compute_kind: Annotated[str, typer.Option("--compute", help="Where it runs.")] = "local",
) -> None:
    """Run a screen to its map from the shell: a bar a stage, then five lines of results."""
    # The bars have the terminal; the server keeps the whole log.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")
    logging.getLogger("distributed").setLevel(logging.ERROR)
    # Importing and migrating the server takes over the default 20 s on a busy machine.
    with temporary_settings({PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 180}):
        with progress_bars() as bars:
            state = screen_to_map(
                source, root, name, annotations, compute_kind=compute_kind, return_state=True
            )
        _print_outcome(bars.console, state, root=root, name=name)
    raise typer.Exit(0 if state.is_completed() else 1)


def _print_outcome(console: Console, state: State[Any], *, root: str, name: str) -> None:
    console.print(f"{state.name}: {state.message}", highlight=False, soft_wrap=True)
    if url := url_for("flow-run", state.state_details.flow_run_id):
        console.print(f"Run: {url}", soft_wrap=True)
    if state.is_completed():
        for line in summarise_map(Lake(root), name):
            console.print(line, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
