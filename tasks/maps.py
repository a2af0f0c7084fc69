"""Build one map."""

from prefect import task
from prefect.client.schemas.objects import State

from phenopipe.config import MapConfig
from phenopipe.lake import MapRef
from phenopipe.maps import build_map as run_build
from tasks.outcome import RETRIES, open_lake, run_stage


@task(name="map", task_run_name="map {name}", tags=["stage:map"], **RETRIES)
def build_map(
    name: str, *, root: str, model: str, experiments: tuple[str, ...] | None, config: MapConfig
) -> State[MapRef]:
    """Align, correct and aggregate the experiments' embeddings into a published map."""
    return run_stage(
        f"map {name}",
        lambda progress: run_build(
            open_lake(root),
            name=name,
            model=model,
            experiments=experiments,
            config=config,
            on_progress=progress,
        ),
    )
