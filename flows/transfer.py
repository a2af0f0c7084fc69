"""Send plates, their embeddings and models from one lake to another: cloud to bench, or back."""

from collections.abc import Iterator
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows.forms import DryRun, Experiments, Plates, ask
from flows.guard import guarded
from flows.steps import show_table
from phenopipe.lake import Lake
from phenopipe.transfer import (
    ASSUMED_RATE,
    Selection,
    add_up,
    check_distinct,
    estimate_shipment,
    list_shipments,
)
from tasks.transfer import transfer_experiment, transfer_models


@flow(name="transfer", flow_run_name="{source} to {target}")
@guarded
def transfer_plates(
    source: Annotated[str, ask("The lake's root: a folder or gs://bucket/prefix.", min_length=1)],
    target: Annotated[str, ask("The root of the lake that it is sent to.", min_length=1)],
    experiments: Experiments = (),
    plates: Plates = (),
    models: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._+*?\[\]!-]{1,120}$")], ...],
        ask("Models, and what they embedded: names or patterns. None: all."),
    ] = (),
    rate_mb_s: Annotated[
        float, ask("At most so many MB a second (10^6 bytes). 0: no limit.", ge=0)
    ] = 0.0,
    replace: Annotated[
        bool, ask("What differs at the target gives way, instead of being refused.")
    ] = False,
    dry_run: DryRun = False,
) -> State[Any]:
    """Send what is not at the target yet; every file is checked by its digest there.

    A dry run tells in the table ``transfer-plan`` what there is to send, in bytes and hours. A real
    run ends with the table ``transfer-result``. A run that was stopped goes on where it was.
    """
    selection = Selection(experiments, plates, models)
    rate = rate_mb_s * 1e6 or None
    if dry_run:
        return _estimate(source, target, selection, rate=rate, replace=replace)
    check_distinct(Lake(source), Lake(target))
    return _conclude(dict(_send(source, target, selection, rate=rate, replace=replace)))


def _estimate(
    source: str, target: str, selection: Selection, *, rate: float | None, replace: bool
) -> State[Any]:
    here, there = Lake(source), Lake(target)
    estimates = [
        estimate_shipment(here, there, shipment, replace=replace)
        for shipment in list_shipments(here, selection)
    ]
    rows = [estimate.as_row(rate) for estimate in [*estimates, add_up(estimates)]]
    total, at = rows[-1], f"{(rate or ASSUMED_RATE) / 1e6:g} MB/s"
    told = f"{total['to_send']:,} to send: {total['GB']} GB, {total['hours']} h at {at}"
    show_table(rows, key="transfer-plan", description=told)
    return Completed(message=told, data=rows)


def _send(
    source: str, target: str, selection: Selection, *, rate: float | None, replace: bool
) -> Iterator[tuple[str, State[Any]]]:
    """Send one shipment after the other, so that each has the whole rate."""
    ends = {"source": source, "target": target, "selection": selection, "rate": rate}
    for shipment in list_shipments(Lake(source), selection):
        if shipment.experiment is None:
            yield "the models", transfer_models(**ends, return_state=True)
        else:
            state = transfer_experiment(
                shipment.experiment, **ends, replace=replace, return_state=True
            )
            yield f"experiment {shipment.experiment}", state


def _conclude(states: dict[str, State[Any]]) -> State[Any]:
    rows = [
        {"what": what, "outcome": state.name, "message": state.message}
        for what, state in states.items()
    ]
    failed = [row for row in rows if row["outcome"] not in ("Completed", "Cached")]
    told = f"{len(rows) - len(failed):,} of {len(rows):,} shipments are there"
    show_table(rows, key="transfer-result", description=told)
    if failed:
        listed = "; ".join(f"{row['what']}: {row['message']}" for row in failed)
        return Failed(message=f"{told}. {listed}", data=rows)
    if all(row["outcome"] == "Cached" for row in rows):
        return Completed(name="Cached", message="All of it is there already.", data=rows)
    return Completed(message=told, data=rows)
