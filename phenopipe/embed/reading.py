"""What the embed stage reads of a published plate: its fields, their verdicts, its platemap."""

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Manifest, Thing, plate_image, platemap, qc_table
from phenopipe.plates import FieldKey, PlateKey, Well
from phenopipe.schema import PLATEMAP_COLUMNS, QC, check_table

# Wells whose metadata are read at a time: on object storage each is a request of some 50 ms.
_WELLS_AT_ONCE = 16

# The group of a field that is flat, (c, y, x), among an image's files.
_FIELD = re.compile(r"([A-Z]+/\d+/\d+)/zarr\.json")


@dataclass(frozen=True)
class PlateLayout:
    """A plate image's channels, its fields in order, and the attributes of one, alike in all."""

    channels: list[str]
    fields: list[FieldKey]
    image: dict[str, Any]


def read_plate_layout(lake: Lake, key: PlateKey) -> PlateLayout:
    """Read how a plate image is laid out.

    Raises
    ------
    InputError
        If a field is there as a z-stack only.
    """
    image = plate_image(key)
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
    fields.sort()
    first = fields[0]
    group = f"{first.well.row_name}/{first.well.column_name}/{first.field}"
    return PlateLayout(
        plate["phenopipe"]["channels"], fields, _read_attributes(image, group, lake=lake)
    )


@dataclass(frozen=True)
class FieldShape:
    """A plate's channels, and of its first field the attributes, sides in pixels and dtype."""

    channels: list[str]
    image: dict[str, Any]
    sides: tuple[int, int]
    dtype: str


def read_field_shape(lake: Lake, manifest: Manifest) -> FieldShape:
    """Read what a plate's fields are like from the first: three small requests for any plate.

    Parameters
    ----------
    manifest
        The plate image's.

    Raises
    ------
    InputError
        If no field is there as a plane, or the image's metadata are not as they were published.
    """
    image = Thing(manifest.thing)
    groups = (_FIELD.fullmatch(name) for name in manifest.files)
    first = min((group[1] for group in groups if group), default=None)
    if first is None:
        raise InputError(
            f"expected a plane or projection of a field in {image}, found none: ingest the plate "
            "again with --z max, or one step"
        )
    try:
        array = json.loads(lake.read_bytes(image, f"{first}/0/zarr.json"))
        height, width = array["shape"][-2:]
        return FieldShape(
            _read_attributes(image, lake=lake)["phenopipe"]["channels"],
            _read_attributes(image, first, lake=lake),
            (height, width),
            array["data_type"],
        )
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise InputError(
            f"expected the metadata of {image} as they were published, found {error!r}: look at "
            "phenopipe verify, and ingest the plate again"
        ) from error


def drop_failed(lake: Lake, key: PlateKey, fields: list[FieldKey]) -> list[FieldKey]:
    """Leave the fields out that failed QC.

    Raises
    ------
    InputError
        If none passed.
    """
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


def read_platemap(lake: Lake, key: PlateKey) -> pa.Table:
    """Read what was done to the plate's wells."""
    with lake.fetched(platemap(key)) as path:
        table = pq.read_table(path)
    return check_table(table, pa.schema(PLATEMAP_COLUMNS), where=str(platemap(key)))


def _read_attributes(image: Thing, group: str = "", *, lake: Lake) -> Any:
    """Read the attributes of the plate's group, a well's or a field's."""
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
