"""Keys of a screen: plates, wells and fields; and the one parser of well names."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Self

from phenopipe.errors import InputError

# Rows x columns of the ANSI/SLAS microplates, by their number of wells.
PLATE_SHAPES = {
    96: (8, 12),
    384: (16, 24),
    1536: (32, 48),
}

_WELL = re.compile(r"([A-Z]{1,2})0*(\d{1,2})", re.IGNORECASE | re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,119}")


@dataclass(frozen=True, order=True, slots=True)
class Well:
    """One well of a plate, by zero-based row and column; sorts row by row.

    Examples
    --------
    >>> Well.parse("b3"), Well.parse("AF48").row
    (Well(row=1, column=2), 31)
    >>> str(Well(1, 2))
    'B03'
    """

    row: int
    column: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a well name in any usual spelling: ``A1``, ``a01``, ``AF48``.

        Raises
        ------
        InputError
            If the text is not a row of one or two letters and a column of 1 to 48.
        """
        match = _WELL.fullmatch(text.strip())
        row = row_index(match[1]) if match else -1
        column = int(match[2]) - 1 if match else -1
        rows, columns = PLATE_SHAPES[1536]
        if not (0 <= row < rows and 0 <= column < columns):
            raise InputError(f"expected a well name such as A1, a01 or AF48, found {text!r}")
        return cls(row, column)

    @property
    def row_name(self) -> str:
        """The row's letters: ``A`` … ``Z``, ``AA`` … ``AF``."""
        return row_name(self.row)

    @property
    def column_name(self) -> str:
        """The column's number, two digits: ``01`` … ``48``."""
        return f"{self.column + 1:02d}"

    def __str__(self) -> str:
        return self.row_name + self.column_name


@dataclass(frozen=True, order=True, slots=True)
class PlateKey:
    """One plate of one experiment (batch). Both names are safe as one segment of a path.

    Examples
    --------
    >>> str(PlateKey("HUVEC-1", "Plate3"))
    'HUVEC-1/Plate3'
    """

    experiment: str
    plate: str

    def __post_init__(self) -> None:
        check_name(self.experiment, what="experiment")
        check_name(self.plate, what="plate")

    def __str__(self) -> str:
        return f"{self.experiment}/{self.plate}"


@dataclass(frozen=True, order=True, slots=True)
class FieldKey:
    """One field (site) of a well, by the number that the microscope gave it."""

    well: Well
    field: int

    def __str__(self) -> str:
        return f"{self.well} field {self.field}"


def row_name(row: int) -> str:
    """Spell a zero-based row in letters.

    Examples
    --------
    >>> row_name(0), row_name(25), row_name(26), row_name(31)
    ('A', 'Z', 'AA', 'AF')
    """
    return chr(65 + row) if row < 26 else chr(64 + row // 26) + chr(65 + row % 26)


def row_index(letters: str) -> int:
    """Read a row's letters as a zero-based index.

    Examples
    --------
    >>> row_index("A"), row_index("af")
    (0, 31)
    """
    index = 0
    for letter in letters.upper():
        index = index * 26 + ord(letter) - 64
    return index - 1


def plate_shape(wells: list[Well]) -> tuple[int, int]:
    """Find the smallest of the 96-, 384- and 1536-well plates that holds the wells.

    Returns
    -------
    tuple of int
        Rows and columns: ``(8, 12)``, ``(16, 24)`` or ``(32, 48)``.

    Examples
    --------
    >>> plate_shape([Well.parse("B03")]), plate_shape([Well.parse("P24")])
    ((8, 12), (16, 24))
    """
    for size in (96, 384):
        rows, columns = PLATE_SHAPES[size]
        if all(well.row < rows and well.column < columns for well in wells):
            return rows, columns
    return PLATE_SHAPES[1536]


def check_name(name: str, *, what: str) -> str:
    """Return the name if it can stand as one segment of a path in the lake.

    Raises
    ------
    InputError
        If it holds anything but letters, digits, ``.``, ``_``, ``+`` and ``-``, starts with
        another sign than a letter or digit, or is longer than 120 characters: so no name read
        from metadata can leave the lake's root.

    Examples
    --------
    >>> check_name("Plate_3", what="plate")
    'Plate_3'
    >>> check_name("../etc", what="plate")
    Traceback (most recent call last):
    ...
    phenopipe.errors.InputError: expected a plate name of letters, digits and ._+- that starts \
with a letter or digit, found '../etc': rename it or give another
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"expected {'an' if what[0] in 'aeiou' else 'a'} {what} name of letters, digits and "
            f"._+- that starts with a letter or digit, found {name!r}: rename it or give another"
        )
    return name


def clean_name(text: str) -> str:
    """Make a name for the lake out of a folder's or barcode's: odd signs become ``-``.

    Examples
    --------
    >>> clean_name("Plate 3 (día 2)")
    'Plate-3-dia-2'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._+]+", "-", plain).strip("-._+")[:120]
