"""Rows of embeddings: checked, scaled to length 1, and put into groups."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phenopipe.errors import InputError
from phenopipe.stats.arrays import float_rows, to_numpy

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def finite_rows(x: ArrayLike) -> Floats:
    """Return the rows in float64, shape (n, d), if all are finite.

    Raises
    ------
    InputError
        If the array is not two-dimensional or holds a value that is not finite.

    Examples
    --------
    >>> finite_rows([[1, 2]])
    array([[1., 2.]])
    """
    return to_numpy(float_rows(x)).astype(np.float64, copy=False)


def unit_rows(x: ArrayLike) -> Floats:
    """Scale each row to length 1, so that products of rows are cosines; zero rows stay zero.

    Raises
    ------
    InputError
        If the array is not two-dimensional or holds a value that is not finite.

    Examples
    --------
    >>> unit_rows([[3.0, 4.0], [0.0, 0.0]])
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    rows = finite_rows(x)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def group_codes(labels: Sequence[object] | ArrayLike) -> tuple[Indices, list[str]]:
    """Give each label its group's number, in the order of names; -1 where empty or missing.

    Examples
    --------
    >>> group_codes(["2q", "1p", "", None, "2q"])
    (array([ 1,  0, -1, -1,  1]), ['1p', '2q'])
    """
    values = pd.Series(np.asarray(labels, dtype=object))
    codes, names = pd.factorize(values.where(values != "", None), sort=True)
    return codes.astype(np.int64), [str(name) for name in names]


def labelled_rows(
    x: ArrayLike, groups: Sequence[object] | ArrayLike
) -> tuple[Floats, Indices, list[str]]:
    """Give unit rows, each row's group and the groups' names.

    Raises
    ------
    InputError
        If there is not one group a row.
    """
    unit = unit_rows(x)
    codes, names = group_codes(groups)
    if len(unit) != len(codes):
        raise InputError(f"expected one arm a row, found {len(codes)} for {len(unit)} rows")
    return unit, codes, names
