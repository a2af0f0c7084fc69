"""The embed stage: one published plate image becomes one published table of embeddings."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from distributed import Client

from phenopipe.compute import Progress
from phenopipe.config import EmbedConfig
from phenopipe.embed.drain import EXIT_CODE, drain_on_sigterm, is_ending
from phenopipe.embed.engine import Engine
from phenopipe.embed.pieces import (
    clear_all_pieces,
    clear_pieces,
    find_pieces,
    read_piece,
    sweep_pieces,
)
from phenopipe.embed.plan import CropPlan, plan_crops
from phenopipe.embed.reading import drop_failed, read_plate_layout, read_platemap
from phenopipe.embed.recipe import choose_card, embed_recipe, read_inputs
from phenopipe.embed.roll import Roll
from phenopipe.embed.table import EmbeddingsWriter
from phenopipe.embed.worker import Job, try_model
from phenopipe.errors import InputError
from phenopipe.lake import (
    SKIPPED,
    Lake,
    Manifest,
    PlateRef,
    Recipe,
    embeddings,
    model_folder,
    plate_image,
)
from phenopipe.models import Card, check_card, ensure_classical
from phenopipe.plates import FieldKey, PlateKey

_log = logging.getLogger(__name__)


def embed_plate(
    lake: Lake,
    key: PlateKey,
    *,
    model: str = "classical",
    version: str | None = None,
    client: Client,
    config: EmbedConfig | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
) -> PlateRef:
    """Embed a plate's crops, leaving out the fields that failed QC unless asked for them.

    Publishes one row a crop, or a field, sorted by well, field, y and x, with what the platemap
    says of its well; text is empty and numbers are null in wells that the platemap does not name.
    What the numbers are stands in the file's metadata. The same plate, model and settings give the
    same bytes on the same kind of machine, however many workers there are and whichever of them
    were lost; where this is published already, nothing is computed.

    Work is published in pieces as it is done, so a run that is killed is taken up by the next.
    SIGTERM, where this is called in the main thread, ends the run with what is in hand published.
    A field that kills its worker, or keeps it longer than ``config.patience_s``, is tried twice
    more alone, then left out: counted as ``fields_skipped``, and named with the reason in the
    file's metadata as ``skipped_fields``.

    Parameters
    ----------
    model
        A model's name in the lake, or ``classical``.
    version
        The model's version; its newest if None.
    force
        Whether to compute anew what another run than the lake's (``lake.run_id``) has published.
    on_progress
        Called with the fields that are done, and their number.

    Raises
    ------
    InputError
        If the plate, the model or its version is not published, the plate lacks channels that the
        model needs, its fields are smaller than a crop, stacks only or time series, none passed
        QC, or more than a few kill their workers; if the provider is not there, or the model does
        not load, is not what its card says, or gives NaN. Nothing is published then.
    SystemExit
        After SIGTERM, or where this process is about to end (:func:`phenopipe.embed.end_all`).
    """
    config = config or EmbedConfig()
    if model == "classical":
        ensure_classical(lake)
    card = choose_card(lake, model, version=version)
    thing = embeddings(model, key)
    recipe = embed_recipe(read_inputs(lake, key), card, config=config)
    manifest = lake.current(thing, recipe)
    # A run that is started again must not begin with its first plate.
    if force and manifest and not (lake.run_id and manifest.run_id == lake.run_id):
        manifest = None
    computed = manifest is None
    if manifest is None:
        if is_ending():
            raise SystemExit(EXIT_CODE)
        work = _find_work(lake, key, card, recipe, config=config)
        try_model(client, work.job, work.fields[0])
        manifest = _publish(work, recipe, client=client, on_progress=on_progress)
    else:
        sweep_pieces(lake, thing)
    return PlateRef(
        experiment=key.experiment,
        plate=key.plate,
        thing=thing.path,
        key=recipe.key,
        computed=computed,
        counts=manifest.counts,
    )


@dataclass(frozen=True)
class _Work:
    """What there is to do for one plate: its fields, but for those left out as they failed QC."""

    key: PlateKey
    job: Job
    fields: list[FieldKey]
    left_out: int


def _find_work(
    lake: Lake, key: PlateKey, card: Card, recipe: Recipe, *, config: EmbedConfig
) -> _Work:
    """Read what the plate holds, and plan what becomes of it; nothing is written."""
    check_card(lake, card)
    layout = read_plate_layout(lake, key)
    kept = layout.fields if config.include_failed else drop_failed(lake, key, layout.fields)
    plan = plan_crops(card, config, labels=layout.channels, image=layout.image, where=str(key))
    job = _describe_job(lake, key, card, recipe, config=config, plan=plan)
    return _Work(key, job, kept, len(layout.fields) - len(kept))


def _publish(
    work: _Work, recipe: Recipe, *, client: Client, on_progress: Progress | None
) -> Manifest:
    started = datetime.now(UTC)
    lake, table = work.job.lake, work.job.table
    with lake.writing(table):
        counts = _embed(work, client=client, on_progress=on_progress)
        manifest = lake.publish(table, recipe, counts=counts, started=started)
        clear_all_pieces(lake, table)
    return manifest


def _embed(work: _Work, *, client: Client, on_progress: Progress | None) -> dict[str, int]:
    """Write the table, and give its counts."""
    key, job, lake = work.key, work.job, work.job.lake
    roll = Roll(work.fields)
    _take_up(roll, job)
    with (
        drain_on_sigterm() as drain,
        lake.draft(job.table) as path,
        EmbeddingsWriter(path, key, read_platemap(lake, key), per=job.plan.per) as writer,
    ):
        on_settled = partial(_write_ready, roll, writer, lake=lake, on_progress=on_progress)
        on_settled()
        Engine(client, job, roll, drain=drain).run(on_settled)
        _check_settled(roll, key)
        writer.finish(_describe(job, skipped=roll.skipped))
    counts = {
        "crops": writer.rows,
        "fields": len(work.fields) - len(roll.skipped),
        "fields_left_out": work.left_out,
    }
    return counts | ({SKIPPED: len(roll.skipped)} if roll.skipped else {})


def _describe_job(
    lake: Lake, key: PlateKey, card: Card, recipe: Recipe, *, config: EmbedConfig, plan: CropPlan
) -> Job:
    image = plate_image(key)
    # A piece is of the image alone: with another platemap it is the same.
    inputs = {image.path: recipe.inputs[image.path]}
    return Job(
        run=uuid4().hex,
        lake=lake,
        table=embeddings(card.name, key),
        recipe=replace(recipe, stage="embed pieces", inputs=inputs),
        image=image,
        model=model_folder(card.name, card.version),
        card=card,
        plan=plan,
        provider=config.provider,
        patience_s=config.patience_s,
    )


def _take_up(roll: Roll, job: Job) -> None:
    """Enter what an earlier run has done; remove pieces that are of no use."""
    pieces, others = find_pieces(job.lake, job.table, job.recipe)
    others += [piece.thing for piece in pieces if not roll.take(piece)]
    clear_pieces(job.lake, others)


def _write_ready(
    roll: Roll, writer: EmbeddingsWriter, *, lake: Lake, on_progress: Progress | None
) -> None:
    for piece in roll.pop_ready():
        writer.add(read_piece(lake, piece))
    if on_progress:
        on_progress(roll.settled, len(roll.fields))


def _check_settled(roll: Roll, key: PlateKey) -> None:
    if roll.settled < len(roll.fields):
        _log.warning(
            "%s: ended by SIGTERM with %d of %d fields embedded: the next run does the others",
            key,
            roll.settled,
            len(roll.fields),
        )
        raise SystemExit(EXIT_CODE)
    if len(roll.skipped) == len(roll.fields):
        raise InputError(
            f"expected a field of {key} that can be embedded, found that workers died of all "
            f"{len(roll.fields)}: give them more memory or time (embed.patience_s), or choose "
            "another model"
        )


def _describe(job: Job, *, skipped: Mapping[FieldKey, str]) -> dict[str, str]:
    """Say in the file's metadata what the numbers are."""
    card, plan = job.card, job.plan
    facts = {
        "model": card.name,
        "model_version": card.version,
        "model_digest": card.digest,
        "provider": job.provider,
        "channels": json.dumps(plan.names),
        "feature_names": json.dumps(card.feature_names(list(plan.names))),
        "per": plan.per,
        "turns": str(plan.turns),
        "edge": plan.edge,
        "crop": str(plan.crop),
        "stride": str(plan.stride),
        "pixel": f"{plan.scale.pixel:g}",
    }
    if skipped:
        facts["skipped_fields"] = json.dumps(
            {f"{field.well}/{field.field}": why for field, why in skipped.items()}
        )
    return facts
