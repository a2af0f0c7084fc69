"""What the images of a plate are like, from a look at a few fields spread over it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phenopipe.errors import InputError
from phenopipe.ingest.field import Fault, read_planes
from phenopipe.ingest.index import ImageFile, PlateIndex
from phenopipe.ingest.plate_image import Acquisition
from phenopipe.plates import FieldKey

# A plate image holds the camera's integers; what floats mean is their maker's secret.
_DTYPES = ("uint8", "uint16")
# Fields that are looked at: one in twenty, and so many.
_FEWEST, _MOST = 3, 9


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
    seen: list[tuple[ImageFile, NDArray[Any]]] = []
    looked_at = 0
    enough = min(_MOST, max(_FEWEST, len(fields) // 20))
    for key in _spread(list(fields), enough):
        found = list(_read_good_planes(index.folder, fields[key].values()))
        seen += found
        looked_at += bool(found)
        if looked_at == enough:
            break
    if not seen:
        raise InputError(
            f"expected images of one plane of {' or '.join(_DTYPES)} in {index.folder}, found "
            f"none among {len(images)} files ({_what_is_wrong(index.folder, images[0])}): "
            "copy the plate anew, or save it as grey images"
        )
    ((height, width), dtype), _ = Counter((p.shape, p.dtype.name) for _, p in seen).most_common(1)[
        0
    ]
    return ImageSample((height, width), dtype, _windows(acquisition, seen))


def _spread(keys: list[FieldKey], count: int) -> list[FieldKey]:
    """Put fields that are spread over the plate first; the others stand in for damaged ones."""
    first = keys[:: max(1, len(keys) // count)]
    return [*first, *(key for key in keys if key not in set(first))]


def _what_is_wrong(folder: Path, image: ImageFile) -> str:
    (plane,), _ = read_planes(folder / image.path, [image])
    if isinstance(plane, Fault):
        return f"{image.path} is {plane.kind.replace('_', ' ')}: {plane.text}"
    return f"{image.path} holds {plane.shape} {plane.dtype.name}"


def _read_good_planes(
    folder: Path, images: Iterable[ImageFile]
) -> Iterable[tuple[ImageFile, NDArray[Any]]]:
    for image in images:
        (plane,), _ = read_planes(folder / image.path, [image])
        if not isinstance(plane, Fault) and plane.ndim == 2 and plane.dtype.name in _DTYPES:
            yield image, plane


def _windows(
    acquisition: Acquisition, seen: Sequence[tuple[ImageFile, NDArray[Any]]]
) -> dict[str, tuple[float, float]]:
    """Find the usual intensities of each channel, from every fourth pixel of every fourth row."""
    windows = {}
    for channel in acquisition.channels:
        own = [plane[::4, ::4] for image, plane in seen if image.channel == channel]
        ends = [np.percentile(plane, (1, 99.8)) for plane in own]
        if ends:
            low, high = np.median(ends, axis=0)
            windows[channel] = (float(np.floor(low)), float(max(np.ceil(high), np.floor(low) + 1)))
    return windows
