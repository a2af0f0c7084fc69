"""Which z-steps and time points of a plate are kept."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from phenopipe.errors import InputError
from phenopipe.ingest.index import ImageFile, PlateIndex, keep_images, sort_images


def pick_planes(
    index: PlateIndex, *, z: Literal["keep", "max"] | int, t: Literal["keep"] | int
) -> PlateIndex:
    """Keep the planes that are asked for; the others become ignored files.

    Parameters
    ----------
    index
        The plate.
    z
        ``keep`` all; one step, counted from 0; or ``max``: the steps of a channel stay, to be
        projected. Where one is picked or projected, a projection that the vendor wrote beside a
        channel's stack is left out.
    t
        ``keep`` all, or one time point, counted from 0.

    Raises
    ------
    InputError
        If the plate has no such step or time point.
    """
    if t != "keep":
        index = _pick_time(index, t)
    stacked = {image.channel for image in index.images if image.z is not None}
    if z == "keep" or not stacked:
        return index
    index = keep_images(
        index,
        lambda image: image.z is not None or image.channel not in stacked,
        reason="the z-stack beside it is used",
    )
    return index if z == "max" else _pick_step(index, z)


def _pick_time(index: PlateIndex, t: int) -> PlateIndex:
    _check_there(index, "t", t)
    kept = keep_images(index, lambda i: (i.t or 0) == t, reason=f"time point {t} was picked")
    return _drop_axis(kept, lambda image: replace(image, t=None))


def _pick_step(index: PlateIndex, z: int) -> PlateIndex:
    _check_there(index, "z", z)
    kept = keep_images(index, lambda i: i.z in (None, z), reason=f"z-step {z} was picked")
    return _drop_axis(kept, lambda image: replace(image, z=None))


def _drop_axis(index: PlateIndex, drop: Callable[[ImageFile], ImageFile]) -> PlateIndex:
    images, absent = (
        sort_images(map(drop, planes), list(index.channels))
        for planes in (index.images, index.absent)
    )
    return replace(index, images=images, absent=absent)


def _check_there(index: PlateIndex, axis: Literal["z", "t"], picked: int) -> None:
    found = sorted({getattr(image, axis) or 0 for image in index.images})
    if picked not in found:
        raise InputError(
            f"expected {axis}={picked} on {index.plate}, found {axis} from {found[0]} to "
            f"{found[-1]}: set ingest.{axis} to one of these"
        )
