"""The plate's wells by number, and its size: as told, or the smallest that holds the wells."""

from collections.abc import Iterable
from pathlib import Path

from phenopipe.errors import InputError
from phenopipe.plates import PLATE_SHAPES, Well, plate_shape


def fit_shape(
    wells: Iterable[Well], told: tuple[int, int] | None, *, by: str, folder: Path
) -> tuple[int, int]:
    """Give the plate's rows and columns: those told, or the smallest plate that holds the wells.

    Parameters
    ----------
    wells
        The wells that have an image.
    told
        Rows and columns as the vendor's index says; None where it says nothing.
    by
        The index that says so, for the message.
    folder
        The plate's folder, for the message.

    Raises
    ------
    InputError
        If a well lies outside the plate that the index describes.

    Examples
    --------
    >>> fit_shape([Well.parse("B03")], None, by="Index.xml", folder=Path("P1"))
    (8, 12)
    """
    wells = sorted(wells)
    if told is None:
        return plate_shape(wells)
    rows, columns = told
    outside = [well for well in wells if well.row >= rows or well.column >= columns]
    if outside:
        raise InputError(
            f"expected wells of the {rows} x {columns} plate in {by}, found {outside[0]} in "
            f"{folder}: remove the file that is not this plate's, or correct {by}"
        )
    return told


def well_at(row: int, column: int) -> Well:
    """Give the well at a row and column that count from 1.

    Raises
    ------
    ValueError
        If no plate is so large.

    Examples
    --------
    >>> str(well_at(2, 3))
    'B03'
    """
    rows, columns = PLATE_SHAPES[1536]
    if not (1 <= row <= rows and 1 <= column <= columns):
        raise ValueError(f"no plate has a well at row {row}, column {column}")
    return Well(row - 1, column - 1)
