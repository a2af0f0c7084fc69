"""One field: its pixels go in, the places of its crops and their vectors come out."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from phenopipe.embed.crops import Origins, crop_field, crop_origins, reflect_border
from phenopipe.embed.plan import CropPlan
from phenopipe.embed.rescale import rescale_planes
from phenopipe.errors import InputError
from phenopipe.models import Session

Crops = npt.NDArray[Any]
Vectors = npt.NDArray[np.float32]
# Where a field's crops lie, and their pixels in parts.
FieldCrops = tuple[Origins, Iterator[Crops]]

# Crops in memory at a time, in whole batches: a field of 64 is one, a dense grid of thousands is
# many. So memory does not grow with the grid, and the bits are those of one call.
_CROPS_AT_ONCE = 128


def embed_field(
    pixels: npt.NDArray[Any], session: Session, plan: CropPlan, *, where: str
) -> tuple[Origins, Vectors]:
    """Embed one field: :func:`cut_field`, then :func:`embed_crops`.

    Returns
    -------
    places : ndarray of int32, shape (k, 2)
        The upper left corner (y, x) of each crop in pixels of the plate's level 0, rounded half
        up; or the field's, (0, 0), where the plan is per field.
    vectors : ndarray of float32, shape (k, d)
        The crops' vectors in that order, or their mean (1, d).

    Examples
    --------
    >>> from phenopipe.models import build_classical, open_session
    >>> session = open_session(build_classical().SerializeToString())
    >>> plan = CropPlan(channels=(1, 0), names=("DNA", "ER"), crop=32, stride=32)
    >>> pixels = np.zeros((3, 64, 64), np.uint16)
    >>> places, vectors = embed_field(pixels, session, plan, where="HUVEC-1/Plate3 A01 field 1")
    >>> places.tolist(), vectors.shape
    ([[0, 0], [0, 32], [32, 0], [32, 32]], (4, 46))
    """
    places, crops = cut_field(pixels, session, plan, where=where)
    return places, embed_crops(crops, session, plan)


def cut_field(
    pixels: npt.NDArray[Any], session: Session, plan: CropPlan, *, where: str
) -> FieldCrops:
    """Cut one field into crops: all that can be done before the model runs.

    Parameters
    ----------
    pixels, where
        As :func:`prepare_field` takes them.

    Returns
    -------
    places : ndarray of int32, shape (k, 2)
        As :func:`embed_field` gives them.
    crops : iterator of ndarray, shapes (n, c, crop, crop)
        A field of usual size is one part, and cut; of a dense grid the first part is cut and the
        others are as they are asked for.

    Raises
    ------
    InputError
        If the pixels do not suit, the field is smaller than a crop, or crops lie closer than one
        pixel of level 0.
    """
    planes = prepare_field(pixels, plan, dtype=session.dtype, where=where)
    crop = plan.crop
    origins = crop_origins(*planes.shape[1:], crop=crop, stride=plan.stride, edge=plan.edge)
    places = _locate(origins, plan)
    planes = reflect_border(planes, origins, crop=crop)
    some = session.batch * max(1, _CROPS_AT_ONCE // session.batch)
    first, *rest = (origins[k : k + some] for k in range(0, len(origins), some))
    ready = crop_field(planes, first, crop=crop)
    later = (crop_field(planes, part, crop=crop) for part in rest) if rest else ()
    return places, chain([ready], later)


def embed_crops(crops: Iterable[Crops], session: Session, plan: CropPlan) -> Vectors:
    """Run the model on a field's crops, part by part, and average where the plan says so."""
    vectors = np.concatenate([_embed_turned(part, session, plan.turns) for part in crops])
    return _average(vectors)[None] if plan.per == "field" else vectors


def prepare_field(
    pixels: npt.NDArray[Any], plan: CropPlan, *, dtype: str, where: str
) -> npt.NDArray[Any]:
    """Make the planes that a model sees of a field, in pixels of its size; no model is run.

    Parameters
    ----------
    pixels
        The field ``(c, y, x)`` as read from the plan's level, all its channels.
    dtype
        The session's: pixels widen to it, and never narrow.
    where
        What the field is, for messages.

    Returns
    -------
    ndarray of dtype, shape (c, y, x)
        One plane a channel of the plan. Not a copy where the pixels are these planes already.

    Raises
    ------
    InputError
        If this is a time series, or of a dtype that the model does not take.
    """
    if pixels.ndim != 3:
        raise InputError(
            f"expected pixels (c, y, x) in {where}, found {pixels.shape}: time series are not "
            "embedded yet, ingest one time point"
        )
    if not np.can_cast(pixels.dtype, dtype):
        raise InputError(
            f"expected pixels of {dtype} in {where}, found {pixels.dtype}: choose a model for "
            "these pixels"
        )
    if plan.channels == tuple(range(len(pixels))):
        return rescale_planes(pixels, plan.scale).astype(dtype, copy=False)
    shown = [index for index in plan.channels if index is not None]
    rescaled = rescale_planes(pixels[shown], plan.scale)
    planes = np.zeros((len(plan.channels), *rescaled.shape[1:]), dtype)
    planes[[index is not None for index in plan.channels]] = rescaled
    return planes


def _embed_turned(crops: Crops, session: Session, turns: int) -> Vectors:
    """Embed crops as they lie; or turned by each quarter, and average."""
    if turns == 1:
        return session.embed(crops)
    quarters = (np.rot90(crops, k, axes=(2, 3)) for k in range(turns))
    return _average(np.stack([session.embed(np.ascontiguousarray(q)) for q in quarters]))


def _average(vectors: Vectors) -> Vectors:
    """Average over the first axis; in float64, so that only the result is rounded."""
    return np.asarray(np.mean(vectors, axis=0, dtype=np.float64), np.float32)


def _locate(origins: Origins, plan: CropPlan) -> Origins:
    """Find the places in level 0 of what the vectors are of."""
    if plan.per == "field":
        return np.zeros((1, 2), np.int32)
    places = np.asarray(np.floor(origins * plan.scale.pixel + 0.5), np.int32)
    if len(np.unique(places, axis=0)) < len(places):
        raise InputError(
            f"expected crops at least one pixel of the plate apart, found some closer, as "
            f"{plan.scale.pixel:.3g} of its pixels are one of the model's: raise embed.stride, or "
            "set embed.edge to centre"
        )
    return places
