"""Pieces: what is embedded of a plate so far, published as it is done, until the table is."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from phenopipe.digests import digest_bytes
from phenopipe.embed.crops import Origins
from phenopipe.lake import Lake, Manifest, Recipe, Thing, piece_of, pieces_folder
from phenopipe.plates import FieldKey, Well

# Requests at a time: on object storage each takes some 50 ms.
_AT_ONCE = 16


@dataclass(frozen=True)
class Embedded:
    """One field's crops: origins (k, 2), vectors (k, d)."""

    field: FieldKey
    origins: Origins
    vectors: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Piece:
    """A published run of a plate's fields, in order."""

    thing: Thing
    fields: tuple[FieldKey, ...]
    digest: str


def publish_piece(
    lake: Lake,
    table: Thing,
    recipe: Recipe,
    embedded: Sequence[Embedded],
    *,
    facts: Mapping[str, str],
    started: datetime,
) -> Piece:
    """Publish what a worker has embedded of a plate.

    Parameters
    ----------
    table
        The embeddings that the piece will go into; its lock guards the piece.
    recipe
        What all pieces of the plate are made of.
    embedded
        Fields that stand side by side in the plate, in order.
    facts
        Where the vectors were computed.
    """
    fields = tuple(part.field for part in embedded)
    thing = piece_of(table, f"{_name(fields[0])}_{_name(fields[-1])}")
    content = _encode(embedded, facts)
    digest = digest_bytes(content)
    with lake.draft(thing) as path:
        # A worker that outlives its run may be at the same piece: it has the same bytes.
        draft = path.with_name(f"{path.name}.{uuid4().hex}.part")
        draft.write_bytes(content)
        draft.replace(path)
    counts = {"crops": sum(len(part.origins) for part in embedded), "fields": len(fields)}
    lake.publish(
        thing, _recipe(recipe, fields), counts=counts, started=started, files={".": digest}
    )
    return Piece(thing, fields, digest)


def find_pieces(lake: Lake, table: Thing, recipe: Recipe) -> tuple[list[Piece], list[Thing]]:
    """Find a table's pieces: those of the recipe, sorted by field, and those of others."""
    things = lake.published("pieces", within=pieces_folder(table))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        manifests = list(pool.map(lake.manifest, things))
    usable = {
        thing: _describe(thing, manifest)
        for thing, manifest in zip(things, manifests, strict=True)
        if manifest and _is_of(manifest, recipe)
    }
    pieces = sorted(usable.values(), key=lambda piece: (piece.fields[0], len(piece.fields)))
    return pieces, [thing for thing in things if thing not in usable]


def read_piece(lake: Lake, piece: Piece) -> pa.Table:
    """Read a piece: well, field, y, x and embedding; its facts are the table's metadata.

    Raises
    ------
    OSError
        If its bytes are not those that were published; the piece is then cleared.
    """
    content = lake.read_bytes(piece.thing)
    if digest_bytes(content) != piece.digest:
        lake.clear(piece.thing)
        raise OSError(
            f"expected {piece.thing} as it was published, found other bytes: it is removed, "
            "start again"
        )
    return pa.ipc.open_file(pa.BufferReader(content)).read_all()


def clear_pieces(lake: Lake, things: Iterable[Thing]) -> None:
    """Unpublish pieces and remove them."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lake.clear, things))


def clear_all_pieces(lake: Lake, table: Thing) -> None:
    """Remove every piece of a table, and what killed workers left beside them."""
    clear_pieces(lake, lake.published("pieces", within=pieces_folder(table)))
    # A worker that outlives its run may write one just now; it goes with the next sweep.
    with suppress(OSError):
        lake.remove(f"pieces/{pieces_folder(table)}")


def sweep_pieces(lake: Lake, table: Thing) -> None:
    """Remove what a run left that was killed when it had just published the table."""
    if not lake.published("pieces", within=pieces_folder(table)):
        return
    with lake.try_lock(table) as free:
        if free:
            clear_all_pieces(lake, table)


def _encode(embedded: Sequence[Embedded], facts: Mapping[str, str]) -> bytes:
    origins = np.concatenate([part.origins for part in embedded])
    vectors = np.concatenate([part.vectors for part in embedded])
    keys = [part.field for part in embedded for _ in part.origins]
    table = pa.table(
        {
            "well": pa.array([str(key.well) for key in keys], pa.string()),
            "field": pa.array([key.field for key in keys], pa.int32()),
            "y": pa.array(origins[:, 0], pa.int32()),
            "x": pa.array(origins[:, 1], pa.int32()),
            "embedding": pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1]),
        }
    ).replace_schema_metadata(dict(facts))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _recipe(recipe: Recipe, fields: Iterable[FieldKey]) -> Recipe:
    names = [f"{field.well}/{field.field}" for field in fields]
    return replace(recipe, parameters={**recipe.parameters, "fields": names})


def _is_of(manifest: Manifest, recipe: Recipe) -> bool:
    return manifest.key == _recipe(recipe, _fields(manifest)).key


def _describe(thing: Thing, manifest: Manifest) -> Piece:
    return Piece(thing, _fields(manifest), manifest.files["."])


def _fields(manifest: Manifest) -> tuple[FieldKey, ...]:
    split = (name.split("/") for name in manifest.parameters["fields"])
    return tuple(FieldKey(Well.parse(well), int(field)) for well, field in split)


def _name(field: FieldKey) -> str:
    return f"{field.well}-{field.field}"
