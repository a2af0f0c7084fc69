"""The plate image, OME-Zarr 0.5 HCS: a template first, then independent writes of fields.

``<plate>.zarr/<row>/<column>/<image>/<level>``, where the image is ``<field>`` for single planes
and projections, and ``<field>z`` for the z-stack that was taken beside or instead of them. Axes
are ``(c, y, x)``, or ``(c, z, y, x)`` of a stack, after a leading ``t`` where the plate has more
than one time point.

A field and level is one shard. The metadata of all fields are alike, so they are made once.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from ome_zarr_models.common.omero import Channel, Omero, Window
from ome_zarr_models.v05.axes import Axis
from ome_zarr_models.v05.image import ImageAttrs
from ome_zarr_models.v05.multiscales import Dataset, Multiscale
from pydantic import BaseModel
from zarr.codecs import BloscCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from phenopipe.arrays import write_array
from phenopipe.config import IngestConfig
from phenopipe.ingest.index import ImageFile, Place, PlateIndex
from phenopipe.plates import FieldKey, Well
from phenopipe.pyramid import halve

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
    projects
        Whether the z-steps of a field are projected by their maximum: `n_z` is 1 then.
    """

    suffix: str
    channels: tuple[str, ...]
    n_t: int
    n_z: int
    projects: bool = False

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

    def labels(self, index: PlateIndex) -> list[str]:
        """Give the labels of its channels."""
        return [index.channels[token] for token in self.channels]

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


def find_acquisitions(index: PlateIndex, *, project: bool = False) -> tuple[Acquisition, ...]:
    """Part the plate's images into its acquisitions, single planes first.

    A stack of one step, without projections beside it, is a single plane; so is any stack that
    is to be projected.
    """
    steps = {image.z for image in index.images}
    flat = project or len(steps) == 1
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
            n_z=1 if flat else 1 + max(image.z or 0 for image in images),
            projects=project and len(steps) > 1,
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
    index: PlateIndex,
    windows: Mapping[str, tuple[float, float]],
    config: IngestConfig,
) -> FieldTemplate:
    """Make the metadata that all fields of an acquisition share.

    Parameters
    ----------
    acquisition
        The acquisition.
    plane, dtype
        Rows and columns of an image, and its dtype's name.
    index
        The plate: labels of its channels, size of a pixel and distances of steps. Scales are in
        pixels and steps where these are not known.
    windows
        Intensities that a viewer shows as black and as the channel's colour, by token.
    config
        Levels of the pyramid, and the inner chunks' side.
    """
    planes = [
        (math.ceil(plane[0] / 2**level), math.ceil(plane[1] / 2**level))
        for level in range(config.levels)
    ]
    channels = [
        _channel(index.channels[token], number, windows.get(token), np.dtype(dtype))
        for number, token in enumerate(acquisition.channels)
    ]
    multiscale = _multiscale(acquisition.axes, config.levels, index)
    image = ImageAttrs(version="0.5", multiscales=[multiscale], omero=Omero(channels=channels))
    arrays = (
        _array_json((*acquisition.leading, *size), dtype, acquisition.axes, chunk=config.chunk)
        for size in planes
    )
    return FieldTemplate(acquisition, plane, dtype, group_json(image), tuple(arrays))


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


def _multiscale(axes: str, levels: int, index: PlateIndex) -> Multiscale:
    steps = {"t": index.time_step_s, "c": None, "z": index.z_step_um}
    known = {axis: steps.get(axis, index.pixel_size_um) for axis in axes}
    units = {
        axis: "second" if axis == "t" else "micrometer" for axis, size in known.items() if size
    }
    datasets = []
    for level in range(levels):
        sizes = {
            axis: (size or 1.0) * (2**level if axis in "yx" else 1) for axis, size in known.items()
        }
        # A pixel of a mean over 2^k x 2^k lies at their centre, not at the first one's.
        shift = [(2**level - 1) / 2 * (known[a] or 1.0) if a in "yx" else 0.0 for a in axes]
        datasets.append(
            Dataset.build(
                path=str(level), scale=list(sizes.values()), translation=shift if level else None
            )
        )
    return Multiscale(
        axes=[Axis(name=axis, type=_AXIS_TYPES[axis], unit=units.get(axis)) for axis in axes],
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


def group_json(ome: BaseModel, **attributes: Any) -> bytes:
    """Write the ``zarr.json`` of a group with OME metadata, and further attributes."""
    content = {"ome": ome.model_dump(mode="json", exclude_none=True), **attributes}
    return encode_group(content)


def encode_group(attributes: Mapping[str, Any]) -> bytes:
    """Write the ``zarr.json`` of a group with attributes."""
    group = {"attributes": attributes, "zarr_format": 3, "node_type": "group"}
    return json.dumps(group, indent=1, ensure_ascii=False).encode()


def write_field(
    folder: Path, pixels: NDArray[Any], template: FieldTemplate, *, place: Place | None = None
) -> None:
    """Write one field of an acquisition with its pyramid; touches nothing of another field.

    Parameters
    ----------
    folder
        The field's own folder, ``Acquisition.image_path`` in the plate image.
    pixels
        Its array on the template's axes.
    template
        The acquisition's.
    place
        Where and when it was taken.
    """
    for level, metadata in enumerate(template.array_json):
        pixels = pixels if level == 0 else halve(pixels)
        write_array(folder / str(level), pixels, metadata=metadata)
    content = template.image_json if place is None else _tell_place(template, place)
    (folder / "zarr.json").write_bytes(content)


def _tell_place(template: FieldTemplate, place: Place) -> bytes:
    """Add a field's place to its metadata: for viewers as a translation, and word by word."""
    attributes = json.loads(template.image_json)["attributes"]
    told = {name: value for name, value in asdict(place).items() if value is not None}
    if place.acquired:
        told["acquired"] = place.acquired.astimezone(UTC).isoformat()
    attributes["phenopipe"] = told
    multiscale = attributes["ome"]["multiscales"][0]
    in_um = {axis["name"] for axis in multiscale["axes"] if axis.get("unit") == "micrometer"}
    if {"x", "y"} <= in_um and place.x_um is not None and place.y_um is not None:
        at = {"x": place.x_um, "y": place.y_um}
        axes = template.acquisition.axes
        multiscale["coordinateTransformations"] = [
            {"type": "scale", "scale": [1.0] * len(axes)},
            {"type": "translation", "translation": [at.get(axis, 0.0) for axis in axes]},
        ]
    return encode_group(attributes)
