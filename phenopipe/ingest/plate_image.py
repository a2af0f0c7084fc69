"""The plate image, OME-Zarr 0.5 HCS: a template first, then independent writes of fields.

``<plate>.zarr/<row>/<column>/<image>/<level>``, where the image is ``<field>`` for single planes
and projections, and ``<field>z`` for the z-stack that was taken beside or instead of them. Axes
are ``(c, y, x)``, or ``(c, z, y, x)`` of a stack, after a leading ``t`` where the plate has more
than one time point.

A field and level is one shard. The metadata of all fields are alike, so they are made once.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from ome_zarr_models.common.omero import Channel, Omero, Window
from ome_zarr_models.v05.axes import Axis
from ome_zarr_models.v05.hcs import HCSAttrs
from ome_zarr_models.v05.image import ImageAttrs
from ome_zarr_models.v05.multiscales import Dataset, Multiscale
from ome_zarr_models.v05.plate import Acquisition as AcquisitionMeta
from ome_zarr_models.v05.plate import Column, Plate, Row, WellInPlate
from ome_zarr_models.v05.well import WellAttrs
from ome_zarr_models.v05.well_types import WellImage, WellMeta
from pydantic import BaseModel
from zarr.codecs import BloscCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from phenopipe.arrays import write_array
from phenopipe.config import IngestConfig
from phenopipe.ingest.index import ImageFile, PlateIndex
from phenopipe.plates import FieldKey, PlateKey, Well, row_name

_AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
# Colours of the channels in their order, as Cell Painting figures show them: DNA blue first.
_COLOURS = ("0000FF", "00FF00", "FF0000", "FFFF00", "FF00FF", "00FFFF", "FF8000", "FFFFFF")


@dataclass(frozen=True)
class Acquisition:
    """One of the ways in which a plate's fields were taken: single planes, or a z-stack.

    Parameters
    ----------
    suffix
        What follows the field's number in the image's path: ``""`` or ``"z"``.
    channels
        Tokens of the channels that it has, in the index's order.
    n_t, n_z
        Time points and z-steps.
    """

    suffix: str
    channels: tuple[str, ...]
    n_t: int
    n_z: int

    @property
    def axes(self) -> str:
        """The arrays' axes: ``"cyx"``, ``"czyx"``, or either after ``t``."""
        return ("t" if self.n_t > 1 else "") + "c" + ("z" if self.suffix else "") + "yx"

    @property
    def leading(self) -> tuple[int, ...]:
        """Sizes of the axes before y and x."""
        sizes = {"t": self.n_t, "c": len(self.channels), "z": self.n_z}
        return tuple(sizes[axis] for axis in self.axes[:-2])

    def position(self, image: ImageFile) -> tuple[int, ...]:
        """Where the image's plane lies on the axes before y and x."""
        place = {"t": image.t or 0, "c": self.channels.index(image.channel), "z": image.z or 0}
        return tuple(place[axis] for axis in self.axes[:-2])

    def image_path(self, key: FieldKey) -> str:
        """Name the image's path in the plate, such as ``B/03/1`` or ``B/03/1z``."""
        return f"{well_path(key.well)}/{key.field}{self.suffix}"


@dataclass(frozen=True)
class FieldTemplate:
    """What all fields of an acquisition share; made once, sent to every worker.

    Parameters
    ----------
    acquisition
        The acquisition.
    plane, dtype
        Rows and columns of an image, and its dtype's name.
    image_json, array_json
        The bytes of ``zarr.json`` of the image's group, and of each level's array.
    """

    acquisition: Acquisition
    plane: tuple[int, int]
    dtype: str
    image_json: bytes
    array_json: tuple[bytes, ...]

    def blank(self) -> NDArray[Any]:
        """Make a field of zeros."""
        return np.zeros((*self.acquisition.leading, *self.plane), self.dtype)


def well_path(well: Well) -> str:
    """Name the well's group in the plate image: ``B/03``."""
    return f"{well.row_name}/{well.column_name}"


def find_acquisitions(index: PlateIndex) -> tuple[Acquisition, ...]:
    """Part the plate's images into its acquisitions, single planes first.

    A stack of one step, without projections beside it, is a single plane.
    """
    steps = {image.z for image in index.images}
    flat = len(steps) == 1
    n_t = 1 + max(image.t or 0 for image in index.images)
    parts = {
        "": [image for image in index.images if flat or image.z is None],
        "z": [image for image in index.images if not flat and image.z is not None],
    }
    return tuple(
        Acquisition(
            suffix=suffix,
            channels=tuple(c for c in index.channels if c in {image.channel for image in images}),
            n_t=n_t,
            n_z=1 + max(image.z or 0 for image in images),
        )
        for suffix, images in parts.items()
        if images
    )


def acquisition_of(image: ImageFile, acquisitions: Sequence[Acquisition]) -> Acquisition:
    """Find the acquisition that the image belongs to."""
    stacked = image.z is not None
    return next((a for a in acquisitions if bool(a.suffix) == stacked), acquisitions[0])


def make_template(
    acquisition: Acquisition,
    *,
    plane: tuple[int, int],
    dtype: str,
    labels: Mapping[str, str],
    windows: Mapping[str, tuple[float, float]],
    pixel_size_um: float | None,
    config: IngestConfig,
) -> FieldTemplate:
    """Make the metadata that all fields of an acquisition share.

    Parameters
    ----------
    acquisition
        The acquisition.
    plane, dtype
        Rows and columns of an image, and its dtype's name.
    labels
        Label of each channel's token.
    windows
        Intensities that a viewer shows as black and as the channel's colour, by token.
    pixel_size_um
        Side of a pixel; scales are in pixels where it is None.
    config
        Levels of the pyramid, and the inner chunks' side.
    """
    planes = [
        (math.ceil(plane[0] / 2**level), math.ceil(plane[1] / 2**level))
        for level in range(config.levels)
    ]
    channels = [
        _channel(labels[token], number, windows.get(token), np.dtype(dtype))
        for number, token in enumerate(acquisition.channels)
    ]
    multiscale = _multiscale(acquisition.axes, config.levels, pixel_size_um)
    image = ImageAttrs(version="0.5", multiscales=[multiscale], omero=Omero(channels=channels))
    arrays = (
        _array_json((*acquisition.leading, *size), dtype, acquisition.axes, chunk=config.chunk)
        for size in planes
    )
    return FieldTemplate(acquisition, plane, dtype, _group_json(image), tuple(arrays))


def _side(size: int, most: int) -> int:
    """Cut a side into as few chunks as may be, and these alike: little is padded."""
    return math.ceil(size / math.ceil(size / most))


def _channel(
    label: str, number: int, window: tuple[float, float] | None, dtype: np.dtype[Any]
) -> Channel:
    top = float(np.iinfo(dtype).max)
    start, end = window or (0.0, top)
    return Channel(
        label=label,
        color=_COLOURS[number % len(_COLOURS)],
        active=True,
        window=Window(min=0.0, max=top, start=start, end=end),
    )


def _multiscale(axes: str, levels: int, pixel_size_um: float | None) -> Multiscale:
    micrometre = "micrometer" if pixel_size_um else None
    side = pixel_size_um or 1.0
    datasets = []
    for level in range(levels):
        # A pixel of a mean over 2^k x 2^k lies at their centre, not at the first one's.
        place = {axis: ((2**level - 1) / 2 * side if axis in "yx" else 0.0) for axis in axes}
        scale = [2**level * side if axis in "yx" else 1.0 for axis in axes]
        shift = list(place.values()) if level else None
        datasets.append(Dataset.build(path=str(level), scale=scale, translation=shift))
    return Multiscale(
        axes=[
            Axis(name=axis, type=_AXIS_TYPES[axis], unit=micrometre if axis in "yx" else None)
            for axis in axes
        ],
        datasets=tuple(datasets),
        name="field",
        type="mean",
        metadata={"description": "mean of 2 x 2 pixels, rounded half up"},
    )


def _array_json(shape: tuple[int, ...], dtype: str, axes: str, *, chunk: int) -> bytes:
    """Have zarr-python describe an array of one shard."""
    sides = tuple(_side(size, chunk) for size in shape[-2:])
    padded = (math.ceil(size / side) * side for size, side in zip(shape[-2:], sides, strict=True))
    array = zarr.create_array(
        MemoryStore(),
        shape=shape,
        dtype=dtype,
        chunks=(1,) * (len(shape) - 2) + sides,
        shards=(*shape[:-2], *padded),
        compressors=BloscCodec(
            typesize=np.dtype(dtype).itemsize, cname="zstd", clevel=1, shuffle="bitshuffle"
        ),
        fill_value=0,
        dimension_names=tuple(axes),
    )
    content = array.metadata.to_buffer_dict(default_buffer_prototype())
    return bytes(content["zarr.json"].to_bytes())


def _group_json(ome: BaseModel, **attributes: Any) -> bytes:
    content = {"ome": ome.model_dump(mode="json", exclude_none=True), **attributes}
    group = {"attributes": content, "zarr_format": 3, "node_type": "group"}
    return json.dumps(group, indent=1, ensure_ascii=False).encode()


def write_field(plate: Path, key: FieldKey, pixels: NDArray[Any], template: FieldTemplate) -> None:
    """Write one field of an acquisition with its pyramid; touches nothing of another field.

    Parameters
    ----------
    plate
        The plate image's folder.
    key
        The field.
    pixels
        Its array on the template's axes.
    template
        The acquisition's.
    """
    image = plate / template.acquisition.image_path(key)
    for level, metadata in enumerate(template.array_json):
        pixels = pixels if level == 0 else halve(pixels)
        write_array(image / str(level), pixels, metadata=metadata)
    (image / "zarr.json").write_bytes(template.image_json)


def halve(pixels: NDArray[Any]) -> NDArray[Any]:
    """Halve y and x by the mean of 2 x 2 pixels, rounded half up; an odd edge is repeated.

    Examples
    --------
    >>> halve(np.array([[[1, 2, 9], [3, 4, 9]]], dtype="uint8"))
    array([[[3, 9]]], dtype=uint8)
    """
    odd = [(0, 0)] * (pixels.ndim - 2) + [(0, size % 2) for size in pixels.shape[-2:]]
    if any(after for _, after in odd):
        pixels = np.pad(pixels, odd, mode="edge")
    wide = pixels[..., ::2, :].astype("uint32") + pixels[..., 1::2, :]
    mean = (wide[..., ::2] + wide[..., 1::2] + 2) >> 2
    halved: NDArray[Any] = mean.astype(pixels.dtype)
    return halved


def write_plate(
    plate: Path,
    key: PlateKey,
    index: PlateIndex,
    *,
    acquisitions: Sequence[Acquisition],
    images: Mapping[FieldKey, Sequence[Acquisition]],
) -> None:
    """Write the metadata of rows, wells and plate, for the fields that were written.

    Parameters
    ----------
    plate
        The plate image's folder.
    key, index
        The plate, and what its folder holds.
    acquisitions
        The plate's.
    images
        The acquisitions that each good field has, in the fields' order.
    """
    wells: dict[Well, list[WellImage]] = {}
    for field, taken in images.items():
        wells.setdefault(field.well, []).extend(
            WellImage(path=f"{field.field}{a.suffix}", acquisition=acquisitions.index(a))
            for a in taken
        )
    for well, found in wells.items():
        well_meta = WellAttrs(version="0.5", well=WellMeta(images=found))
        (plate / well_path(well) / "zarr.json").write_bytes(_group_json(well_meta))
    for row in sorted({well.row_name for well in wells}):
        empty = {"attributes": {}, "zarr_format": 3, "node_type": "group"}
        (plate / row / "zarr.json").write_text(json.dumps(empty, indent=1))
    attributes = {
        "experiment": key.experiment,
        "plate": key.plate,
        "channels": [index.channels[token] for token in acquisitions[0].channels],
        "pixel_size_um": index.pixel_size_um,
    }
    meta = HCSAttrs(version="0.5", plate=_plate_meta(key, index, acquisitions, images))
    (plate / "zarr.json").write_bytes(_group_json(meta, phenopipe=attributes))


def _plate_meta(
    key: PlateKey,
    index: PlateIndex,
    acquisitions: Sequence[Acquisition],
    images: Mapping[FieldKey, Sequence[Acquisition]],
) -> Plate:
    rows, columns = index.shape
    per_well = Counter(field.well for field in images)
    most = max(per_well.values())
    names = {"": "planes", "z": "stack"}
    return Plate(
        version="0.5",
        name=key.plate,
        rows=[Row(name=row_name(row)) for row in range(rows)],
        columns=[Column(name=Well(0, column).column_name) for column in range(columns)],
        wells=[
            WellInPlate(path=well_path(well), rowIndex=well.row, columnIndex=well.column)
            for well in sorted(per_well)
        ],
        field_count=most,
        acquisitions=[
            AcquisitionMeta(id=number, name=names[a.suffix], maximumfieldcount=most)
            for number, a in enumerate(acquisitions)
        ],
    )
