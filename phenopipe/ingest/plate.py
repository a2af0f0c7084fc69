"""The stage: one plate's folder to a plate image, its QC table, ledger and platemap."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client
from numpy.typing import NDArray

from phenopipe.compute import Progress, map_ordered
from phenopipe.config import IngestConfig
from phenopipe.errors import InputError
from phenopipe.ingest.detect import read_layout
from phenopipe.ingest.field import FieldJob, FieldResult, ingest_well, sample_images
from phenopipe.ingest.index import PlateIndex
from phenopipe.ingest.ledger import SourceFile, write_rows
from phenopipe.ingest.plate_image import (
    Acquisition,
    FieldTemplate,
    acquisition_of,
    find_acquisitions,
    make_template,
    write_plate,
)
from phenopipe.ingest.platemap import orphans, platemap_table, read_platemap, rows_of_plate
from phenopipe.ingest.qc import MEASURES, Verdict, judge_fields
from phenopipe.lake import (
    Lake,
    PlateRef,
    Recipe,
    Thing,
    digest_file,
    ledger,
    plate_image,
    qc_table,
)
from phenopipe.lake import (
    platemap as platemap_thing,
)
from phenopipe.plates import FieldKey, PlateKey, clean_name
from phenopipe.schema import PLATEMAP_COLUMNS, QC

STAGE_VERSION = 1

_log = logging.getLogger(__name__)


def ingest_plate(
    folder: str | Path,
    lake: Lake,
    *,
    client: Client,
    config: IngestConfig | None = None,
    platemap: str | Path | None = None,
    experiment: str | None = None,
    on_progress: Progress | None = None,
) -> PlateRef:
    """Ingest one plate: publish its image, QC table, ledger and platemap.

    Parameters
    ----------
    folder
        The plate's folder, as the microscope wrote it.
    lake
        Where to publish.
    client
        The cluster that reads and writes fields; it must see both folders.
    config
        How; the defaults if None.
    platemap
        A CSV or TSV of one or many plates; without one the published platemap has no row.
    experiment
        The plate's experiment (batch); by default the name of the folder above the plate's.
    on_progress
        Called with the number of wells that are done, and of all.

    Returns
    -------
    PlateRef
        ``computed`` is False where all was published already, from the same files and settings.

    Raises
    ------
    InputError
        If the folder or the platemap cannot be read as such, if no field of the plate can, or if
        a file changes meanwhile. One damaged file costs its field, and stands in the ledger.
    """
    config = config or IngestConfig()
    folder = Path(folder).absolute()
    index = read_layout(folder, config.layout)
    key = PlateKey(experiment or clean_name(folder.parent.name), clean_name(index.plate))
    files = digest_source(index)
    rows = _read_rows(platemap, key)
    plan = _Plan(lake, key, index, files, rows, _write_recipes(key, index, files, rows, config))
    images_current, platemap_current = plan.images_current, plan.platemap_current
    if not platemap_current:
        _publish_platemap(plan)
    if not images_current:
        _publish_images(plan, config, client=client, on_progress=on_progress)
    return plan.ref(computed=not (images_current and platemap_current))


@dataclass(frozen=True)
class _Plan:
    """What is to be published of one plate, and from what."""

    lake: Lake
    key: PlateKey
    index: PlateIndex
    files: Mapping[str, SourceFile]
    rows: pd.DataFrame
    recipes: Mapping[Thing, Recipe]

    @property
    def image_things(self) -> list[Thing]:
        return [ledger(self.key), qc_table(self.key), plate_image(self.key)]

    @property
    def images_current(self) -> bool:
        return all(self.lake.is_current(t, self.recipes[t]) for t in self.image_things)

    @property
    def platemap_current(self) -> bool:
        thing = platemap_thing(self.key)
        return self.lake.is_current(thing, self.recipes[thing])

    def ref(self, *, computed: bool) -> PlateRef:
        counts: dict[str, int] = {}
        for thing in self.recipes:
            counts |= self.lake.require(thing, remedy="ingest the plate again").counts
        main = plate_image(self.key)
        return PlateRef(
            experiment=self.key.experiment,
            plate=self.key.plate,
            thing=main.path,
            key=self.recipes[main].key,
            computed=computed,
            counts=counts,
        )


def digest_source(index: PlateIndex) -> dict[str, SourceFile]:
    """Give size and SHA-256 of each image and metadata file, by path; of ignored ones the size."""
    used = sorted({*(image.path for image in index.images), *index.metadata_files})
    with ThreadPoolExecutor() as pool:
        digested = pool.map(lambda path: _digest(index.folder / path), used)
        files = dict(zip(used, digested, strict=True))
    ignored = {path: SourceFile(_size(index.folder / path), "") for path, _ in index.ignored}
    return files | ignored


def _digest(path: Path) -> SourceFile:
    try:
        return SourceFile(path.stat().st_size, digest_file(path))
    except OSError:
        return SourceFile(None, "")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _read_rows(path: str | Path | None, key: PlateKey) -> pd.DataFrame:
    if path is None:
        empty = {
            name: pd.Series(dtype=kind.to_pandas_dtype()) for name, kind in PLATEMAP_COLUMNS.items()
        }
        return pd.DataFrame(empty)
    return rows_of_plate(read_platemap(path), key)


def _write_recipes(
    key: PlateKey,
    index: PlateIndex,
    files: Mapping[str, SourceFile],
    rows: pd.DataFrame,
    config: IngestConfig,
) -> dict[Thing, Recipe]:
    """Say what determines each thing: thresholds do not touch the image, nor does a platemap."""
    ignored = {path for path, _ in index.ignored}
    named = {"experiment": key.experiment, "plate": key.plate}
    reading = named | {"layout": index.layout, "missing": config.missing}
    imaging = reading | {"levels": config.levels, "chunk": config.chunk}
    judging = imaging | {"qc": config.qc.model_dump()}
    source = {
        f"source:{key.plate}": _digest_json(
            {p: f.digest for p, f in files.items() if p not in ignored}
        )
    }
    others = {"source:ignored": _digest_json([[p, why, files[p].size] for p, why in index.ignored])}
    told = {"source:platemap": _digest_table(platemap_table(rows))}

    def recipe(inputs: Mapping[str, str], parameters: Mapping[str, object]) -> Recipe:
        return Recipe("ingest", STAGE_VERSION, inputs, parameters)

    return {
        ledger(key): recipe(source | others, judging),
        qc_table(key): recipe(source, judging),
        plate_image(key): recipe(source, imaging),
        platemap_thing(key): recipe(source | told, reading),
    }


def _digest_json(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest_table(table: pa.Table) -> str:
    kinds = [str(kind) for kind in table.schema.types]
    return _digest_json([table.schema.names, kinds, table.to_pylist()])


def _publish_images(
    plan: _Plan, config: IngestConfig, *, client: Client, on_progress: Progress | None
) -> None:
    started = datetime.now(UTC)
    index, key, lake = plan.index, plan.key, plan.lake
    for line in index.missing:
        _log.warning("%s: missing: %s", key, line)
    templates = _make_templates(index, config)
    acquisitions = [template.acquisition for template in templates]
    with lake.writing(*plan.image_things):
        image = lake.path(plate_image(key))
        found = map_ordered(
            client,
            ingest_well,
            _list_jobs(plan, config),
            on_progress=on_progress,
            folder=index.folder,
            plate=image,
            templates=templates,
        )
        results = [result for well in found for result in well]
        good = {r.key: r.measures for r in results if r.measures is not None}
        _check_any_good(good, results, key, config)
        verdicts = judge_fields(np.stack(list(good.values())), config.qc)
        taken = {result.key: result.taken for result in results if result.key in good}
        write_plate(image, key, index, acquisitions=acquisitions, images=taken)
        judged = dict(zip(good, verdicts, strict=True))
        told = write_rows(
            index,
            plan.files,
            acquisitions=acquisitions,
            results=results,
            verdicts=judged,
            fill_absent=config.missing == "skip",
        )
        pq.write_table(told, lake.path(ledger(key)))
        pq.write_table(
            _qc_rows(key, index, acquisitions[0], good, judged), lake.path(qc_table(key))
        )
        _publish(plan, _count(plan, results, judged), started)


def _publish(plan: _Plan, counts: Mapping[Thing, Mapping[str, int]], started: datetime) -> None:
    for thing, counted in counts.items():
        plan.lake.publish(thing, plan.recipes[thing], counts=counted, started=started)


def _make_templates(index: PlateIndex, config: IngestConfig) -> list[FieldTemplate]:
    acquisitions = find_acquisitions(index)
    templates = []
    for acquisition in acquisitions:
        own = [i for i in index.images if acquisition_of(i, acquisitions) == acquisition]
        sample = sample_images(index, acquisition, own)
        templates.append(
            make_template(
                acquisition,
                plane=sample.plane,
                dtype=sample.dtype,
                labels=index.channels,
                windows=sample.windows,
                pixel_size_um=index.pixel_size_um,
                config=config,
            )
        )
    return templates


def _list_jobs(plan: _Plan, config: IngestConfig) -> list[tuple[FieldJob, ...]]:
    """List the fields to ingest, well by well."""
    lacking = set() if config.missing == "skip" else {i.field_key for i in plan.index.absent}
    jobs = []
    for key, images in groupby(plan.index.images, key=lambda image: image.field_key):
        own = tuple(images)
        digests = tuple(plan.files[image.path].digest for image in own)
        jobs.append(FieldJob(key, own, digests, must_drop=key in lacking))
    return [tuple(well) for _, well in groupby(jobs, key=lambda job: job.key.well)]


def _check_any_good(
    good: Mapping[FieldKey, object],
    results: Sequence[FieldResult],
    key: PlateKey,
    config: IngestConfig,
) -> None:
    if good:
        return
    faults = [f"{path} {fault.kind}" for r in results for path, fault in r.faults.items()]
    remedy = "copy the plate anew"
    if not faults and config.missing == "fail":
        remedy = 'add the files that are missing or set ingest.missing="skip"'
    raise InputError(
        f"expected a whole field in {key}, found none of {len(results)} "
        f"({', '.join(faults[:3]) or 'each lacks an image'}): {remedy}"
    )


def _qc_rows(
    key: PlateKey,
    index: PlateIndex,
    acquisition: Acquisition,
    measured: Mapping[FieldKey, NDArray[np.float64]],
    verdicts: Mapping[FieldKey, Verdict],
) -> pa.Table:
    rows = [
        {
            "experiment": key.experiment,
            "plate": key.plate,
            "well": str(field.well),
            "field": field.field,
            "channel": index.channels[token],
            **_known(measures[number]),
            **verdicts[field]._asdict(),
        }
        for field, measures in measured.items()
        for number, token in enumerate(acquisition.channels)
    ]
    return pa.Table.from_pylist(rows, schema=QC)


def _known(measures: NDArray[np.float64]) -> dict[str, float | None]:
    values = dict(zip(MEASURES, measures.tolist(), strict=True))
    known = {name: value if np.isfinite(value) else None for name, value in values.items()}
    return known | {"cells": int(values["cells"])}


def _count(
    plan: _Plan, results: Sequence[FieldResult], verdicts: Mapping[FieldKey, Verdict]
) -> dict[Thing, dict[str, int]]:
    """Count for each manifest, in the order of publishing: the image's last."""
    failed = sum(verdict.verdict == "fail" for verdict in verdicts.values())
    return {
        ledger(plan.key): {"files": len(plan.files)},
        qc_table(plan.key): {"fields_failed_qc": failed},
        plate_image(plan.key): {
            "wells": len({key.well for key in verdicts}),
            "fields": len(verdicts),
            "fields_dropped": len(results) - len(verdicts),
        },
    }


def _publish_platemap(plan: _Plan) -> None:
    started = datetime.now(UTC)
    thing = platemap_thing(plan.key)
    unmatched = orphans(plan.rows, plan.index.wells)
    if unmatched.without_row or unmatched.without_image:
        _log.warning("%s: %s", plan.key, unmatched)
    counts = {
        "platemap_rows": len(plan.rows),
        "wells_without_row": len(unmatched.without_row),
        "rows_without_image": len(unmatched.without_image),
    }
    with plan.lake.writing(thing):
        pq.write_table(platemap_table(plan.rows), plan.lake.path(thing))
        _publish(plan, {thing: counts}, started)
