"""Score one map, and write its report."""

from pathlib import Path

from prefect import task
from prefect.client.schemas.objects import State

from phenopipe.benchmark import benchmark_map as run_benchmark
from phenopipe.config import BenchmarkConfig
from phenopipe.lake import MapRef
from phenopipe.report import write_report as run_report
from tasks.artifacts import show_report, show_scores
from tasks.outcome import RETRIES, find_news, open_lake, run_stage


@task(name="benchmark", task_run_name="benchmark {name}", tags=["stage:benchmark"], **RETRIES)
def benchmark_map(
    name: str, *, root: str, annotations: Path, config: BenchmarkConfig
) -> State[MapRef]:
    """Score a published map against known relationships."""
    lake = open_lake(root)
    state = run_stage(
        f"benchmark {name}",
        lambda progress: run_benchmark(
            lake, name=name, annotations=annotations, config=config, on_progress=progress
        ),
    )
    if find_news(state):
        show_scores(lake, name)
    return state


@task(name="report", task_run_name="report {name}", tags=["stage:report"], **RETRIES)
def write_report(name: str, *, root: str) -> State[MapRef]:
    """Write a scored map's report."""
    lake = open_lake(root)
    state = run_stage(
        f"report {name}", lambda progress: run_report(lake, name, on_progress=progress)
    )
    if find_news(state):
        show_report(lake, name)
    return state
