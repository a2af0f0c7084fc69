"""Embed one plate."""

from prefect import task
from prefect.client.schemas.objects import State

from phenopipe import compute
from phenopipe.config import EmbedConfig
from phenopipe.embed import embed_plate as run_embed
from phenopipe.lake import PlateRef
from phenopipe.plates import PlateKey
from tasks.outcome import RETRIES, find_news, open_lake, run_stage
from tasks.telling import PUBLISHED, emit_plate


@task(
    name="embed",
    task_run_name="embed {plate.experiment}/{plate.plate}",
    tags=["stage:embed"],
    **RETRIES,
)
def embed_plate(
    plate: PlateRef | PlateKey,
    *,
    root: str,
    scheduler: str,
    model: str,
    config: EmbedConfig,
    version: str | None = None,
    force: bool = False,
) -> State[PlateRef]:
    """Turn one published plate image into published crop embeddings."""
    key = PlateKey(plate.experiment, plate.plate)
    with compute.client(scheduler) as client:
        state = run_stage(
            f"embed {key}",
            lambda progress: run_embed(
                open_lake(root),
                key,
                model=model,
                version=version,
                client=client,
                config=config,
                force=force,
                on_progress=progress,
            ),
        )
    if find_news(state):
        emit_plate(PUBLISHED, key, stage="embed", model=model)
    return state
