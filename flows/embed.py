"""Embed what is missing of some experiments."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.fan_out import cancel_children
from flows.forms import (
    ComputeKind,
    Experiments,
    Force,
    InFlight,
    ModelName,
    Plates,
    ProviderOrAuto,
    Root,
    SettingsFile,
    Version,
    Where,
    choose_embedding,
    choose_settings,
)
from flows.guard import guarded
from flows.missing import Embedding, embed_missing, list_skipped, read_backlog
from flows.plates import TWO_PLATES
from flows.steps import conclude
from phenopipe.backlog import Wanted


@flow(
    name="embed",
    on_cancellation=[cancel_children],
    task_runner=TWO_PLATES,
)
@guarded
def embed_screen(
    root: Root,
    experiments: Experiments = (),
    plates: Plates = (),
    model: ModelName = "classical",
    version: Version = "",
    where: Where = "here",
    in_flight: InFlight = 8,
    force: Force = False,
    provider: ProviderOrAuto = "auto",
    settings: SettingsFile = "",
    compute_kind: ComputeKind = "local",
) -> State[Any]:
    """Embed the plates that are ingested and have no embeddings as asked for."""
    config = choose_embedding(choose_settings(settings), provider=provider, where=where)
    wanted = Wanted(experiments, plates, model=model, version=version or None, force=force)
    how = Embedding(
        root=root,
        wanted=wanted,
        config=config,
        where=where,
        queue="backfill",
        in_flight=in_flight,
        compute_kind=compute_kind,
    )
    backlog = read_backlog(how)
    steps = embed_missing(backlog.missing, how, version=backlog.model_version)
    return conclude([*steps, *list_skipped(backlog, steps)], key="embed")
