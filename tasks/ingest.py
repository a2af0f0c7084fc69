"""Ingest one plate."""

from pathlib import Path

from prefect import task
from prefect.client.schemas.objects import State

from phenopipe import compute
from phenopipe.config import IngestConfig
from phenopipe.ingest import ingest_plate as run_ingest
from phenopipe.lake import PlateRef
from phenopipe.plates import PlateKey
from tasks.artifacts import show_plate
from tasks.outcome import RETRIES, find_news, open_lake, run_stage


@task(
    name="ingest",
    task_run_name="ingest {folder.parent.name}/{folder.name}",
    tags=["stage:ingest"],
    **RETRIES,
)
def ingest_plate(
    folder: Path,
    *,
    root: str,
    scheduler: str,
    config: IngestConfig,
    platemap: Path | None = None,
    experiment: str | None = None,
) -> State[PlateRef]:
    """Turn one vendor folder into a published plate image, QC table, ledger and platemap."""
    lake = open_lake(root)
    with compute.client(scheduler) as client:
        state = run_stage(
            f"ingest {folder.parent.name}/{folder.name}",
            lambda progress: run_ingest(
                folder,
                lake,
                client=client,
                config=config,
                platemap=platemap,
                experiment=experiment,
                on_progress=progress,
            ),
        )
    if new := find_news(state):
        show_plate(lake, PlateKey(new.experiment, new.plate), folder=folder)
    return state
