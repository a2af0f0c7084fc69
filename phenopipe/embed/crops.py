"""The crop grid: where the squares lie that a model sees of a field."""

from typing import Any

import numpy as np
import numpy.typing as npt

from phenopipe.config import Edge
from phenopipe.errors import InputError

Origins = npt.NDArray[np.int32]


def crop_origins(
    height: int, width: int, *, crop: int, stride: int, edge: Edge = "centre"
) -> Origins:
    """Lay a grid of crops over a field, row by row.

    Every field of a size has the same crops. Along each axis of ``length`` pixels:

    - ``centre``: as many crops as fit entirely, ``(length - crop) // stride + 1``. Pixels left
      over are split between both margins, the odd one going to the far side, and not seen.
    - ``shift``: crops from the near border on, and one more where pixels are left over: the last
      crop is shifted inwards to end at the far border. It overlaps the one before.
    - ``pad``: crops from the near border on until every pixel is seen; the last may hang over the
      far border, and :func:`crop_field` reflects the field there.

    With a stride above the crop's side, ``shift`` and ``pad`` leave gaps too.

    Returns
    -------
    ndarray of int32, shape (k, 2)
        The upper left corner (y, x) of each crop, in pixels.

    Raises
    ------
    InputError
        If the field is smaller than a crop, and not padded.

    Examples
    --------
    >>> crop_origins(200, 192, crop=96, stride=96).tolist()
    [[4, 0], [4, 96], [100, 0], [100, 96]]
    >>> len(crop_origins(2048, 2048, crop=256, stride=256))
    64
    >>> [crop_origins(96, 200, crop=96, stride=96, edge=e)[:, 1].tolist() for e in ("shift", "pad")]
    [[0, 96, 104], [0, 96, 192]]
    """
    if crop > min(height, width) and edge != "pad":
        raise InputError(
            f"expected fields of at least {crop} x {crop} pixels, found {height} x {width}: "
            f"set embed.crop to {min(height, width)} or less, or embed.edge to pad"
        )
    rows, columns = (
        _starts(length, crop=crop, stride=stride, edge=edge) for length in (height, width)
    )
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return np.column_stack([y.ravel(), x.ravel()]).astype(np.int32)


def crop_field(field: npt.NDArray[Any], origins: Origins, *, crop: int) -> npt.NDArray[Any]:
    """Cut a field ``(c, y, x)`` into crops ``(k, c, crop, crop)``, in the order of the origins.

    Beyond the far borders the field is reflected, its last row and column not repeated.

    Examples
    --------
    >>> field = np.arange(16).reshape(1, 4, 4)
    >>> crop_field(field, np.array([[0, 2]], np.int32), crop=2).tolist()
    [[[[2, 3], [6, 7]]]]
    >>> crop_field(field, np.array([[0, 3]], np.int32), crop=2).tolist()
    [[[[3, 2], [7, 6]]]]
    """
    field = reflect_border(field, origins, crop=crop)
    return np.stack([field[:, y : y + crop, x : x + crop] for y, x in origins])


def reflect_border(field: npt.NDArray[Any], origins: Origins, *, crop: int) -> npt.NDArray[Any]:
    """Extend a field beyond its far borders as far as the crops reach; itself if they do not.

    Examples
    --------
    >>> reflect_border(np.array([[[1, 2, 3]]]), np.array([[0, 3]]), crop=1).tolist()
    [[[1, 2, 3, 2]]]
    """
    beyond = np.maximum(origins.max(axis=0) + crop - field.shape[1:], 0)
    if not beyond.any():
        return field
    return np.pad(field, [(0, 0), *((0, int(more)) for more in beyond)], mode="reflect")


def _starts(length: int, *, crop: int, stride: int, edge: Edge) -> npt.NDArray[np.int64]:
    if edge == "centre":
        steps, left_over = divmod(length - crop, stride)
        return left_over // 2 + stride * np.arange(steps + 1)
    # Steps to reach the far border; a padded crop must start within the field all the same.
    reach = length - (max(crop, stride) if edge == "pad" else crop)
    starts = stride * np.arange(-(-max(reach, 0) // stride) + 1)
    return np.minimum(starts, length - crop) if edge == "shift" else starts
