"""From a folder of plates to a map with its report: ingest and embed each plate, map, benchmark."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.utilities.urls import url_for
from rich.console import Console

from flows.cluster import open_cluster
from flows.forms import ask
from flows.guard import guarded
from flows.plates import TWO_PLATES
from flows.scoring import map_and_score
from flows.steps import Step, conclude
from flows.terminal import shown_in_terminal
from flows.verdicts import judge_batches
from phenopipe import compute
from phenopipe.config import Align, BenchmarkConfig, EmbedConfig, IngestConfig, MapConfig
from phenopipe.ingest import find_platemap, find_plates
from phenopipe.lake import Lake
from phenopipe.report import summarise_map
from tasks.embed import embed_plate
from tasks.ingest import ingest_plate
from tasks.labels import tagged


@flow(
    name="screen-to-map",
    flow_run_name="{name}",
    task_runner=TWO_PLATES,
)
@guarded
def screen_to_map(
    source: Annotated[Path, ask("One plate's folder, or a folder of plates.")],
    root: Annotated[str, ask("The lake's root: a folder or gs://bucket/prefix.")],
    name: Annotated[str, ask("The map's name.")],
    annotations: Annotated[Path, ask("A folder of known relationships.")],
    layout: Annotated[str, ask("The vendor's layout, or auto.")] = "auto",
    platemap: Annotated[Path | None, ask("What was done to each well (CSV).")] = None,
    model: Annotated[str, ask("The embedding model's name.")] = "classical",
    align: Annotated[Align, ask("How batches are made alike.")] = "tvn",
    correct: Annotated[Literal["arms", "none"], ask("Of proximity bias.")] = "arms",
    compute_kind: Annotated[
        str, ask("threads, local, cuda, slurm or a scheduler's address.")
    ] = "local",
) -> State[Any]:
    """Turn a screen's vendor files into a corrected map with a report; skip what is published."""
    folders = find_plates(source, layout=layout)
    platemap = platemap or find_platemap(source)
    config = IngestConfig(layout=layout)
    with open_cluster(compute_kind) as client:
        scheduler = compute.scheduler_address(client)
        runs = [
            _submit_plate(folder, root, scheduler, config, platemap=platemap, model=model)
            for folder in folders
        ]
        steps = [
            Step.of(stage, f"{folder.parent.name}/{folder.name}", _finish(future))
            for folder, futures in zip(folders, runs, strict=True)
            for stage, future in zip(("ingest", "embed"), futures, strict=True)
        ]
    ingested = [ingest.state.result() for ingest, _ in runs if ingest.state.is_completed()]
    judged = judge_batches(root, {plate.experiment for plate in ingested}, config.qc)
    steps += [Step.of("qc", experiment, state) for experiment, state in judged.items()]
    plates = [embedded.state.result() for _, embedded in runs if embedded.state.is_completed()]
    if plates:
        steps += map_and_score(
            name,
            root=root,
            model=model,
            experiments=sorted({plate.experiment for plate in plates}),
            annotations=annotations,
            map_config=MapConfig(align=align, correct=correct),
            benchmark_config=BenchmarkConfig(),
        )
    return conclude(steps, key="screen-to-map")


def _submit_plate(
    folder: Path,
    root: str,
    scheduler: str,
    config: IngestConfig,
    *,
    platemap: Path | None,
    model: str,
) -> tuple[PrefectFuture[Any], PrefectFuture[Any]]:
    named = {"experiment": folder.parent.name, "plate": folder.name}
    with tagged(**named):
        ingested = ingest_plate.submit(
            folder, root=root, scheduler=scheduler, config=config, platemap=platemap
        )
    with tagged(**named, model=model):
        embedded = embed_plate.submit(  # type: ignore[call-overload]  # Prefect awaits futures
            ingested, root=root, scheduler=scheduler, model=model, config=EmbedConfig()
        )
    return ingested, embedded


def _finish(future: PrefectFuture[Any]) -> State[Any]:
    future.wait()
    return future.state


def main(
    source: Annotated[Path, typer.Argument(help="One plate's folder, or a folder of plates.")],
    root: Annotated[str, typer.Option(help="The lake's root: a folder or gs://bucket/prefix.")],
    name: Annotated[str, typer.Option(help="The map's name.")],
    annotations: Annotated[Path, typer.Option(help="A folder of known relationships.")],
    compute_kind: Annotated[str, typer.Option("--compute", help="Where it runs.")] = "local",
) -> None:
    """Run a screen to its map from the shell: a bar a stage, then five lines of results."""
    with shown_in_terminal() as console:
        state = screen_to_map(
            source, root, name, annotations, compute_kind=compute_kind, return_state=True
        )
    _print_outcome(console, state, root=root, name=name)
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
