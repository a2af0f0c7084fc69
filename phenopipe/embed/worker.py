"""What a worker does: embed fields one after the other, and publish them as a piece."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from distributed import Client, get_worker, wait

from phenopipe.arrays import read_array
from phenopipe.compute import is_killed, result_of, submit, usable_cores
from phenopipe.embed.duty import (
    WATCHDOG,
    is_discarded,
    is_replaced_if_lost,
    is_told_to_end,
    on_duty,
)
from phenopipe.embed.field import FieldCrops, cut_field, embed_crops
from phenopipe.embed.pieces import Embedded, Piece, publish_piece
from phenopipe.embed.plan import CropPlan
from phenopipe.errors import InputError
from phenopipe.lake import Lake, Recipe, Thing
from phenopipe.models import Card
from phenopipe.models.session import Session, open_cached_session
from phenopipe.plates import FieldKey

# A worker that is shot loses this much work, and the field in hand.
_PIECE_S = 60.0

# Threads that read ahead of one that embeds: on a GPU a field takes some 15 ms, to read it 100.
_READERS = 4

T = TypeVar("T")

_opening = threading.Lock()


@dataclass(frozen=True)
class Job:
    """What every worker needs to know of a plate.

    Attributes
    ----------
    run
        Names this run over the plate.
    table
        The embeddings that the pieces will go into.
    recipe
        What all pieces are made of.
    patience_s
        Seconds over one field after which a worker is taken for hung.
    """

    run: str
    lake: Lake
    table: Thing
    recipe: Recipe
    image: Thing
    model: Thing
    card: Card
    plan: CropPlan
    provider: str
    patience_s: float


@dataclass(frozen=True)
class Stretch:
    """How far a worker came: the piece it published, if any, and the fields it left.

    Attributes
    ----------
    fault
        What failed on the worker, which is of no more use; empty where nothing did.
    """

    piece: Piece | None
    left: tuple[FieldKey, ...]
    worker: str
    fault: str = ""


def try_model(client: Client, job: Job, field: FieldKey) -> None:
    """Have a worker embed one crop of a field, before anything is written or removed.

    Raises
    ------
    InputError
        If the provider is not there, or the model does not load, does not take such crops, gives
        NaN, or does not give what its card says.
    """
    future = submit(client, _embed_crop, field, job=job)
    with client.as_current():
        wait(future)
    # The engine tries again where a worker died or a device failed; here only input is judged.
    with suppress(OSError):
        if not is_killed(future):
            result_of(future)


def embed_stretch(fields: Sequence[FieldKey], *, job: Job) -> Stretch:
    """Embed fields that stand side by side until time is up, and publish them as one piece."""
    with on_duty():
        session = _open_session(job)
        started = datetime.now(UTC)
        embedded, fault = _embed_in_time(fields, session, job)
        worker = get_worker().address
        if not embedded or is_discarded(job.run):
            return Stretch(None, tuple(fields), worker, fault)
        piece = publish_piece(
            job.lake,
            job.table,
            job.recipe,
            embedded,
            facts=session.describe(),
            started=started,
        )
        return Stretch(piece, tuple(fields[len(embedded) :]), worker, fault)


def _embed_in_time(
    fields: Sequence[FieldKey], session: Session, job: Job
) -> tuple[list[Embedded], str]:
    """Embed fields until time is up; says what failed on this worker, if anything did."""
    started = time.monotonic()
    embedded: list[Embedded] = []
    ahead = read_ahead(
        lambda field: _read_crops(field, session, job), fields, readers=_readers(job)
    )
    with closing(ahead) as coming:
        for field in fields:
            if is_told_to_end(job.run) or time.monotonic() - started > _PIECE_S:
                break
            with _watch(job):
                origins, crops = next(coming)
                try:
                    with _naming(field, job):
                        vectors = embed_crops(crops, session, job.plan)
                except OSError as error:
                    # An accelerator that has failed fails all that this process asks of it.
                    if not is_replaced_if_lost():
                        raise
                    return embedded, str(error)
            embedded.append(Embedded(field, origins, vectors))
    return embedded, ""


def _watch(job: Job) -> AbstractContextManager[None]:
    """End this process where a block takes too long, if another takes its place."""
    return WATCHDOG.watch(job.patience_s) if is_replaced_if_lost() else nullcontext()


@contextmanager
def _naming(field: FieldKey, job: Job) -> Iterator[None]:
    """Say of what field the pixels, or what the model gave, are not as they should be."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{job.image} {field}: {error}") from error


def read_ahead(
    read: Callable[[FieldKey], T], fields: Sequence[FieldKey], *, readers: int
) -> Generator[T]:
    """Read fields in order, each while those before it are worked on.

    Examples
    --------
    >>> list(read_ahead(lambda field: field * 2, [1, 2, 3], readers=2))
    [2, 4, 6]
    """
    with ThreadPoolExecutor(readers) as pool:
        coming = deque(pool.submit(read, field) for field in fields[:readers])
        for following in [*fields[readers:], *[None] * readers][: len(fields)]:
            found = coming.popleft().result()
            if following is not None:
                coming.append(pool.submit(read, following))
            yield found


def _embed_crop(field: FieldKey, *, job: Job) -> None:
    session = _open_session(job)
    with _watch(job):
        _, crops = _read_crops(field, session, job)
        with _naming(field, job):
            found = session.embed(next(crops)[:1]).shape[1]
    wanted = job.card.width(len(job.plan.channels))
    if found != wanted:
        raise InputError(
            f"expected {wanted} values a crop from model {job.card.name} as its card says, found "
            f"{found}: the card is of another model, add both again"
        )


def _open_session(job: Job) -> Session:
    plan = job.plan
    # Threads that start together would each load the model.
    with _opening:
        return open_cached_session(
            job.lake.root,
            job.model,
            job.card.digest,
            job.provider,
            precision=job.card.precision,
            shape=(len(plan.channels), plan.crop, plan.crop),
        )


def _read_crops(field: FieldKey, session: Session, job: Job) -> FieldCrops:
    """Read a field and cut it into the crops that the model sees."""
    level = job.plan.scale.level
    inner = f"{field.well.row_name}/{field.well.column_name}/{field.field}/{level}"
    with job.lake.fetched(job.image, inner) as path, _naming(field, job):
        pixels = read_array(path, planes=job.plan.shown)
    return cut_field(pixels, session, job.plan.of_shown(), where=f"{job.image} {field}")


def _readers(job: Job) -> int:
    """Read with one thread beside a core that embeds, with more beside a GPU."""
    return 1 if job.provider in ("cpu", "openvino") else min(_READERS, usable_cores())
