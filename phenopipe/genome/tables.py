"""Tables of genes as users have them."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from phenopipe.errors import InputError


def read_table(path: Path, *, what: str, texts: Sequence[str]) -> pd.DataFrame:
    """Read a CSV with commas, or anything else with tabs; packed by gzip, too.

    Parameters
    ----------
    path
        The file.
    what
        What it should be, for the error.
    texts
        Columns that stay text: a chromosome may be called ``1``.

    Raises
    ------
    InputError
        If there is no such file, or it is no table.
    """
    if not path.is_file():
        raise InputError(f"expected {what} at {path}, found no file")
    separator = "," if ".csv" in path.suffixes else "\t"
    try:
        table = pd.read_csv(path, sep=separator, dtype=dict.fromkeys(texts, str))
    except (ValueError, UnicodeDecodeError, EOFError) as error:
        raise InputError(
            f"expected {what} in {path}, found {error}: .csv is read with commas, anything else "
            "with tabs"
        ) from error
    return table.rename(columns=lambda name: str(name).removeprefix("#"))
