"""Known relationships: a folder of ``entity1,entity2`` tables."""

import csv
import logging
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from phenopipe.digests import digest_file
from phenopipe.errors import InputError

COLUMNS = ("entity1", "entity2")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Annotation:
    """One source of known relationships: its name, its file's digest, and its pairs."""

    source: str
    digest: str
    pairs: pd.DataFrame


def read_annotations(folder: Path) -> list[Annotation]:
    r"""Read each ``.txt`` and ``.csv`` table of pairs in a folder.

    Parameters
    ----------
    folder
        Tables whose first line names the columns ``entity1`` and ``entity2``, as those of
        EFAAR_benchmarking; the file's stem is the source's name. Other files are ignored, and a
        log line says which.

    Returns
    -------
    list of Annotation
        By name of the source. Pairs stand as in the file, without rows that lack an entity.

    Raises
    ------
    InputError
        If the folder holds no such table, or two with one stem.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "CORUM.txt").write_text("entity1,entity2\nSUB1,GTF3C3\n")
    ...     read_annotations(Path(folder))[0].source
    'CORUM'
    """
    if not folder.is_dir():
        raise InputError(f"expected a folder of annotations, found none at {folder}")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    tables = [path for path in files if _is_table(path)]
    ignored = [path.name for path in files if path not in tables]
    if ignored:
        _log.info("%s: ignored %s (no entity1,entity2 table)", folder, ", ".join(ignored))
    if not tables:
        found = ", ".join(ignored) or "nothing"
        raise InputError(
            f"expected a .txt or .csv table with the columns entity1,entity2 in {folder}, "
            f"found {found}: add one, a pair of perturbations a line"
        )
    _check_stems(tables)
    return sorted((_read_table(path) for path in tables), key=lambda table: table.source)


def _is_table(path: Path) -> bool:
    if path.suffix.lower() not in {".txt", ".csv"}:
        return False
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return set(COLUMNS) <= set(next(csv.reader(file), []))


def _check_stems(tables: list[Path]) -> None:
    stems = [path.stem for path in tables]
    for stem in stems:
        if stems.count(stem) > 1:
            names = ", ".join(path.name for path in tables if path.stem == stem)
            raise InputError(f"expected one table for each source, found {names}: rename one")


def _read_table(path: Path) -> Annotation:
    try:
        # A gene may be called NA or NaN: nothing but an empty field is missing.
        pairs = pd.read_csv(
            path, usecols=list(COLUMNS), dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )[list(COLUMNS)]
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"expected a table entity1,entity2 in {path}, found {error}") from error
    pairs = pairs.apply(lambda column: column.str.strip())
    whole = (pairs != "").all(axis=1)
    if not whole.all():
        _log.warning("%s: left out %d rows without an entity", path, int((~whole).sum()))
    return Annotation(path.stem, digest_file(path), pairs[whole].reset_index(drop=True))
