"""Keep a lake in order: sweep what killed runs left, and re-read what is published."""

from datetime import UTC, date, datetime
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.forms import DryRun, Root, ask
from flows.guard import guarded
from flows.steps import show_table
from phenopipe.catalogue import Entry
from tasks.maintain import sweep_lake, verify_lake


@flow(name="maintain", flow_run_name="{root}")
@guarded
def maintain(
    root: Root,
    weeks: Annotated[
        int,
        ask(
            "Each published file is read again once in so many weeks, a part of them "
            "each week. 0: none.",
            ge=0,
            le=52,
        ),
    ] = 4,
    dry_run: DryRun = False,
) -> State[Any]:
    """Remove half-written data and spent pieces; re-read this week's part of what is published.

    The table ``maintenance`` names what was removed, and what is damaged.
    """
    states: list[State[Any]] = [sweep_lake(root, dry_run=dry_run, return_state=True)]
    if weeks:
        part = week_of(datetime.now(UTC).date()) % weeks
        states.append(verify_lake(root, part=part, parts=weeks, return_state=True))
    told = "; ".join(str(state.message) for state in states)
    rows: list[Entry] = [entry for state in states for entry in _entries_of(state)]
    show_table([entry.as_row() for entry in rows], key="maintenance", description=told)
    if all(state.is_completed() for state in states):
        return Completed(message=told)
    return Failed(message=told)


def week_of(day: date) -> int:
    """Count the weeks until a day, from one long ago: a year's end makes no gap.

    Examples
    --------
    >>> week_of(date(2027, 1, 4)) - week_of(date(2026, 12, 28))
    1
    """
    return (day.toordinal() - 1) // 7


def _entries_of(state: State[Any]) -> list[Entry]:
    found = state.result(raise_on_failure=False)
    return found if isinstance(found, list) else []
