"""Judge one experiment's plates against one another."""

from prefect import task
from prefect.client.schemas.objects import State

from phenopipe.config import QCConfig
from phenopipe.ingest import BatchRef
from phenopipe.ingest import judge_batch as run_judge
from tasks.outcome import RETRIES, open_lake, run_stage


@task(name="qc", task_run_name="qc {experiment}", tags=["stage:qc"], **RETRIES)
def judge_batch(experiment: str, *, root: str, config: QCConfig) -> State[BatchRef]:
    """Publish how an experiment's plates differ from one another."""
    return run_stage(
        f"qc {experiment}", lambda _: run_judge(open_lake(root), experiment, config=config)
    )
