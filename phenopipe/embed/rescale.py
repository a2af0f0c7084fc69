"""Pixels of the size that a model is meant for, from a plate image's resolution levels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from phenopipe.errors import InputError
from phenopipe.pyramid import halve

# Sizes that differ by less are taken as equal: microscopes are calibrated no better.
TOLERANCE = 0.01
_UNIT = "micrometer"
# Enlarged more than this, a model would be shown a smear where it knows cells.
_MAX_ZOOM = 4.0


@dataclass(frozen=True)
class Scale:
    """How a plate's pixels become a model's.

    Attributes
    ----------
    level
        The resolution level that is read.
    halvings
        How often it is halved after that, as the levels were.
    zoom
        Pixels of the result for one pixel of what that gives.
    """

    level: int = 0
    halvings: int = 0
    zoom: float = 1.0

    @property
    def pixel(self) -> float:
        """Side of one pixel of the result, in pixels of level 0."""
        return float(2 ** (self.level + self.halvings) / self.zoom)


UNSCALED = Scale()


def read_pixel_size(image: Mapping[str, Any]) -> tuple[float | None, int]:
    """Read the side of a pixel in micrometres, None if not known, and the number of levels.

    Parameters
    ----------
    image
        The attributes of a field's group in the plate image (OME-Zarr 0.5).

    Examples
    --------
    >>> read_pixel_size({})
    (None, 1)
    """
    multiscales = image.get("ome", {}).get("multiscales", [])
    if not multiscales:
        return None, 1
    axes, datasets = multiscales[0]["axes"], multiscales[0]["datasets"]
    scale = next(
        part["scale"] for part in datasets[0]["coordinateTransformations"] if "scale" in part
    )
    # Ingest gives a unit only where the size is known; without one, the scale counts pixels.
    known = {a["name"]: s for a, s in zip(axes, scale, strict=True) if a.get("unit") == _UNIT}
    return known.get("y"), len(datasets)


def find_scale(pixel_um: float, *, wanted_um: float, levels: int = 1, where: str) -> Scale:
    """Find the way from a plate's pixels to those of a wanted size.

    Pixels are halved while they stay as fine as the wanted ones, so that as little is read as
    may be; the rest is a zoom. Halvings that the plate image holds as levels are read instead:
    the result is the same however many levels it has. Sizes within 1% are taken as equal.

    Raises
    ------
    InputError
        If the plate's pixels are more than four times as coarse as the wanted ones.

    Examples
    --------
    >>> find_scale(0.325, wanted_um=0.65, levels=2, where="HUVEC-1/Plate3")
    Scale(level=1, halvings=0, zoom=1.0)
    >>> find_scale(0.25, wanted_um=0.625, levels=1, where="HUVEC-1/Plate3")
    Scale(level=0, halvings=1, zoom=0.8)
    """
    zoom, halvings = pixel_um / wanted_um, 0
    if zoom > _MAX_ZOOM:
        raise InputError(
            f"expected pixels of {wanted_um:g} um, or at most {_MAX_ZOOM:g} times that, in "
            f"{where}, found {pixel_um:g} um: choose a model for this magnification, or set "
            "embed.rescale=false"
        )
    while zoom * 2 < 1 + TOLERANCE:
        zoom, halvings = zoom * 2, halvings + 1
    level = min(halvings, levels - 1)
    return Scale(level, halvings - level, 1.0 if abs(zoom - 1) < TOLERANCE else zoom)


def rescale_sides(sides: tuple[int, int], scale: Scale) -> tuple[int, int]:
    """Give height and width of the model's planes, from those of level 0.

    Examples
    --------
    >>> rescale_sides((2048, 2047), Scale(level=1)), rescale_sides((100, 100), Scale(zoom=0.8))
    ((1024, 1024), (80, 80))
    """
    height, width = sides
    for _ in range(scale.level + scale.halvings):
        height, width = -(-height // 2), -(-width // 2)
    return _zoom_side(height, scale.zoom), _zoom_side(width, scale.zoom)


def rescale_planes(planes: npt.NDArray[Any], scale: Scale) -> npt.NDArray[Any]:
    """Bring planes ``(c, y, x)`` of ``scale.level`` to the wanted pixels, in their own dtype.

    Each pixel of the result is the mean of those around its place, weighted by a triangle that
    is as wide on either side as the coarser of both pixels: fine detail is averaged and never
    aliases, and no value leaves the range of those around it. Rounded half up.

    References
    ----------
    Heckbert (1989), Fundamentals of texture mapping and image warping; as Pillow, and torch's
    ``interpolate(mode="bilinear", antialias=True)``.

    Examples
    --------
    >>> planes = np.array([[[10, 10, 40, 40]] * 4], np.uint16)
    >>> rescale_planes(planes, Scale(halvings=1)).tolist()
    [[[10, 40], [10, 40]]]
    """
    for _ in range(scale.halvings):
        planes = halve(planes)
    if scale.zoom == 1:
        return planes
    return np.stack([_resample(plane, scale.zoom) for plane in planes])


def _resample(plane: npt.NDArray[Any], zoom: float) -> npt.NDArray[Any]:
    height, width = (_zoom_side(side, zoom) for side in plane.shape)
    seen = (min(width / zoom, plane.shape[1]), min(height / zoom, plane.shape[0]))
    image = Image.fromarray(plane.astype(np.float32))
    resized = image.resize((width, height), Image.Resampling.BILINEAR, box=(0.0, 0.0, *seen))
    return np.floor(np.asarray(resized) + np.float32(0.5)).astype(plane.dtype)


def _zoom_side(side: int, zoom: float) -> int:
    """Count the whole pixels of the result along a side; each is of exactly the wanted size."""
    return max(1, int(side * zoom + 1e-6))
