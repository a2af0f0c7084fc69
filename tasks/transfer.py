"""Send one shipment from a lake to another."""

from collections.abc import Callable
from functools import partial

from prefect import task
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from phenopipe.errors import InputError
from phenopipe.transfer import Pace, Selection, Shipment, Shipped, pack_experiment, pack_models
from phenopipe.transfer import send_shipment as run_send
from tasks.outcome import RETRIES, open_lake
from tasks.progress import show_outcome, show_progress


@task(name="transfer", task_run_name="transfer {experiment}", tags=["stage:transfer"], **RETRIES)
def transfer_experiment(
    experiment: str,
    *,
    source: str,
    target: str,
    selection: Selection,
    rate: float | None = None,
    replace: bool = False,
) -> State[Shipped]:
    """Send an experiment's plates and embeddings; `rate` is in bytes a second."""
    pack = partial(pack_experiment, open_lake(source), experiment, selection)
    return _send(experiment, pack, source, target, rate=rate, replace=replace)


@task(name="transfer-models", task_run_name="transfer models", tags=["stage:transfer"], **RETRIES)
def transfer_models(
    *, source: str, target: str, selection: Selection, rate: float | None = None
) -> State[Shipped]:
    """Send the models; `rate` is in bytes a second."""
    pack = partial(pack_models, open_lake(source), selection)
    return _send("models", pack, source, target, rate=rate, replace=False)


def _send(
    name: str,
    pack: Callable[[], Shipment],
    source: str,
    target: str,
    *,
    rate: float | None,
    replace: bool,
) -> State[Shipped]:
    """Send a shipment, and say how it ended: ``Completed``, ``Cached`` or ``Failed``."""
    bar = f"transfer {name}"
    try:
        with show_progress(bar) as on_progress:
            shipped = run_send(
                open_lake(source),
                open_lake(target),
                pack(),
                pace=Pace(rate),
                replace=replace,
                on_progress=on_progress,
            )
    except InputError as error:
        show_outcome(bar, "failed")
        return Failed(message=str(error), data=error)
    show_outcome(bar, "failed" if shipped.left else "done" if shipped.sent else "cached")
    return _conclude(shipped)


def _conclude(shipped: Shipped) -> State[Shipped]:
    """Tell what became of a shipment; what can pass is raised, for Prefect to try again."""
    told = f"{shipped.sent:,} of {shipped.parcels:,} sent, {shipped.bytes / 1e9:,.3f} GB"
    if shipped.left:
        listed = "; ".join(f"{name}: {why}" for name, why in shipped.left.items())
        told = f"{told}. Not there: {listed}"
    if shipped.failed:
        raise OSError(told)
    if shipped.refused:
        return Failed(message=told, data=shipped)
    if not shipped.sent:
        return Completed(name="Cached", message="all of it is there already", data=shipped)
    return Completed(message=told, data=shipped)
