"""Score one map, and write its report."""

from pathlib import Path

from prefect import task
from prefect.client.schemas.objects import State

from phenopipe.benchmark import benchmark_map as run_benchmark
from phenopipe.config import BenchmarkConfig
from phenopipe.lake import MapRef
from phenopipe.report import write_report as run_report
from tasks.outcome import RETRIES, open_lake, run_stage


@task(name="benchmark", task_run_name="benchmark {name}", tags=["stage:benchmark"], **RETRIES)
def benchmark_map(
    name: str, *, root: str, annotations: Path, config: BenchmarkConfig
) -> State[MapRef]:
    """Score a published map against known relationships."""
    return run_stage(
        f"benchmark {name}",
        lambda progress: run_benchmark(
            open_lake(root),
            name=name,
            annotations=annotations,
            config=config,
            on_progress=progress,
        ),
    )


@task(name="report", task_run_name="report {name}", tags=["stage:report"], **RETRIES)
def write_report(name: str, *, root: str) -> State[MapRef]:
    """Write a scored map's report."""
    return run_stage(
        f"report {name}",
        lambda progress: run_report(open_lake(root), name, on_progress=progress),
    )
