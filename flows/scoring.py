"""From embeddings to a scored map: what flows that end in a map share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State

from flows.steps import Step
from phenopipe.config import BenchmarkConfig, MapConfig
from tasks.benchmark import benchmark_map, write_report
from tasks.maps import build_map


def map_and_score(
    name: str,
    *,
    root: str,
    model: str,
    experiments: Sequence[str] | None,
    annotations: Path | None,
    map_config: MapConfig,
    benchmark_config: BenchmarkConfig,
) -> list[Step]:
    """Build a map; then score it and write its report, where there are annotations.

    What comes after a stage that failed is not tried.
    """
    taken = None if experiments is None else tuple(experiments)
    state = build_map(
        name, root=root, model=model, experiments=taken, config=map_config, return_state=True
    )
    steps = [Step.of("map", name, state)]
    if annotations is None or steps[0].outcome == "failed":
        return steps
    return steps + score_and_report(
        name, root=root, annotations=annotations, config=benchmark_config
    )


def score_and_report(
    name: str, *, root: str, annotations: Path, config: BenchmarkConfig
) -> list[Step]:
    """Score a published map and write its report."""
    stages: dict[str, Callable[[], State[Any]]] = {
        "benchmark": lambda: benchmark_map(
            name, root=root, annotations=annotations, config=config, return_state=True
        ),
        "report": lambda: write_report(name, root=root, return_state=True),
    }
    steps = []
    for stage, run in stages.items():
        steps.append(Step.of(stage, name, run()))
        if steps[-1].outcome == "failed":
            break
    return steps
