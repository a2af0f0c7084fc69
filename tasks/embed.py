"""Embed one plate."""

from prefect import task
from prefect.client.schemas.objects import State

from phenopipe import compute
from phenopipe.config import EmbedConfig
from phenopipe.embed import embed_plate as run_embed
from phenopipe.lake import PlateRef
from phenopipe.plates import PlateKey
from tasks.outcome import RETRIES, open_lake, run_stage


@task(name="embed", task_run_name="embed {plate.plate}", tags=["stage:embed"], **RETRIES)
def embed_plate(
    plate: PlateRef, *, root: str, scheduler: str, model: str, config: EmbedConfig
) -> State[PlateRef]:
    """Turn one published plate image into published crop embeddings."""
    key = PlateKey(plate.experiment, plate.plate)
    with compute.client(scheduler) as client:
        return run_stage(
            f"embed {key}",
            lambda progress: run_embed(
                open_lake(root),
                key,
                model=model,
                client=client,
                config=config,
                on_progress=progress,
            ),
        )
