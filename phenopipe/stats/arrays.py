"""Rows in whatever library holds them: NumPy, torch or CuPy, on the CPU or a GPU.

Everything goes through the array API standard (array-api-compat); a library is imported only by
the user who gives its arrays.
"""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj, to_device
from numpy.typing import ArrayLike, NDArray

from phenopipe.errors import InputError


def float_rows(x: ArrayLike) -> Any:
    """Return finite rows as floats, shape (n, d), in their own library and on their own device.

    float32 and narrower become float32, all else float64; rows that are so already are not copied.

    Raises
    ------
    InputError
        If the array is not two-dimensional or holds a value that is not finite.

    Examples
    --------
    >>> float_rows(np.array([[1, 2]], dtype=np.float16)).dtype, float_rows([[1, 2]]).dtype
    (dtype('float32'), dtype('float64'))
    """
    rows: Any = x if is_array_api_obj(x) else np.asarray(x)
    if rows.ndim != 2:
        raise InputError(f"expected embeddings of shape (n, d), found {tuple(rows.shape)}")
    xp = array_namespace(rows)
    narrow = xp.isdtype(rows.dtype, "real floating") and xp.finfo(rows.dtype).bits <= 32
    rows = xp.astype(rows, xp.float32 if narrow else xp.float64, copy=False)
    _check_finite(xp, rows)
    return rows


def _check_finite(xp: Any, rows: Any) -> None:
    # One pass without a mask of the whole: a row's sum is finite only if all its values are. The
    # sum of finite values may overflow too, so the mask is made where a sum is not finite.
    with np.errstate(over="ignore", invalid="ignore"):
        sums = xp.sum(rows, axis=1)
    if bool(xp.all(xp.isfinite(sums))):
        return
    bad = np.flatnonzero(~to_numpy(xp.all(xp.isfinite(rows), axis=1)))
    if bad.size:
        raise InputError(
            f"expected finite embeddings, found NaN or infinity in {bad.size} of {len(rows)} "
            f"rows, the first at row {bad[0]}: leave these out, or embed them again"
        )


def to_numpy(array: ArrayLike) -> NDArray[Any]:
    """Bring an array of any library to NumPy, and to the CPU.

    Examples
    --------
    >>> to_numpy([1, 2])
    array([1, 2])
    """
    return np.asarray(to_device(array, "cpu") if is_array_api_obj(array) else array)


def array_like(values: NDArray[Any], rows: Any) -> Any:
    """Bring NumPy's values to the library, dtype and device of rows.

    Examples
    --------
    >>> array_like(np.arange(2), np.zeros((3, 2), np.float32))
    array([0., 1.], dtype=float32)
    """
    return array_namespace(rows).asarray(values, dtype=rows.dtype, device=device(rows))


def find_rows(index: NDArray[np.int64], rows: Any) -> Any:
    """Give what finds these row numbers in rows: a slice where they follow one another.

    A slice is a view; numbers in any other order cost a copy of what they find.

    Examples
    --------
    >>> find_rows(np.array([3, 4, 5]), np.zeros((9, 2)))
    slice(3, 6, None)
    """
    if index.size and (np.diff(index) == 1).all():
        return slice(int(index[0]), int(index[-1]) + 1)
    return array_namespace(rows).asarray(index, device=device(rows))
