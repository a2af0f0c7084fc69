"""The embed stage: one published plate image becomes one published table of crop embeddings."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from distributed import Client

from phenopipe.arrays import read_array
from phenopipe.compute import Progress, map_ordered
from phenopipe.config import EmbedConfig
from phenopipe.embed.crops import crop_field, crop_origins
from phenopipe.errors import InputError
from phenopipe.lake import (
    Lake,
    PlateRef,
    Recipe,
    Thing,
    embeddings,
    model_folder,
    plate_image,
    platemap,
    qc_table,
)
from phenopipe.models import Card, ensure_classical, find_model
from phenopipe.models.session import open_cached_session
from phenopipe.plates import FieldKey, PlateKey, Well
from phenopipe.schema import (
    CROP_KEYS,
    PLATEMAP_COLUMNS,
    QC,
    check_embeddings,
    check_table,
    embeddings_schema,
)

STAGE_VERSION = 1

# Fields a task: some 60 ms of work each with the classical features, against 2 ms for Dask.
_FIELDS_A_TASK = 8
_ROWS_A_GROUP = 8192
# Wells whose metadata are read at a time: on object storage each is a request of some 50 ms.
_WELLS_AT_ONCE = 16

Vectors = npt.NDArray[np.float32]


def embed_plate(
    lake: Lake,
    key: PlateKey,
    *,
    model: str = "classical",
    client: Client,
    config: EmbedConfig | None = None,
    on_progress: Progress | None = None,
) -> PlateRef:
    """Embed a plate's crops, leaving out the fields that failed QC unless asked for them.

    Publishes one row a crop, sorted by well, field, y and x, with what the platemap says of its
    well; text is empty and numbers are null in wells that the platemap does not name. Model,
    version, digest, provider and feature names are in the file's metadata. The same plate, model
    and settings give the same bytes on the same kind of machine, however many workers there are;
    where this is published already, nothing is computed.

    Parameters
    ----------
    model
        A model's name in the lake (its newest version), or ``classical``.
    on_progress
        Called with the groups of fields that are done, and their number.

    Raises
    ------
    InputError
        If the plate or model is not published, the plate lacks channels that the model needs,
        its fields are smaller than a crop or stacks only, or none passed QC.
    """
    if model == "classical":
        ensure_classical(lake)
    card = find_model(lake, model)
    thing = embeddings(model, key)
    recipe = _recipe(lake, key, card, config=config or EmbedConfig())
    manifest = lake.current(thing, recipe)
    computed = manifest is None
    if manifest is None:
        started = datetime.now(UTC)
        with lake.writing(thing):
            counts = _write_embeddings(
                lake, key, card, recipe, client=client, on_progress=on_progress
            )
            manifest = lake.publish(thing, recipe, counts=counts, started=started)
    return PlateRef(
        experiment=key.experiment,
        plate=key.plate,
        thing=thing.path,
        key=recipe.key,
        computed=computed,
        counts=manifest.counts,
    )


@dataclass(frozen=True)
class _Job:
    """What every task of a plate needs to know."""

    lake: Lake
    image: Thing
    model: Thing
    digest: str
    channels: list[int]
    crop: int
    stride: int
    provider: str


@dataclass(frozen=True)
class _Embedded:
    """One field's crops: origins (k, 2), vectors (k, d)."""

    field: FieldKey
    origins: npt.NDArray[np.int32]
    vectors: Vectors


def _recipe(lake: Lake, key: PlateKey, card: Card, *, config: EmbedConfig) -> Recipe:
    remedy = f"run phenopipe ingest on {key} first"
    things = (plate_image(key), qc_table(key), platemap(key))
    inputs = {thing.path: lake.require(thing, remedy=remedy).key for thing in things}
    crop = config.crop or card.crop
    parameters = {
        "model": card.name,
        "version": card.version,
        "crop": crop,
        "stride": config.stride or crop,
        "provider": config.provider,
        "include_failed": config.include_failed,
    }
    return Recipe("embed", STAGE_VERSION, inputs, parameters, model_digest=card.digest)


def _write_embeddings(
    lake: Lake,
    key: PlateKey,
    card: Card,
    recipe: Recipe,
    *,
    client: Client,
    on_progress: Progress | None,
) -> dict[str, int]:
    image, model = plate_image(key), model_folder(card.name, card.version)
    channels, fields = _read_layout(lake, image)
    kept = fields if recipe.parameters["include_failed"] else _drop_failed(lake, key, fields)
    chosen = card.pick_channels(channels, where=str(key))
    settings = {name: recipe.parameters[name] for name in ("crop", "stride", "provider")}
    job = _Job(lake, image, model, card.digest, chosen, **settings)
    embedded = _embed_fields(client, kept, job, on_progress=on_progress)
    table = _build_table(key, embedded, _read_platemap(lake, key))
    metadata = _describe(card, [channels[index] for index in chosen], provider=job.provider)
    with lake.draft(embeddings(card.name, key)) as path:
        _write_table(path, table, metadata)
    left_out = len(fields) - len(kept)
    return {"crops": len(table), "fields": len(kept), "fields_left_out": left_out}


def _read_layout(lake: Lake, image: Thing) -> tuple[list[str], list[FieldKey]]:
    """Read a plate image's channels, and its fields in order."""
    plate = _read_attributes(image, lake=lake)
    wells = plate["ome"]["plate"]["wells"]
    with ThreadPoolExecutor(_WELLS_AT_ONCE) as pool:
        inner = pool.map(partial(_read_attributes, image, lake=lake), (w["path"] for w in wells))
        fields = [
            field
            for well, found in zip(wells, inner, strict=True)
            for field in _flat_fields(
                Well(well["rowIndex"], well["columnIndex"]),
                [entry["path"] for entry in found["ome"]["well"]["images"]],
            )
        ]
    return plate["phenopipe"]["channels"], sorted(fields)


def _read_attributes(image: Thing, group: str = "", *, lake: Lake) -> Any:
    """Read the attributes of the plate's group, or of a well's."""
    content = lake.read_bytes(image, f"{group}/zarr.json".lstrip("/"))
    return json.loads(content)["attributes"]


def _flat_fields(well: Well, paths: Sequence[str]) -> list[FieldKey]:
    """Give a well's fields (c, y, x); beside them may stand stacks, whose path ends in z."""
    flat = {path for path in paths if path.isdigit()}
    alone = sorted({path.removesuffix("z") for path in paths} - flat)
    if alone:
        raise InputError(
            f"expected a plane or projection of {well} field {alone[0]}, found a z-stack only: "
            "ingest the plate again with --z max, or one step"
        )
    return [FieldKey(well, int(path)) for path in flat]


def _drop_failed(lake: Lake, key: PlateKey, fields: list[FieldKey]) -> list[FieldKey]:
    where = str(qc_table(key))
    with lake.fetched(qc_table(key)) as path:
        table = check_table(pq.read_table(path), QC, where=where)
    rows = table.filter(pc.field("verdict") == "fail").select(["well", "field"]).to_pylist()
    failed = {FieldKey(Well.parse(row["well"]), row["field"]) for row in rows}
    kept = [field for field in fields if field not in failed]
    if not kept:
        raise InputError(
            f"expected a field of {key} that passed QC, found {len(fields)} fields, none of "
            f"which did: see the reasons in {where}, then image the plate again, set ingest.qc "
            "or embed.include_failed"
        )
    return kept


def _read_platemap(lake: Lake, key: PlateKey) -> pa.Table:
    with lake.fetched(platemap(key)) as path:
        table = pq.read_table(path)
    return check_table(table, pa.schema(PLATEMAP_COLUMNS), where=str(platemap(key)))


def _embed_fields(
    client: Client, fields: list[FieldKey], job: _Job, *, on_progress: Progress | None
) -> list[_Embedded]:
    starts = range(0, len(fields), _FIELDS_A_TASK)
    groups = [fields[start : start + _FIELDS_A_TASK] for start in starts]
    results = map_ordered(client, _embed_group, groups, on_progress=on_progress, job=job)
    return [embedded for group in results for embedded in group]


def _embed_group(fields: list[FieldKey], *, job: _Job) -> list[_Embedded]:
    return [_embed_field(field, job) for field in fields]


def _embed_field(field: FieldKey, job: _Job) -> _Embedded:
    session = open_cached_session(job.lake.root, job.model, job.digest, job.provider)
    pixels = _read_field(job, field)
    if pixels.ndim != 3:
        raise InputError(
            f"expected pixels (c, y, x) in {job.image} {field}, found {pixels.shape}: time series "
            "are not embedded yet, ingest one time point"
        )
    if not np.can_cast(pixels.dtype, session.dtype):
        raise InputError(
            f"expected pixels of {session.dtype} in {job.image} {field}, found {pixels.dtype}: "
            "choose a model for these pixels"
        )
    origins = crop_origins(*pixels.shape[1:], crop=job.crop, stride=job.stride)
    wanted = pixels[job.channels].astype(session.dtype, copy=False)
    return _Embedded(field, origins, session.embed(crop_field(wanted, origins, crop=job.crop)))


def _read_field(job: _Job, field: FieldKey) -> npt.NDArray[Any]:
    """Read a field's pixels (c, y, x) at full resolution."""
    inner = f"{field.well.row_name}/{field.well.column_name}/{field.field}/0"
    with job.lake.fetched(job.image, inner) as path:
        return read_array(path)


def _build_table(key: PlateKey, embedded: list[_Embedded], wells: pa.Table) -> pa.Table:
    origins = np.concatenate([part.origins for part in embedded])
    vectors = np.concatenate([part.vectors for part in embedded])
    fields = [part.field for part in embedded for _ in part.origins]
    columns = {
        "experiment": [key.experiment] * len(fields),
        "plate": [key.plate] * len(fields),
        "well": [str(field.well) for field in fields],
        "field": [field.field for field in fields],
        "y": origins[:, 0],
        "x": origins[:, 1],
        **_join_platemap(wells, [field.well for field in fields]),
        "embedding": pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1]),
    }
    carried = {
        column.name: column.type
        for column in wells.schema
        if column.name not in {*PLATEMAP_COLUMNS, *CROP_KEYS}
    }
    schema = embeddings_schema(vectors.shape[1], carried)
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _join_platemap(wells: pa.Table, of_rows: list[Well]) -> dict[str, pa.ChunkedArray]:
    """Give each row the platemap's columns of its well."""
    place = {Well.parse(well): k for k, well in enumerate(wells["well"].to_pylist())}
    joined = wells.take(pa.array([place.get(well) for well in of_rows], pa.int64()))
    return {
        name: pc.fill_null(joined[name], "")
        if pa.types.is_string(joined[name].type)
        else joined[name]
        for name in joined.column_names
        if name not in CROP_KEYS
    }


def _describe(card: Card, channels: list[str], *, provider: str) -> dict[str, str]:
    """Say in the file's metadata what the numbers are."""
    return {
        "model": card.name,
        "model_version": card.version,
        "model_digest": card.digest,
        "provider": provider,
        "channels": json.dumps(channels),
        "feature_names": json.dumps(card.feature_names(channels)),
    }


def _write_table(path: Path, table: pa.Table, metadata: dict[str, str]) -> None:
    check_embeddings(table, where=str(path))
    texts = [column.name for column in table.schema if pa.types.is_string(column.type)]
    pq.write_table(
        table.replace_schema_metadata(metadata),
        path,
        compression="zstd",
        row_group_size=_ROWS_A_GROUP,
        use_dictionary=texts,
    )
