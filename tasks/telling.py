"""What is told to Prefect beside a run's state: never at the price of the run."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import httpx
from prefect.events import emit_event
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run, task_run

from phenopipe.errors import InputError
from phenopipe.ingest.arrival import Sighting
from phenopipe.plates import PlateKey, clean_name
from tasks.labels import plate_resource

_log = logging.getLogger(__name__)

# What a server that is down, busy or restarted makes of a request.
UNTOLD = (httpx.HTTPError, PrefectException)

# What automations listen to; each is about one plate.
PUBLISHED = "phenopipe.plate.published"
QC_FAILED = "phenopipe.plate.qc-failed"
INCOMPLETE = "phenopipe.plate.incomplete"


def is_in_run() -> bool:
    """Tell whether there is a run to tell something of: a task's function called alone has none."""
    return bool(flow_run.get_id() or task_run.get_id())


@contextmanager
def tell(what: str) -> Iterator[None]:
    """Try to tell the server something; where it cannot be told, log that and go on.

    The lake has what counts, and what is told is made from it.
    """
    try:
        yield
    except (*UNTOLD, InputError, OSError) as error:
        _log.warning("%s could not be told: %s", what, error)


def emit_plate(event: str, key: PlateKey, **payload: str | int) -> None:
    """Emit an event about a plate; nothing where no run would be its cause."""
    if not is_in_run():
        return
    named = {"experiment": key.experiment, "plate": key.plate}
    emit_event(event, resource=plate_resource(key), payload=named | payload)


def report_overdue(
    seen: Iterable[Sighting], *, hours: float, now_s: float | None = None
) -> list[PlateKey]:
    """Emit an event for each plate that began to arrive so many hours ago, and still is arriving.

    Parameters
    ----------
    seen
        What a scan of the landing zone found.
    hours
        How long a plate may take, from its first file on.
    now_s
        Seconds since 1970; the clock's if None.

    Returns
    -------
    list of PlateKey
        The plates.
    """
    before_ns = 1e9 * ((time.time() if now_s is None else now_s) - 3600 * hours)
    overdue = {
        _name(one): one
        for one in seen
        if one.state == "arriving" and one.snapshot and one.snapshot.began_ns < before_ns
    }
    for key, one in overdue.items():
        emit_plate(INCOMPLETE, key, folder=str(one.folder), why=one.why)
    return list(overdue)


def _name(sighting: Sighting) -> PlateKey:
    """Name the plate, by its folder where its index cannot be read yet."""
    folder = sighting.folder
    by_folder = [clean_name(name) or "unnamed" for name in (folder.parent.name, folder.name)]
    return sighting.key or PlateKey(*by_folder)
