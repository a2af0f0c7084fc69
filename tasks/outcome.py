"""What all stage tasks share: when to try again, and the state that a stage ends in."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from distributed import KilledWorker
from distributed.comm.core import CommClosedError
from prefect import Task
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.tasks import exponential_backoff

from phenopipe.compute import Progress
from phenopipe.errors import InputError
from phenopipe.ingest import BatchRef
from phenopipe.lake import Lake, MapRef, PlateRef, describe_counts
from tasks.progress import show_outcome, show_progress

Ref = TypeVar("Ref", PlateRef, BatchRef, MapRef)

# What can pass by itself: a disk or network that failed, a worker that was lost.
_PASSING = (OSError, KilledWorker, CommClosedError)


def _can_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Tell whether trying again may help; Prefect gives a raised error as the state's data."""
    return isinstance(state.data, _PASSING)


# Options of every stage task (facts on retries: Prefect's docs, "retry_condition_fn").
RETRIES: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_jitter_factor": 0.2,
    "retry_condition_fn": _can_pass,
}


def open_lake(root: str) -> Lake:
    """Open the lake for this flow run: its id goes into the manifests."""
    return Lake(root, run_id=flow_run.get_id())


def run_stage(name: str, stage: Callable[[Progress], Ref]) -> State[Ref]:
    """Run one stage and say how it ended: ``Completed``, ``Cached`` or ``Failed`` with its reason.

    Bad input is not an accident: it fails at once, in the words of the library, without a
    traceback. Everything else is raised, for Prefect to try again or to report.
    """
    try:
        with show_progress(name) as on_progress:
            ref = stage(on_progress)
    except InputError as error:
        show_outcome(name, "failed")
        return Failed(message=str(error), data=error)
    show_outcome(name, "done" if ref.computed else "cached")
    if ref.computed:
        return Completed(message=f"{ref.thing}: {describe_counts(ref.counts)}", data=ref)
    return Completed(name="Cached", message=f"{ref.thing} is published already", data=ref)


def find_news(state: State[Ref]) -> Ref | None:
    """Give what a stage has published now; None where it failed, or had nothing to do."""
    if not state.is_completed():
        return None
    # Prefect types the data as what its own storage of results may hold, too.
    ref = cast("Ref", state.data)
    return ref if ref.computed else None
