"""Fields on the workers: files are read once, digested, decoded, measured and written."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phenopipe.errors import InputError
from phenopipe.ingest.images import ImageFault, decode_image, read_image, read_image_bytes
from phenopipe.ingest.index import ImageFile, PlateIndex
from phenopipe.ingest.plate_image import (
    Acquisition,
    FieldTemplate,
    acquisition_of,
    write_field,
)
from phenopipe.ingest.qc import measure_field
from phenopipe.plates import FieldKey

# A plate image holds the camera's integers; what floats mean is their maker's secret.
_DTYPES = ("uint8", "uint16")
# Fields that are looked at to learn an image's size, dtype and usual intensities.
_SAMPLE = 9


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
    images, digests
        Its files, and the SHA-256 of each when the source was digested.
    must_drop
        Whether the field lacks an image and has to be left out; its files are checked only.
    """

    key: FieldKey
    images: tuple[ImageFile, ...]
    digests: tuple[str, ...]
    must_drop: bool


@dataclass(frozen=True)
class FieldResult:
    """What became of one field: its faulty files by path, its acquisitions, its measures.

    `measures` is None where the field was dropped.
    """

    key: FieldKey
    faults: Mapping[str, Fault]
    taken: tuple[Acquisition, ...]
    measures: NDArray[np.float64] | None


@dataclass(frozen=True)
class ImageSample:
    """What images of an acquisition are like: size, dtype, usual intensities by channel."""

    plane: tuple[int, int]
    dtype: str
    windows: Mapping[str, tuple[float, float]]


def sample_images(
    index: PlateIndex, acquisition: Acquisition, images: Sequence[ImageFile]
) -> ImageSample:
    """Look at fields spread over the plate: the commonest size and dtype holds for all of it.

    Raises
    ------
    InputError
        If no image can be read, or none is of one plane of uint8 or uint16.
    """
    fields: dict[FieldKey, dict[str, ImageFile]] = {}
    for image in images:
        fields.setdefault(image.field_key, {}).setdefault(image.channel, image)
    keys = list(fields)
    spread = keys[:: max(1, len(keys) // _SAMPLE)]
    order = [*spread, *(key for key in keys if key not in set(spread))]
    seen: list[tuple[ImageFile, NDArray[Any]]] = []
    looked_at = 0
    for key in order:
        found = list(_read_planes(index.folder, fields[key].values()))
        seen += found
        looked_at += bool(found)
        if looked_at == _SAMPLE:
            break
    if not seen:
        raise InputError(
            f"expected images of one plane of {' or '.join(_DTYPES)} in {index.folder}, found "
            f"none among {len(images)} files ({_what_is_wrong(index.folder / images[0].path)}): "
            "copy the plate anew, or save it as grey images"
        )
    ((height, width), dtype), _ = Counter((p.shape, p.dtype.name) for _, p in seen).most_common(1)[
        0
    ]
    return ImageSample((height, width), dtype, _windows(acquisition, seen))


def _what_is_wrong(path: Path) -> str:
    try:
        image = read_image(path)
    except ImageFault as fault:
        return str(fault)
    return f"{path} holds {image.shape} {image.dtype.name}"


def _read_planes(
    folder: Path, images: Iterable[ImageFile]
) -> Iterable[tuple[ImageFile, NDArray[Any]]]:
    for image in images:
        try:
            plane = read_image(folder / image.path)
        except ImageFault:
            continue
        if plane.ndim == 2 and plane.dtype.name in _DTYPES:
            yield image, plane


def _windows(
    acquisition: Acquisition, seen: Sequence[tuple[ImageFile, NDArray[Any]]]
) -> dict[str, tuple[float, float]]:
    windows = {}
    for channel in acquisition.channels:
        ends = [np.percentile(p, (1, 99.8)) for image, p in seen if image.channel == channel]
        if ends:
            low, high = np.median(ends, axis=0)
            windows[channel] = (float(np.floor(low)), float(max(np.ceil(high), np.floor(low) + 1)))
    return windows


def ingest_well(
    jobs: Sequence[FieldJob], *, folder: Path, plate: Path, templates: Sequence[FieldTemplate]
) -> list[FieldResult]:
    """Ingest the fields of one well, each by itself.

    Parameters
    ----------
    jobs
        The well's fields.
    folder
        The plate's folder, where the files lie.
    plate
        The plate image's folder, where the fields go.
    templates
        Of each acquisition; the first is the one that is measured.

    Raises
    ------
    InputError
        If a file is not the one that was digested.
    """
    return [_ingest_field(job, folder=folder, plate=plate, templates=templates) for job in jobs]


def _ingest_field(
    job: FieldJob, *, folder: Path, plate: Path, templates: Sequence[FieldTemplate]
) -> FieldResult:
    by_acquisition = {template.acquisition: template for template in templates}
    acquisitions = list(by_acquisition)
    pixels: dict[Acquisition, NDArray[Any]] = {}
    faults: dict[str, Fault] = {}
    for image, digest in zip(job.images, job.digests, strict=True):
        acquisition = acquisition_of(image, acquisitions)
        template = by_acquisition[acquisition]
        plane = _read_plane(folder / image.path, digest, template)
        if isinstance(plane, Fault):
            faults[image.path] = plane
            continue
        field = pixels.setdefault(acquisition, template.blank())
        field[acquisition.position(image)] = plane
    if faults or job.must_drop:
        return FieldResult(job.key, faults, (), None)
    for acquisition, field in pixels.items():
        write_field(plate, job.key, field, by_acquisition[acquisition])
    taken = tuple(a for a in acquisitions if a in pixels)
    measured = pixels.get(acquisitions[0], templates[0].blank())
    return FieldResult(job.key, {}, taken, measure_field(_flatten(measured, acquisitions[0])))


def _read_plane(path: Path, digest: str, template: FieldTemplate) -> NDArray[Any] | Fault:
    try:
        data = read_image_bytes(path)
        if hashlib.sha256(data).hexdigest() != digest:
            raise InputError(
                f"expected {path} to stay as it was while its plate was read, found it changed: "
                "wait until the microscope or the copy is done, then start again"
            )
        plane = decode_image(data, path)
    except ImageFault as fault:
        return Fault(fault.kind, fault.text)
    if plane.shape != template.plane:
        return Fault("wrong_shape", f"expected {template.plane} as the plate, found {plane.shape}")
    if plane.dtype.name != template.dtype:
        text = f"expected {template.dtype} as the plate, found {plane.dtype.name}"
        return Fault("wrong_dtype", text)
    return plane


def _flatten(field: NDArray[Any], acquisition: Acquisition) -> NDArray[Any]:
    """Make ``(c, y, x)`` to measure: the first time point, the brightest of the z-steps."""
    first = field[0] if acquisition.axes.startswith("t") else field
    flat: NDArray[Any] = first.max(axis=1) if acquisition.suffix else first
    return flat
