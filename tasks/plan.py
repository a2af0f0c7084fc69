"""Find out what there is to embed."""

from prefect import task
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from phenopipe.backlog import Backlog, Wanted, plan_embeddings
from phenopipe.config import EmbedConfig
from phenopipe.errors import InputError
from tasks.outcome import RETRIES, open_lake


@task(
    name="plan",
    task_run_name="plan {wanted.model}",
    tags=["stage:plan"],
    # What was missing then is not what is missing now: never taken from a cache.
    persist_result=False,
    **RETRIES,
)
def plan_backlog(wanted: Wanted, *, root: str, config: EmbedConfig) -> State[Backlog]:
    """Hold the plates that are wanted against what is published; nothing is written."""
    try:
        backlog = plan_embeddings(open_lake(root), wanted, config=config)
    except InputError as error:
        return Failed(message=str(error), data=error)
    told = f"{len(backlog.missing):,} plates to embed, {len(backlog.done):,} published already"
    return Completed(message=told, data=backlog)
