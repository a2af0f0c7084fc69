"""What is published of a plate's images: ledger, QC, effects, heatmaps and the image itself."""

from collections.abc import Mapping
from typing import NamedTuple

import pyarrow.parquet as pq

from phenopipe.config import IngestConfig
from phenopipe.digests import digest_bytes
from phenopipe.ingest.assessment import Assessment, assess_plate
from phenopipe.ingest.heatmaps import draw_heatmaps
from phenopipe.ingest.index import PlateIndex
from phenopipe.ingest.ledger import write_rows
from phenopipe.ingest.plate_fields import PlateFields
from phenopipe.ingest.plate_metadata import describe_plate
from phenopipe.lake import (
    Lake,
    Thing,
    heatmaps,
    ledger,
    plate_effects,
    plate_image,
    qc_table,
)
from phenopipe.plates import PlateKey


class Written(NamedTuple):
    """What was written of one thing: counts for its manifest, digests that are known already."""

    counts: Mapping[str, int]
    files: Mapping[str, str] | None = None


def list_things(key: PlateKey) -> list[Thing]:
    """List what is published of a plate's images, the image last."""
    return [ledger(key), qc_table(key), plate_effects(key), heatmaps(key), plate_image(key)]


def write_things(
    lake: Lake, key: PlateKey, index: PlateIndex, fields: PlateFields, *, config: IngestConfig
) -> dict[Thing, Written]:
    """Write what goes with a plate's fields, once these are written.

    Returns
    -------
    dict
        What was written, in the order in which it is to be published: the image last.
    """
    judged = assess_plate(
        fields.measured,
        channels=fields.acquisitions[0].labels(index),
        key=key,
        shape=index.shape,
        config=config.qc,
    )
    told = write_rows(
        index,
        fields.files,
        acquisitions=fields.acquisitions,
        results=fields.results,
        verdicts=judged.fields,
        fill_absent=config.missing == "skip",
    )
    tables = {ledger(key): told, qc_table(key): judged.table, plate_effects(key): judged.effects}
    for thing, table in tables.items():
        with lake.draft(thing) as path:
            pq.write_table(table, path)
    with lake.draft(heatmaps(key)) as path:
        path.write_bytes(draw_heatmaps(judged.table, shape=index.shape))
    digests = _write_metadata(lake, key, index, fields)
    return _count(key, fields, judged, digests)


def _write_metadata(
    lake: Lake, key: PlateKey, index: PlateIndex, fields: PlateFields
) -> dict[str, str]:
    """Write the metadata of plate, rows and wells; give the digests of the image's files."""
    taken = {r.key: r.taken for r in fields.results if r.measures is not None}
    metadata = describe_plate(key, index, acquisitions=fields.acquisitions, images=taken)
    with lake.draft(plate_image(key)) as folder:
        for path, content in metadata.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    digests = {path: digest_bytes(content) for path, content in metadata.items()}
    written = (item for result in fields.results for item in result.written.items())
    return dict(sorted([*digests.items(), *written]))


def _count(
    key: PlateKey, fields: PlateFields, judged: Assessment, digests: Mapping[str, str]
) -> dict[Thing, Written]:
    failed = sum(verdict.verdict == "fail" for verdict in judged.fields.values())
    n_fields = len(fields.measured)
    image = {
        "wells": len({field.well for field in fields.measured}),
        "fields": n_fields,
        "fields_dropped": len(fields.results) - n_fields,
    }
    return {
        ledger(key): Written({"files": len(fields.files)}),
        qc_table(key): Written({"fields_failed_qc": failed}),
        plate_effects(key): Written({}),
        heatmaps(key): Written({}),
        plate_image(key): Written(image, digests),
    }
