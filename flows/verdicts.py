"""QC of whole batches, told where lab ops look: what flows that ingest end with."""

from collections.abc import Iterable
from typing import Any

from prefect.client.schemas.objects import State

from flows.steps import show_table
from phenopipe.config import QCConfig
from phenopipe.ingest import summarise_qc
from phenopipe.lake import Lake
from tasks.labels import artifact_key, artifact_url, tagged
from tasks.qc import judge_batch


def judge_batches(root: str, experiments: Iterable[str], config: QCConfig) -> dict[str, State[Any]]:
    """Judge each experiment's plates against one another; the verdicts are the artifact ``qc``.

    Returns
    -------
    dict
        How the judging of each experiment ended.
    """
    states = {one: _judge(one, root, config) for one in sorted(experiments)}
    judged = [experiment for experiment, state in states.items() if state.is_completed()]
    rows = [row for experiment in judged for row in summarise_qc(Lake(root), experiment)]
    rows = [row | {"page": _link(row)} for row in rows]
    show_table(rows, key="qc", description="QC: the verdict on each plate.")
    return states


def _judge(experiment: str, root: str, config: QCConfig) -> State[Any]:
    with tagged(experiment=experiment):
        return judge_batch(experiment, root=root, config=config, return_state=True)


def _link(row: dict[str, str]) -> str:
    page = artifact_url(artifact_key("qc", row["experiment"], row["plate"]))
    return f"[QC]({page})" if page else ""
