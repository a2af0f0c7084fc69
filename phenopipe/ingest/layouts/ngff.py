"""OME-Zarr's own metadata of plates, wells and images, versions 0.4 and 0.5."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, Field, PositiveInt, ValidationError
from pydantic_core import from_json

from phenopipe.errors import InputError

NODE_FILES = (".zattrs", ".zgroup", ".zmetadata", "zarr.json")
VERSIONS = ("0.4", "0.5")
_MOST_BYTES = 64 * 2**20
_MOST_PLANES = 10**5
_MICROMETRES = {
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}
_SECONDS = {"millisecond": 1e-3, "second": 1.0, "minute": 60.0, "hour": 3600.0}


def _inner(path: str) -> str:
    """Refuse a path that leads out of the folder in whose metadata it stands."""
    plain = PurePosixPath(path)
    if plain.is_absolute() or ".." in plain.parts or not plain.parts or "\0" in path:
        raise ValueError(f"a path within the folder is expected, not {path!r}")
    return str(plain)


_Path = Annotated[str, AfterValidator(_inner)]


class _Named(BaseModel):
    name: str


class PlateWell(BaseModel):
    """A well as the plate lists it."""

    path: _Path


class PlateAcquisition(BaseModel):
    """A run of the microscope over the plate; its start is in seconds since 1970."""

    id: int
    starttime: float | None = None


class PlateNode(BaseModel):
    """The plate's wells, and the names of its rows and columns."""

    rows: list[_Named]
    columns: list[_Named]
    wells: list[PlateWell] = Field(min_length=1)
    acquisitions: list[PlateAcquisition] = []
    name: str = ""


class WellImage(BaseModel):
    """An image (field of view) as its well lists it."""

    path: _Path
    acquisition: int | None = None


class _WellNode(BaseModel):
    images: list[WellImage] = Field(min_length=1)


class _Axis(BaseModel):
    name: str
    type: str | None = None
    unit: str | None = None


class _Transformation(BaseModel):
    scale: list[float] = []
    translation: list[float] = []


class _Dataset(BaseModel):
    path: _Path
    coordinateTransformations: list[_Transformation] = []  # noqa: N815 (the format's own name)


class _Multiscale(BaseModel):
    axes: list[_Axis]
    datasets: list[_Dataset] = Field(min_length=1)
    coordinateTransformations: list[_Transformation] = []  # noqa: N815


class _Channel(BaseModel):
    label: str = ""


class _Omero(BaseModel):
    channels: list[_Channel] = []


class _ArrayNode(BaseModel):
    shape: list[PositiveInt]


@dataclass(frozen=True)
class ImageNode:
    """What an image's metadata tell.

    Parameters
    ----------
    array, levels
        Paths of the full-resolution array and of the smaller ones, relative to the image.
    axes, shape
        The array's axes, of ``t``, ``c`` and ``z`` before ``y`` and ``x``, and their sizes.
    labels
        Names of the channels, as far as they are told.
    steps, origin
        Distance of neighbours on each axis and where the first lies, in micrometres and seconds;
        only of axes whose unit is told.
    """

    array: str
    levels: tuple[str, ...]
    axes: str
    shape: tuple[int, ...]
    labels: tuple[str, ...]
    steps: dict[str, float]
    origin: dict[str, float]

    @property
    def sizes(self) -> dict[str, int]:
        """Size of each axis."""
        return dict(zip(self.axes, self.shape, strict=True))


def read_plate_node(folder: Path) -> PlateNode:
    """Read the metadata of a plate's folder.

    Raises
    ------
    InputError
        If there are none, or not of version 0.4 or 0.5.
    """
    ome, file = _read_ome(folder)
    plate = ome.get("plate")
    told = ome.get("version") or (plate.get("version") if isinstance(plate, dict) else None)
    if told is not None and told not in VERSIONS:
        raise InputError(
            f"expected OME-Zarr {' or '.join(VERSIONS)} in {file}, found version {told!r}: "
            "convert the plate"
        )
    return _check(PlateNode, plate, file, "plate")


def read_well_node(folder: Path) -> list[WellImage]:
    """Read which images a well has.

    Raises
    ------
    InputError
        If the well's metadata are not there or damaged.
    """
    ome, file = _read_ome(folder)
    return _check(_WellNode, ome.get("well"), file, "well").images


def read_image_node(folder: Path) -> ImageNode:
    """Read an image's metadata, and the shape of its full-resolution array.

    Raises
    ------
    InputError
        If either are not there or damaged, or the axes are not ``(t, c, z, y, x)`` or some of
        these in another order that ends with y and x.
    """
    ome, file = _read_ome(folder)
    found = ome.get("multiscales")
    first = found[0] if isinstance(found, list) and found else None
    multiscale = _check(_Multiscale, first, file, "multiscales")
    full, *smaller = multiscale.datasets
    axes = _name_axes(multiscale.axes, file)
    shape = _read_shape(folder / full.path, len(axes))
    transformations = [*full.coordinateTransformations, *multiscale.coordinateTransformations]
    steps, origin = _transform(multiscale.axes, axes, transformations)
    return ImageNode(
        array=full.path,
        levels=tuple(dataset.path for dataset in smaller),
        axes=axes,
        shape=shape,
        labels=_read_labels(ome.get("omero")),
        steps=steps,
        origin=origin,
    )


def find_plate_file(folder: Path) -> Path | None:
    """Find the file that says that the folder is an OME-Zarr plate; None where it is none.

    A file that is damaged counts if it has the word.
    """
    for file in (folder / "zarr.json", folder / ".zattrs"):
        if not file.is_file():
            continue
        try:
            ome = _read_ome(folder)[0]
        except InputError:
            return file if b'"plate"' in _read_bytes(file, missing_ok=True) else None
        plate = ome.get("plate")
        return file if isinstance(plate, dict) and "wells" in plate else None
    return None


_Model = TypeVar("_Model", bound=BaseModel)


def _check(model: type[_Model], content: Any, file: Path, what: str) -> _Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = "/".join(map(str, (what, *first["loc"])))
        raise InputError(
            f"expected OME-Zarr's {what} in {file}, found at {where}: {first['msg']}: "
            "copy it anew or repair it"
        ) from error


def _read_ome(folder: Path) -> tuple[dict[str, Any], Path]:
    """Read a group's attributes: below `ome` in version 0.5, bare in version 0.4."""
    file = folder / "zarr.json"
    if not file.exists():
        return _read_json(folder / ".zattrs"), folder / ".zattrs"
    attributes = _read_json(file).get("attributes")
    ome = attributes.get("ome") if isinstance(attributes, dict) else None
    return ome if isinstance(ome, dict) else {}, file


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = from_json(_read_bytes(file))
    except ValueError as error:
        raise InputError(f"expected JSON in {file}, found {error}: copy it anew") from error
    if not isinstance(found, dict):
        raise InputError(f"expected a JSON object in {file}, found another value: copy it anew")
    return found


def _read_bytes(file: Path, *, missing_ok: bool = False) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        if missing_ok:
            return b""
        raise InputError(
            f"expected OME-Zarr metadata in {file}, found {error.strerror}: copy it anew"
        ) from error
    if len(data) > _MOST_BYTES:
        raise InputError(f"expected at most {_MOST_BYTES} bytes in {file}, found more: remove it")
    return data


def _name_axes(axes: Sequence[_Axis], file: Path) -> str:
    """Name the axes by their type, the last two of space y and x, one before them z."""
    kinds = {"time": "t", "channel": "c", "space": "s"}
    named = "".join(kinds.get(axis.type or "", axis.name.lower()) for axis in axes)
    named = named.replace("z", "s").replace("y", "s").replace("x", "s")
    spaces = named.count("s")
    letters = iter("zyx"[3 - spaces :] if spaces in (2, 3) else "")
    final = "".join(next(letters, "?") if letter == "s" else letter for letter in named)
    if len(final) != len(axes) or not final.endswith("yx") or not _are_right(final, axes):
        raise InputError(
            f"expected axes t, c, z, y and x, or some of these and y and x last, in {file}, found "
            f"{', '.join(axis.name for axis in axes)}: convert the plate"
        )
    return final


def _are_right(named: str, axes: Sequence[_Axis]) -> bool:
    """Check that each axis is known and there once, and that none is named like another."""
    letters = set("tczyx")
    known = set(named) <= letters and len(set(named)) == len(named)
    told = [axis.name.lower() for axis in axes]
    return known and all(n == t for n, t in zip(named, told, strict=True) if t in letters)


def _read_shape(array: Path, n_axes: int) -> tuple[int, ...]:
    file = array / ("zarr.json" if (array / "zarr.json").exists() else ".zarray")
    shape = _check(_ArrayNode, _read_json(file), file, "array").shape
    if len(shape) != n_axes or math.prod(shape[:-2]) > _MOST_PLANES:
        raise InputError(
            f"expected {n_axes} axes and at most {_MOST_PLANES} planes in {file}, found shape "
            f"{tuple(shape)}: convert the plate"
        )
    return tuple(shape)


def _read_labels(omero: Any) -> tuple[str, ...]:
    """Read the channels' names from what was written for a viewer; it need not be there."""
    try:
        return tuple(c.label.strip() for c in _Omero.model_validate(omero).channels)
    except ValidationError:
        return ()


def _transform(
    axes: Sequence[_Axis], named: str, transformations: Sequence[_Transformation]
) -> tuple[dict[str, float], dict[str, float]]:
    """Apply scales and translations one after the other, in micrometres and seconds."""
    steps, origin = {}, {}
    moved = any(transformation.translation for transformation in transformations)
    for number, (axis, letter) in enumerate(zip(axes, named, strict=True)):
        unit = {**_MICROMETRES, **_SECONDS}.get(axis.unit or "")
        if unit is None:
            continue
        step, at = unit, 0.0
        for transformation in transformations:
            if number < len(transformation.scale):
                step, at = step * transformation.scale[number], at * transformation.scale[number]
            if number < len(transformation.translation):
                at += transformation.translation[number] * unit
        if math.isfinite(step) and step > 0:
            steps[letter] = step
        if moved and math.isfinite(at):
            origin[letter] = at
    return steps, origin
