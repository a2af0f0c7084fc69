"""A screen's status for lab ops: one table at one place, made from the lake alone."""

from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.forms import Root
from flows.guard import guarded
from flows.steps import show_table
from tasks.artifacts import escape
from tasks.status import ScreenStatus, read_status

KEY = "screen-status"


@flow(name="report-status", flow_run_name="status of {root}")
@guarded
def report_status(root: Root) -> State[Any]:
    """Tell each plate's stages, its QC and what is to be done, in the table ``screen-status``.

    Nothing but the lake is asked, so it is true after Prefect's database was lost too.
    """
    state: State[Any] = read_status(root, return_state=True)
    status: ScreenStatus = state.result()
    show_table(status.plates, key=KEY, description=_describe(state.message or "", root, status))
    return Completed(message=state.message)


def _describe(told: str, root: str, status: ScreenStatus) -> str:
    maps = ", ".join(f"{name} ({state})" for name, state in status.maps.items())
    now = datetime.now(UTC)
    return f"{told}. Lake {escape(root)}, {now:%Y-%m-%d %H:%M} UTC. Maps: {maps or 'none'}."
