"""Embed what a plan says is missing: here, or in runs of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect.client.schemas.objects import State

from flows.fan_out import Order, fan_out
from flows.forms import Place
from flows.plates import embed_plates
from flows.steps import Step
from phenopipe.backlog import Backlog, PlateWork, Wanted, group_plates, plan_embeddings
from phenopipe.config import EmbedConfig
from phenopipe.errors import InputError
from phenopipe.lake import Lake
from tasks.plan import plan_backlog

_PUBLISHED = "published already"


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """How and where plates are embedded.

    Parameters
    ----------
    version
        The model's version that was planned: what comes out meanwhile does not enter.
    queue
        Of the work pool, where it is one.
    compute_kind
        What computes in this run; runs of their own have it from their deployment.
    """

    root: str
    model: str
    version: str
    force: bool
    config: EmbedConfig
    where: Place
    queue: str
    in_flight: int
    compute_kind: str


def read_backlog(wanted: Wanted, *, root: str, config: EmbedConfig) -> Backlog:
    """Plan what is to be embedded, as a task of this run.

    Raises
    ------
    InputError
        As :func:`phenopipe.backlog.plan_embeddings`.
    """
    state: State[Any] = plan_backlog(wanted, root=root, config=config, return_state=True)
    backlog: Backlog = state.result()
    return backlog


def embed_missing(works: Sequence[PlateWork], how: Embedding) -> list[Step]:
    """Embed the plates; one that fails does not stop the others.

    Returns
    -------
    list of Step
        How each ended, and those too that a run which was started again did before.

    Raises
    ------
    InputError
        If there is no such cluster or deployment.
    """
    if how.where == "here":
        if not works:
            return []
        steps = embed_plates(
            [work.key for work in works],
            root=how.root,
            model=how.model,
            version=how.version,
            force=how.force,
            config=how.config,
            compute_kind=how.compute_kind,
        )
        return _ask_lake(steps, how)
    parameters = {
        "root": how.root,
        "model": how.model,
        "version": how.version,
        "force": how.force,
        "config": how.config.model_dump(mode="json"),
    }
    order = Order(pool=how.where, queue=how.queue, in_flight=how.in_flight, parameters=parameters)
    groups = [tuple(str(work.key) for work in group) for group in group_plates(works)]
    return _ask_lake(fan_out(groups, order), how)


def list_skipped(backlog: Backlog, steps: Sequence[Step]) -> list[Step]:
    """Tell of the plates that were published before; those that ``steps`` tell of are left out."""
    told = {step.item for step in steps}
    return [
        Step(stage="embed", item=str(work.key), outcome="skipped", message=_PUBLISHED)
        for work in backlog.done
        if str(work.key) not in told
    ]


def _ask_lake(steps: list[Step], how: Embedding) -> list[Step]:
    """Correct what the runs said by the lake: a run may be lost after it has published.

    What was published before a forced run proves nothing.
    """
    failed = tuple(step.item for step in steps if step.outcome == "failed")
    if not failed or how.force:
        return steps
    wanted = Wanted(plates=failed, model=how.model, version=how.version)
    try:
        found = plan_embeddings(Lake(how.root), wanted, config=how.config).done
    except InputError:  # such as: a plate was taken out meanwhile
        return steps
    published = {str(work.key) for work in found}
    return [_correct(step) if step.item in published else step for step in steps]


def _correct(step: Step) -> Step:
    why = f"published meanwhile, though its run said: {step.message}"
    return step.model_copy(update={"outcome": "done", "message": why})
