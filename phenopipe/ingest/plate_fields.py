"""A plate's fields on the cluster: the template first, then each field by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from phenopipe.compute import Progress, map_ordered
from phenopipe.config import IngestConfig
from phenopipe.errors import InputError
from phenopipe.ingest.field import FieldJob, FieldResult, PlateJob, ingest_field
from phenopipe.ingest.index import PlateIndex
from phenopipe.ingest.plate_image import (
    Acquisition,
    FieldTemplate,
    acquisition_of,
    find_acquisitions,
    make_template,
)
from phenopipe.ingest.qc import find_nuclear_channel
from phenopipe.ingest.sample import sample_images
from phenopipe.ingest.source import SourceFile, digest_source
from phenopipe.lake import Lake, plate_image
from phenopipe.plates import FieldKey, PlateKey


@dataclass(frozen=True)
class PlateFields:
    """What became of a plate's fields.

    Parameters
    ----------
    acquisitions
        The plate's, the one that is measured first.
    results
        Of each field, in order.
    files
        Size and digest of every file of the plate's folder.
    """

    acquisitions: tuple[Acquisition, ...]
    results: tuple[FieldResult, ...]
    files: Mapping[str, SourceFile]

    @property
    def measured(self) -> dict[FieldKey, NDArray[np.float64]]:
        """The measures of each field that was written."""
        return {r.key: r.measures for r in self.results if r.measures is not None}


def ingest_fields(
    lake: Lake,
    key: PlateKey,
    index: PlateIndex,
    *,
    known: Mapping[str, SourceFile],
    config: IngestConfig,
    client: Client,
    on_progress: Progress | None = None,
) -> PlateFields:
    """Read, measure and write all fields of a plate, each by itself on the cluster.

    Parameters
    ----------
    lake, key, index
        Where the plate image goes, and the plate.
    known
        Size and digest of its files, where they were digested before: they must not differ.
    config
        How.
    client, on_progress
        The cluster, and what is called with the fields done and their number.

    Raises
    ------
    InputError
        If no field can be read as a whole, or a file changes meanwhile.
    """
    templates = _make_templates(index, config)
    illumination = index.illumination if config.illumination else {}
    plate = PlateJob(
        lake=lake,
        thing=plate_image(key),
        folder=index.folder,
        templates=templates,
        illumination={token: index.folder / path for token, path in illumination.items()},
        nuclear=find_nuclear_channel(templates[0].acquisition.labels(index)),
    )
    jobs = _list_jobs(index, known, config)
    results = map_ordered(client, ingest_field, jobs, on_progress=on_progress, plate=plate)
    _check_any_good(results, key, config)
    files = known or _gather_files(index, results, config)
    return PlateFields(tuple(t.acquisition for t in templates), tuple(results), files)


def _make_templates(index: PlateIndex, config: IngestConfig) -> tuple[FieldTemplate, ...]:
    acquisitions = find_acquisitions(index, project=config.z == "max")
    templates = []
    for acquisition in acquisitions:
        own = [i for i in index.images if acquisition_of(i, acquisitions) == acquisition]
        sample = sample_images(index, acquisition, own)
        templates.append(
            make_template(
                acquisition,
                plane=sample.plane,
                dtype=sample.dtype,
                index=index,
                windows=sample.windows,
                config=config,
            )
        )
    return tuple(templates)


def _list_jobs(
    index: PlateIndex, known: Mapping[str, SourceFile], config: IngestConfig
) -> list[FieldJob]:
    """List the fields to ingest, in order."""
    lacking = set() if config.missing == "skip" else {image.field_key for image in index.absent}
    jobs = []
    for key, images in groupby(index.images, key=lambda image: image.field_key):
        own = tuple(images)
        digests = {image.path: known[image.path].digest for image in own if known}
        jobs.append(FieldJob(key, own, index.places.get(key), digests, must_drop=key in lacking))
    return jobs


def _check_any_good(results: Sequence[FieldResult], key: PlateKey, config: IngestConfig) -> None:
    if any(result.measures is not None for result in results):
        return
    faults = [f"{path} {fault.kind}" for r in results for path, fault in r.faults.items()]
    remedy = "copy the plate anew"
    if not faults and config.missing == "fail":
        remedy = 'add the files that are missing or set ingest.missing="skip"'
    raise InputError(
        f"expected a whole field in {key}, found none of {len(results)} "
        f"({', '.join(faults[:3]) or 'each lacks an image'}): {remedy}"
    )


def _gather_files(
    index: PlateIndex, results: Sequence[FieldResult], config: IngestConfig
) -> dict[str, SourceFile]:
    """Bring together what the workers read of the images, and digest all else."""
    files = digest_source(index, config, images=False)
    for result in results:
        for path, source in result.sources.items():
            if files.setdefault(path, source) != source:
                raise InputError(
                    f"expected {index.folder / path} to stay as it was while its plate was read, "
                    "found it changed: wait until the copy is done, then start again"
                )
    return files
