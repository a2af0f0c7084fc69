"""QC of whole batches, told where lab ops look: what flows that ingest end with."""

from collections.abc import Iterable
from typing import Any

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State

from phenopipe.config import QCConfig
from phenopipe.ingest import summarise_qc
from phenopipe.lake import Lake
from tasks.qc import judge_batch


def judge_batches(root: str, experiments: Iterable[str], config: QCConfig) -> dict[str, State[Any]]:
    """Judge each experiment's plates against one another; the verdicts are the artifact ``qc``.

    Returns
    -------
    dict
        How the judging of each experiment ended.
    """
    states = {
        one: judge_batch(one, root=root, config=config, return_state=True)
        for one in sorted(experiments)
    }
    judged = [experiment for experiment, state in states.items() if state.is_completed()]
    rows = [row for experiment in judged for row in summarise_qc(Lake(root), experiment)]
    create_table_artifact(rows, key="qc", description="QC: the verdict on each plate.")
    return states
