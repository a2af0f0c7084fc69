"""Groups of plates as runs of their own, so many at a time, in the work pool that was chosen.

What is known of the runs is asked from the server each time: a parent that is started again follows
the runs of its first life, and starts no plate twice. When it is cancelled, they are.
"""

import hashlib
import json
import time
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID

import httpx
from prefect import Flow, get_run_logger, runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling
from prefect.utilities.urls import url_for

from flows.guard import MOST_RUNS
from flows.plates import PLATES_KEY, name_plates
from flows.steps import Step
from phenopipe.errors import InputError
from tasks.progress import show_progress

# Plates as experiment/plate, which one run takes one after another.
Group: TypeAlias = tuple[str, ...]

# Between two looks at the runs: one request, however many they are.
_LOOK_EVERY_S = 2.0
# The automation rerun-crashed waits a minute, and then for the server to see to it.
_CRASHED_FOR_GOOD_S = 180.0
# Runs that the server gives at a time.
_PAGE = 200
# A run's tags are related resources of each of its events, and of these the server takes 100 (its
# PREFECT_SERVER_EVENTS_MAXIMUM_RELATED_RESOURCES); the run with one more cannot be made.
_MOST_TAGS = 60
# How long a server that answers with errors is asked again: a request may be at fault as well.
_UNWELL_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Order:
    """Where groups of plates go, and what each run is told beside its plates.

    Parameters
    ----------
    pool
        The work pool, which the deployment of the flow ``plates`` is named for.
    queue
        The pool's queue.
    in_flight
        Runs that are scheduled or at work at a time, at most.
    parameters
        Of the flow ``plates``; what is not named is as in the deployment.
    """

    pool: str
    queue: str
    in_flight: int
    parameters: dict[str, Any]

    @property
    def deployment(self) -> str:
        """The deployment's name in Prefect."""
        return f"plates/{self.pool}"


def fan_out(groups: Sequence[Group], order: Order) -> list[Step]:
    """Run each group of plates in the pool, and wait for all.

    Returns
    -------
    list of Step
        How each plate ended, with a link to its run; those too that this run has embedded before
        it was started again.

    Raises
    ------
    InputError
        If there is no such deployment.
    """
    parent = UUID(runtime.flow_run.get_id())
    with get_client(sync_client=True) as client, show_progress("embed plates") as on_progress:
        children = _Children(client, order, _read_children(client, parent))
        children.expect(groups)
        well_at = time.monotonic()
        while children.left:
            with _outlast_server(well_at):
                children.start()
                children.look()
                well_at = time.monotonic()
            on_progress(len(children.steps), len(children.steps) + children.left)
            time.sleep(_LOOK_EVERY_S)
    return children.steps


def cancel_children(
    flow: Flow[..., Any],  # noqa: ARG001 - a hook's arguments are Prefect's
    flow_run: FlowRun,
    state: State[Any],  # noqa: ARG001
) -> None:
    """Cancel the runs that a cancelled run has started: a hook of its flow.

    The server does the same within half a minute; meanwhile none begins.
    """
    with get_client(sync_client=True) as client:
        for child in _read_children(client, flow_run.id):
            if child.state and not child.state.is_final():
                why = f"{flow_run.name} was cancelled"
                client.set_flow_run_state(child.id, Cancelling(message=why))


class _Children:
    """The runs that a fan-out has at work, what waits for its turn, and how each plate ended."""

    def __init__(
        self, client: SyncPrefectClient, order: Order, earlier: Collection[FlowRun]
    ) -> None:
        over = [run for run in earlier if _is_over(run)]
        ended = [step for run in over for step in _read_steps(client, run)]
        self.steps = [step for step in ended if step.outcome == "done"]
        self._client = client
        self._order = order
        self._at_work = {run.id: run for run in earlier if not _is_over(run)}
        self._tries = Counter(_plates_of(run) for run in over)
        self._waiting: deque[Group] = deque()

    def expect(self, groups: Sequence[Group]) -> None:
        """Line up the groups, without the plates that are done or at work already."""
        taken = {plate for run in self._at_work.values() for plate in _plates_of(run)}
        taken |= {step.item for step in self.steps}
        left = (tuple(plate for plate in group if plate not in taken) for group in groups)
        self._waiting.extend(group for group in left if group)

    @property
    def left(self) -> int:
        """The number of plates that are at work or wait."""
        waiting = sum(len(group) for group in self._waiting)
        return waiting + sum(len(_plates_of(run)) for run in self._at_work.values())

    def start(self) -> None:
        """Start runs until as many are in flight as may be."""
        while self._waiting and len(self._at_work) < self._order.in_flight:
            run = _start(self._waiting[0], self._order, tries=self._tries[self._waiting[0]])
            self._at_work[run.id] = run
            self._waiting.popleft()

    def look(self) -> None:
        """See which runs are over, and how their plates ended."""
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=list(self._at_work)))
        found = {run.id: run for run in _read_runs(self._client, wanted)}
        for run in list(self._at_work.values()):
            now = found.get(run.id)
            if now is None:
                self.steps += [_fail(plate, "its run was deleted") for plate in _plates_of(run)]
            elif _is_over(now):
                self.steps += _read_steps(self._client, now)
            else:
                continue
            del self._at_work[run.id]


def _start(group: Group, order: Order, *, tries: int) -> FlowRun:
    digest = hashlib.sha256(json.dumps(group).encode()).hexdigest()[:16]
    try:
        run: Any = run_deployment(
            order.deployment,
            parameters=order.parameters | {"plates": list(group)},
            flow_run_name=name_plates(group),
            timeout=0,
            as_subflow=True,
            tags=_name_tags(group, model=order.parameters["model"]),
            idempotency_key=f"{runtime.flow_run.get_id()}:{digest}:{tries}",
            work_queue_name=order.queue,
        )
    except ObjectNotFound as error:
        raise InputError(
            f"expected the deployment {order.deployment} on this server, found none: deploy it "
            "(prefect deploy --all), or choose another place"
        ) from error
    started: FlowRun = run
    return started


def _name_tags(group: Group, *, model: str) -> list[str]:
    """Tag a run by its experiments and plates, as far as the server takes so many.

    All of a kind or none: a search by a tag that some lack would mislead. The tasks of a run have
    those of their own plate in any case.
    """
    tags = ["stage:embed", f"model:{model}"]
    experiments, plates = zip(*(plate.split("/") for plate in group), strict=True)
    for kind, names in (("experiment", experiments), ("plate", plates)):
        more = [f"{kind}:{name}" for name in sorted(set(names))]
        if len(tags) + len(more) <= _MOST_TAGS:
            tags += more
    return tags


def _read_children(client: SyncPrefectClient, parent: UUID) -> list[FlowRun]:
    """Read the runs of deployments that a run has started, in this life or an earlier one."""
    wanted = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[parent]))
    return [run for run in _read_runs(client, wanted) if run.deployment_id]


def _read_runs(client: SyncPrefectClient, wanted: FlowRunFilter) -> list[FlowRun]:
    runs: list[FlowRun] = []
    while True:
        page = client.read_flow_runs(
            flow_run_filter=wanted, sort=FlowRunSort.ID_DESC, limit=_PAGE, offset=len(runs)
        )
        runs += page
        if len(page) < _PAGE:
            return runs


def _read_steps(client: SyncPrefectClient, run: FlowRun) -> list[Step]:
    """Read how each plate of a run ended from its table; without one, from the run's own state."""
    tables = client.read_artifacts(
        artifact_filter=ArtifactFilter(
            key=ArtifactFilterKey(any_=[PLATES_KEY]),
            flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]),
        ),
        sort=ArtifactSort.CREATED_DESC,
        limit=1,
    )
    rows = json.loads(str(tables[0].data)) if tables else []
    told = {row["item"]: Step(**row) for row in rows}
    page = url_for("flow-run", run.id)
    link = f"[{run.name}]({page})" if page else ""
    why = f"{run.state.name}: {run.state.message or 'no reason was given'}" if run.state else ""
    steps = (told.get(plate) or _fail(plate, why) for plate in _plates_of(run))
    return [step.model_copy(update={"run": link}) for step in steps]


def _fail(plate: str, why: str) -> Step:
    return Step(stage="embed", item=plate, outcome="failed", message=why)


def _plates_of(run: FlowRun) -> Group:
    return tuple(run.parameters.get("plates", ()))


def _is_over(run: FlowRun) -> bool:
    """Tell whether a run has ended for good: one that crashed may be scheduled anew."""
    if run.state is None or not run.state.is_final():
        return False
    if not run.state.is_crashed() or run.run_count > MOST_RUNS:
        return True
    return (datetime.now(UTC) - run.state.timestamp).total_seconds() > _CRASHED_FOR_GOOD_S


@contextmanager
def _outlast_server(well_at: float) -> Iterator[None]:
    """Let a server be away: what was asked of it is asked again.

    One that answers, with an error, is asked again until so long after it was last well.
    """
    try:
        yield
    except httpx.TransportError as error:
        get_run_logger().warning("The server does not answer (%s): trying again", error)
    except httpx.HTTPStatusError as error:
        is_ours = error.response.status_code < httpx.codes.INTERNAL_SERVER_ERROR
        if is_ours or time.monotonic() - well_at > _UNWELL_S:
            raise
        get_run_logger().warning("The server is not well (%s): trying again", error)
