"""Fields on the workers: files are read once, digested, decoded, measured and written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phenopipe.digests import digest_bytes, digest_folder
from phenopipe.errors import InputError
from phenopipe.ingest.illumination import correct_illumination, read_illumination
from phenopipe.ingest.images import ImageFault, decode_image, read_image_bytes
from phenopipe.ingest.index import ImageFile, Place
from phenopipe.ingest.plate_image import Acquisition, FieldTemplate, acquisition_of, write_field
from phenopipe.ingest.qc import measure_field
from phenopipe.ingest.source import SourceFile
from phenopipe.ingest.zarr_image import decode_zarr_array, digest_zarr_files, read_zarr_files
from phenopipe.lake import Lake, Thing
from phenopipe.plates import FieldKey


class Fault(NamedTuple):
    """What is wrong with one image file: a name and the particulars."""

    kind: str
    text: str


@dataclass(frozen=True)
class FieldJob:
    """One field to ingest.

    Parameters
    ----------
    key
        The field.
    images
        Its planes.
    place
        Where and when it was taken, if that is known.
    digests
        Digests of its files by path, where they were digested before.
    must_drop
        Whether the field lacks an image and has to be left out; its files are checked only.
    """

    key: FieldKey
    images: tuple[ImageFile, ...]
    place: Place | None
    digests: Mapping[str, str]
    must_drop: bool


@dataclass(frozen=True)
class FieldResult:
    """What became of one field.

    Parameters
    ----------
    key
        The field.
    faults
        Its faulty files, by path.
    sources
        Size and digest of each of its files, by path.
    written
        Digests of what was written of it, by path in the plate image.
    taken
        The acquisitions that it has.
    measures
        `measure_field` of the first of them; None where the field was dropped.
    """

    key: FieldKey
    faults: Mapping[str, Fault]
    sources: Mapping[str, SourceFile]
    written: Mapping[str, str] = field(default_factory=dict)
    taken: tuple[Acquisition, ...] = ()
    measures: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class PlateJob:
    """What all fields of a plate share on their way.

    Parameters
    ----------
    lake, thing
        Where the plate image goes.
    folder
        The plate's folder, where the files lie.
    templates
        Of each acquisition; the first is the one that is measured.
    illumination
        The file of each channel's illumination function; empty where images stay as they are.
    nuclear
        The channel that shows nuclei, by its place on the channel axis.
    """

    lake: Lake
    thing: Thing
    folder: Path
    templates: tuple[FieldTemplate, ...]
    illumination: Mapping[str, Path]
    nuclear: int


def ingest_field(job: FieldJob, *, plate: PlateJob) -> FieldResult:
    """Read a field's files, measure its pixels and write them; a faulty file drops the field.

    Raises
    ------
    InputError
        If a file is not the one that was digested.
    """
    by_acquisition = {template.acquisition: template for template in plate.templates}
    acquisitions = list(by_acquisition)
    pixels: dict[Acquisition, NDArray[Any]] = {}
    faults: dict[str, Fault] = {}
    sources: dict[str, SourceFile] = {}
    for path, images in groupby(sorted(job.images, key=_by_file), key=lambda image: image.path):
        own = list(images)
        planes, sources[path] = read_planes(plate.folder / path, own)
        _check_unchanged(plate.folder / path, sources[path].digest, job.digests.get(path))
        for image, plane in zip(own, planes, strict=True):
            template = by_acquisition[acquisition_of(image, acquisitions)]
            checked = _check_plane(plane, template)
            if isinstance(checked, Fault):
                faults.setdefault(path, checked)
            elif not job.must_drop:
                _place(pixels, image, _correct(checked, image, plate), template)
    if faults or job.must_drop:
        return FieldResult(job.key, faults, sources)
    written = _write(job, pixels, plate)
    taken = tuple(a for a in acquisitions if a in pixels)
    measured = pixels.get(acquisitions[0])
    flat = plate.templates[0].blank() if measured is None else measured
    measures = measure_field(_flatten(flat, acquisitions[0]), nuclear=plate.nuclear)
    return FieldResult(job.key, {}, sources, written, taken, measures)


def _by_file(image: ImageFile) -> tuple[str, int]:
    return image.path, image.page or 0


def read_planes(
    path: Path, images: Sequence[ImageFile]
) -> tuple[Sequence[NDArray[Any] | Fault], SourceFile]:
    """Read one file's planes, in order, and digest it; a fault stands for each of its planes."""
    source = SourceFile(None, "")
    try:
        if path.is_dir():
            files = read_zarr_files(path)
            source = SourceFile(sum(map(len, files.values())), digest_zarr_files(files))
            return _pick_planes(decode_zarr_array(files, path), images, path), source
        data = read_image_bytes(path)
        source = SourceFile(len(data), digest_bytes(data))
        if images[0].page is None:
            return [decode_image(data, path)], source
        pages = [image.page or 0 for image in images]
        return list(decode_image(data, path, pages=pages)), source
    except ImageFault as fault:
        return [Fault(fault.kind, fault.text)] * len(images), source


def _pick_planes(
    array: NDArray[Any], images: Sequence[ImageFile], path: Path
) -> list[NDArray[Any]]:
    planes = array.reshape(-1, *array.shape[-2:])
    pages = [image.page or 0 for image in images]
    if max(pages) >= len(planes):
        text = f"expected {max(pages) + 1} planes or more, found {len(planes)}"
        raise ImageFault("truncated", path, text)
    return [planes[page] for page in pages]


def _check_unchanged(path: Path, found: str, digest: str | None) -> None:
    if digest is not None and found != digest:
        raise InputError(
            f"expected {path} to stay as it was while its plate was read, found it changed: "
            "wait until the microscope or the copy is done, then start again"
        )


def _check_plane(plane: NDArray[Any] | Fault, template: FieldTemplate) -> NDArray[Any] | Fault:
    if isinstance(plane, Fault):
        return plane
    if plane.shape != template.plane:
        return Fault("wrong_shape", f"expected {template.plane} as the plate, found {plane.shape}")
    if plane.dtype.name != template.dtype:
        text = f"expected {template.dtype} as the plate, found {plane.dtype.name}"
        return Fault("wrong_dtype", text)
    return plane


def _correct(plane: NDArray[Any], image: ImageFile, plate: PlateJob) -> NDArray[Any]:
    path = plate.illumination.get(image.channel)
    return plane if path is None else correct_illumination(plane, read_illumination(path))


def _place(
    pixels: dict[Acquisition, NDArray[Any]],
    image: ImageFile,
    plane: NDArray[Any],
    template: FieldTemplate,
) -> None:
    """Put a plane in its place; of several z-steps in one place the brightest pixels stay."""
    acquisition = template.acquisition
    if acquisition not in pixels:
        pixels[acquisition] = template.blank()
    field = pixels[acquisition]
    at = acquisition.position(image)
    field[at] = np.maximum(field[at], plane) if acquisition.projects else plane


def _write(
    job: FieldJob, pixels: Mapping[Acquisition, NDArray[Any]], plate: PlateJob
) -> dict[str, str]:
    """Write the field's acquisitions; give the digest of each file by path in the plate image."""
    written: dict[str, str] = {}
    for template in plate.templates:
        if template.acquisition in pixels:
            inner = template.acquisition.image_path(job.key)
            with plate.lake.draft(plate.thing, inner) as folder:
                write_field(folder, pixels[template.acquisition], template, place=job.place)
                digests = digest_folder(folder)
            written |= {f"{inner}/{name}": digest for name, digest in digests.items()}
    return written


def _flatten(field: NDArray[Any], acquisition: Acquisition) -> NDArray[Any]:
    """Make ``(c, y, x)`` to measure: the first time point, the brightest of the z-steps."""
    first = field[0] if acquisition.axes.startswith("t") else field
    flat: NDArray[Any] = first.max(axis=1) if acquisition.suffix else first
    return flat
