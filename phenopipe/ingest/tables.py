"""Tables as people and robots write them: comma, tab or semicolon; read as text, joined by one key.

Nothing is guessed about types here: every cell is text without blanks around it.
"""

import gzip
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from phenopipe.errors import InputError

_MOST_NAMED = 5


def read_table(path: Path) -> pd.DataFrame:
    """Read a delimited file, plain or gzipped, as text.

    Returns
    -------
    DataFrame
        Every cell a string; ``""`` where the file has nothing.

    Raises
    ------
    InputError
        If there is no such file, or it is not UTF-8 text in columns.
    """
    try:
        table = pd.read_csv(
            path,
            sep=_find_separator(path),
            index_col=False,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
        )
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(path, error) from error
    return pd.DataFrame({name: table[name].str.strip() for name in table.columns})


def read_header(path: Path) -> list[str]:
    """Read the column names only.

    Raises
    ------
    InputError
        As `read_table`.
    """
    try:
        names = pd.read_csv(path, sep=_find_separator(path), nrows=0, encoding="utf-8-sig").columns
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(path, error) from error
    return list(names)


def join_rows(rows: pd.DataFrame, table: pd.DataFrame, *, on: str, where: str) -> pd.DataFrame:
    """Join a table's columns onto rows by one key: each row stays one row.

    Parameters
    ----------
    rows
        Their number and order are kept; a row whose key the table has not gets ``""``.
    table
        One row a key. A column that the rows have already is left out.
    on
        The key's column in both.
    where
        Where the table comes from, for the message.

    Raises
    ------
    InputError
        If the table has a key twice: the rows would multiply.

    Examples
    --------
    >>> rows = pd.DataFrame({"well": ["A01", "A02"], "id": ["x", "y"]})
    >>> names = pd.DataFrame({"id": ["y", "x"], "name": ["why", "ex"]})
    >>> join_rows(rows, names, on="id", where="names.csv")["name"].tolist()
    ['ex', 'why']
    """
    new = [on, *(name for name in table.columns if name not in rows.columns)]
    try:
        joined = rows.merge(table[new], how="left", on=on, validate="many_to_one")
    except pd.errors.MergeError as error:
        twice = sorted(set(table.loc[table[on].duplicated(), on]))
        raise InputError(
            f"expected one row for each {on} in {where}, found more for {name_some(twice)}: "
            "remove the rows that are wrong"
        ) from error
    return joined.set_index(rows.index).fillna("")


def plain_name(column: str) -> str:
    """Reduce a column's name to what it says: case, blanks and ``Metadata_`` do not matter.

    Examples
    --------
    >>> plain_name("Metadata_Well"), plain_name("Plate Map Name")
    ('well', 'plate_map_name')
    """
    return column.strip().lower().replace(" ", "_").removeprefix("metadata_")


def find_column(columns: Sequence[str], spellings: Sequence[str]) -> str | None:
    """Find the column that has the first of the spellings; None where none has any.

    Examples
    --------
    >>> find_column(["Metadata_Plate", "Metadata_Well"], ["well_position", "well"])
    'Metadata_Well'
    """
    found = {plain_name(column): column for column in reversed(columns)}
    return next((found[spelling] for spelling in spellings if spelling in found), None)


def name_some(names: Sequence[str]) -> str:
    """List the first few names, and count the rest.

    Examples
    --------
    >>> name_some(["A01", "A02", "A03", "A04", "A05", "A06", "A07"])
    'A01, A02, A03, A04, A05 and 2 more'
    """
    more = len(names) - _MOST_NAMED
    shown = ", ".join(names[:_MOST_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown or "none"


def _find_separator(path: Path) -> str:
    open_text = gzip.open if path.suffix == ".gz" else open
    with open_text(path, "rt", encoding="utf-8-sig") as file:
        return max(",\t;", key=file.readline().count)


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"expected a platemap as CSV or TSV at {path}, found {error}: check the path, or save "
        "it anew as UTF-8 text"
    )
