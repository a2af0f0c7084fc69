"""`phenopipe transfer`: send what is published in one lake to another."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from phenopipe.console import show_progress, show_rows
from phenopipe.lake import Lake

if TYPE_CHECKING:
    from phenopipe.transfer import Shipment, Shipped

_Names = list[str] | None


def transfer(
    source: Annotated[
        str, typer.Option("--from", help="The lake's root: a folder or gs://bucket/prefix.")
    ],
    target: Annotated[str, typer.Option("--to", help="The root of the lake that it is sent to.")],
    experiments: Annotated[
        _Names, typer.Option("--experiment", help="A name or pattern; may be given again.")
    ] = None,
    plates: Annotated[
        _Names, typer.Option("--plate", help="A name or pattern; may be given again.")
    ] = None,
    models: Annotated[
        _Names,
        typer.Option("--model", help="Only these models and their embeddings; may be given again."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="At most so many MB a second (10^6 bytes).")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let it take the place of what differs there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what there is to send, in GB and hours.")
    ] = False,
) -> None:
    """Send plates, their embeddings and models to another lake; what is there is not sent again."""
    from phenopipe.transfer import Selection, list_shipments

    here, there = Lake(source), Lake(target)
    chosen = Selection(tuple(experiments or ()), tuple(plates or ()), tuple(models or ()))
    shipments = list_shipments(here, chosen)
    bytes_per_s = rate * 1e6 if rate else None
    if dry_run:
        _estimate(here, there, shipments, rate=bytes_per_s, replace=replace)
    else:
        _send(here, there, shipments, rate=bytes_per_s, replace=replace)


def _estimate(
    here: Lake, there: Lake, shipments: "Iterable[Shipment]", *, rate: float | None, replace: bool
) -> None:
    from phenopipe.transfer import ASSUMED_RATE, add_up, estimate_shipment

    estimates = [estimate_shipment(here, there, one, replace=replace) for one in shipments]
    rows = [estimate.as_row(rate) for estimate in [*estimates, add_up(estimates)]]
    show_rows(rows, title=f"{here.root} to {there.root}")
    print(f"hours at {(rate or ASSUMED_RATE) / 1e6:g} MB/s{'' if rate else ': give --rate'}")


def _send(
    here: Lake, there: Lake, shipments: "Iterable[Shipment]", *, rate: float | None, replace: bool
) -> None:
    from phenopipe.transfer import Pace, send_shipment

    started, pace = time.monotonic(), Pace(rate)
    done: list[Shipped] = []
    for shipment in shipments:
        with show_progress(f"transfer {shipment.name}") as on_progress:
            done.append(
                send_shipment(
                    here, there, shipment, pace=pace, replace=replace, on_progress=on_progress
                )
            )
    show_rows([one.as_row() for one in done], title=f"{here.root} to {there.root}")
    left = {name: why for one in done for name, why in one.left.items()}
    show_rows([{"not_there": name, "why": why} for name, why in left.items()], title="Failed")
    n_bytes, seconds = sum(one.bytes for one in done), time.monotonic() - started
    print(f"{n_bytes / 1e9:,.3f} GB in {seconds:,.0f} s: {n_bytes / 1e6 / seconds:,.1f} MB/s")
    if left:
        raise typer.Exit(1)
