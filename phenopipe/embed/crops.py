"""The crop grid: where the squares lie that a model sees of a field."""

from typing import Any

import numpy as np
import numpy.typing as npt

from phenopipe.errors import InputError


def crop_origins(height: int, width: int, *, crop: int, stride: int) -> npt.NDArray[np.int32]:
    """Lay a grid of crops over a field, row by row.

    Along each axis stand as many crops as fit entirely, ``(length - crop) // stride + 1``.
    Pixels left over are split between both margins, the odd one going to the far side. Every
    field of a size has the same crops.

    Returns
    -------
    ndarray of int32, shape (k, 2)
        The upper left corner (y, x) of each crop, in pixels.

    Raises
    ------
    InputError
        If the field is smaller than a crop.

    Examples
    --------
    >>> crop_origins(200, 192, crop=96, stride=96).tolist()
    [[4, 0], [4, 96], [100, 0], [100, 96]]
    >>> len(crop_origins(2048, 2048, crop=256, stride=256))
    64
    """
    if crop > min(height, width):
        raise InputError(
            f"expected fields of at least {crop} x {crop} pixels, found {height} x {width}: "
            f"set embed.crop to {min(height, width)} or less"
        )
    rows, columns = (_starts(length, crop=crop, stride=stride) for length in (height, width))
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return np.column_stack([y.ravel(), x.ravel()]).astype(np.int32)


def crop_field(
    field: npt.NDArray[Any], origins: npt.NDArray[np.int32], *, crop: int
) -> npt.NDArray[Any]:
    """Cut a field ``(c, y, x)`` into crops ``(k, c, crop, crop)``, in the order of the origins.

    Examples
    --------
    >>> field = np.arange(16).reshape(1, 4, 4)
    >>> crop_field(field, np.array([[0, 2]], np.int32), crop=2).tolist()
    [[[[2, 3], [6, 7]]]]
    """
    return np.stack([field[:, y : y + crop, x : x + crop] for y, x in origins])


def _starts(length: int, *, crop: int, stride: int) -> npt.NDArray[np.int64]:
    steps, left_over = divmod(length - crop, stride)
    return left_over // 2 + stride * np.arange(steps + 1)
