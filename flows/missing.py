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
    wanted
        The plates and the model, as asked for.
    queue
        Of the work pool, where it is one.
    compute_kind
        What computes in this run; runs of their own have it from their deployment.
    """

    root: str
    wanted: Wanted
    config: EmbedConfig
    where: Place
    queue: str
    in_flight: int
    compute_kind: str


def read_backlog(how: Embedding) -> Backlog:
    """Plan what is to be embedded, as a task of this run.

    Raises
    ------
    InputError
        As :func:`phenopipe.backlog.plan_embeddings`.
    """
    state: State[Any] = plan_backlog(
        how.wanted, root=how.root, config=how.config, return_state=True
    )
    backlog: Backlog = state.result()
    return backlog


def embed_missing(works: Sequence[PlateWork], how: Embedding, *, version: str) -> list[Step]:
    """Embed the plates; one that fails does not stop the others.

    Parameters
    ----------
    version
        The model's version that was planned: what comes out meanwhile does not enter.

    Returns
    -------
    list of Step
        How each ended, and those too that a run which was started again did before.

    Raises
    ------
    InputError
        If there is no such cluster or deployment.
    """
    asked: dict[str, Any] = {
        "root": how.root,
        "model": how.wanted.model,
        "version": version,
        "force": how.wanted.force,
    }
    if how.where == "here":
        keys = [work.key for work in works]
        kind = how.compute_kind
        steps = embed_plates(keys, **asked, config=how.config, compute_kind=kind) if keys else []
    else:
        parameters = asked | {"config": how.config.model_dump(mode="json")}
        order = Order(
            pool=how.where, queue=how.queue, in_flight=how.in_flight, parameters=parameters
        )
        groups = [tuple(str(work.key) for work in group) for group in group_plates(works)]
        steps = fan_out(groups, order)
    return _ask_lake(steps, how, version=version)


def list_skipped(backlog: Backlog, steps: Sequence[Step]) -> list[Step]:
    """Tell of the plates that were published before; those that ``steps`` tell of are left out."""
    told = {step.item for step in steps}
    return [
        Step(stage="embed", item=str(work.key), outcome="skipped", message=_PUBLISHED)
        for work in backlog.done
        if str(work.key) not in told
    ]


def _ask_lake(steps: list[Step], how: Embedding, *, version: str) -> list[Step]:
    """Correct what the runs said by the lake: a run may be lost after it has published.

    What was published before a forced run proves nothing.
    """
    failed = tuple(step.item for step in steps if step.outcome == "failed")
    if not failed or how.wanted.force:
        return steps
    wanted = Wanted(plates=failed, model=how.wanted.model, version=version)
    try:
        found = plan_embeddings(Lake(how.root), wanted, config=how.config).done
    except InputError:  # such as: a plate was taken out meanwhile
        return steps
    published = {str(work.key) for work in found}
    return [_correct(step) if step.item in published else step for step in steps]


def _correct(step: Step) -> Step:
    why = f"published meanwhile, though its run said: {step.message}"
    return step.model_copy(update={"outcome": "done", "message": why})
