"""What is known: a folder of tables of relationships, of clusters and of compounds' targets.

A file's columns say what it is; its name is the source's.

========================  ==========================================================  ============
kind                      columns                                                     files
========================  ==========================================================  ============
``pairs``                 ``entity1``, ``entity2``                                    txt, csv, tsv
``compound_genes``        ``compound``, ``gene``, ``activity_um``: Ki, Kd, IC50 … in  txt, csv, tsv
                          µM; or ``treatment``, ``gene_symbol``, ``nM_value`` as in
                          EFAAR_benchmarking's RxRx3-core
``clusters``              no header: a name, a tab, the members with blanks between   tsv
                          (as CORUM_clusters.tsv); or gene sets as MSigDB has them    gmt
========================  ==========================================================  ============
"""

import csv
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import pandas as pd

from phenopipe.benchmark.pins import check_pins, name_published
from phenopipe.digests import digest_file
from phenopipe.errors import InputError

Kind = Literal["pairs", "clusters", "compound_genes"]

PAIRS = ("entity1", "entity2")
COMPOUND_GENES = ("compound", "gene", "activity_um")
# RxRx3-core's spelling of the same, activity in nM.
_RXRX3 = ("treatment", "gene_symbol", "nM_value")
CLUSTERS = ("cluster", "member")

_SUFFIXES = {".txt", ".csv", ".tsv", ".gmt"}
# Lines looked at to tell what a file without a header is.
_SAMPLE_LINES = 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Annotation:
    """One source of what is known.

    Attributes
    ----------
    source
        Its name: the file's stem.
    digest
        The file's BLAKE3 digest.
    table
        Columns ``entity1, entity2``, or ``cluster, member``, or ``compound, gene, activity_um``.
    kind
        Which of these it is.
    """

    source: str
    digest: str
    table: pd.DataFrame
    kind: Kind = "pairs"

    @property
    def pairs(self) -> pd.DataFrame:
        """The known pairs of a source of pairs."""
        if self.kind != "pairs":
            raise TypeError(f"expected a source of pairs, found {self.source} of {self.kind}")
        return self.table


def read_annotations(folder: Path, *, pins: Mapping[str, str] | None = None) -> list[Annotation]:
    r"""Read each table of pairs, clusters or compounds' targets in a folder.

    Parameters
    ----------
    folder
        Tables as the module says. Other files are ignored, and a log line says which.
    pins
        BLAKE3 digests by file name: these files must be there and must not have changed.

    Returns
    -------
    list of Annotation
        By name of the source. Rows stand as in the file, without those that lack a name.

    Raises
    ------
    InputError
        If the folder holds no such table, or two with one stem; or a file is not as pinned.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "CORUM.txt").write_text("entity1,entity2\nSUB1,GTF3C3\n")
    ...     _ = Path(folder, "complexes.tsv").write_text("TFIIIC\tGTF3C3 GTF3C4\n")
    ...     [(table.source, table.kind) for table in read_annotations(Path(folder))]
    [('CORUM', 'pairs'), ('complexes', 'clusters')]
    """
    if not folder.is_dir():
        raise InputError(f"expected a folder of annotations, found none at {folder}")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    readers = {path: reader for path in files if (reader := _find_reader(path))}
    ignored = [path.name for path in files if path not in readers]
    if ignored:
        _log.info("%s: ignored %s (no table that is known)", folder, ", ".join(ignored))
    if not readers:
        raise InputError(
            f"expected a table with the columns entity1,entity2 in {folder}, or "
            f"compound,gene,activity_um, or clusters, found {', '.join(ignored) or 'nothing'}: "
            "add one, a pair of perturbations a line"
        )
    _check_stems(list(readers))
    digests = {path.name: digest_file(path) for path in readers}
    check_pins(folder, digests, pins or {})
    found = [reader(path, digests[path.name]) for path, reader in readers.items()]
    return sorted(found, key=lambda table: table.source)


def _find_reader(path: Path) -> Callable[[Path, str], Annotation] | None:
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        return None
    if suffix == ".gmt":
        return _read_clusters
    header = set(_header(path))
    if set(PAIRS) <= header:
        return _read_pairs
    if set(COMPOUND_GENES) <= header or set(_RXRX3) <= header:
        return _read_compound_genes
    return _read_clusters if suffix == ".tsv" and _holds_clusters(path) else None


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return next(csv.reader(file, delimiter=_delimiter(path)), [])


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _holds_clusters(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        rows = [line.rstrip("\n").split("\t") for line in islice(file, _SAMPLE_LINES)]
    return bool(rows) and all(len(row) == 2 for row in rows) and any(" " in row[1] for row in rows)


def _check_stems(tables: list[Path]) -> None:
    stems = [path.stem for path in tables]
    for stem in stems:
        if stems.count(stem) > 1:
            names = ", ".join(path.name for path in tables if path.stem == stem)
            raise InputError(f"expected one table for each source, found {names}: rename one")


def _read_pairs(path: Path, digest: str) -> Annotation:
    return _annotate(path, digest, _read_columns(path, PAIRS), "pairs")


def _read_compound_genes(path: Path, digest: str) -> Annotation:
    in_nm = not set(COMPOUND_GENES) <= set(_header(path))
    table = _read_columns(path, _RXRX3 if in_nm else COMPOUND_GENES)
    table = table.set_axis(list(COMPOUND_GENES), axis=1)
    activity = pd.to_numeric(table["activity_um"], errors="coerce") / (1000 if in_nm else 1)
    given = table["activity_um"].str.strip() != ""
    if (bad := table[given & ~(activity >= 0)]).size:
        raise InputError(
            f"expected activities in {path} as numbers from 0, found {bad['activity_um'].iloc[0]!r}"
            f" for {bad['compound'].iloc[0]}: correct it, or leave it empty"
        )
    kept = table.assign(activity_um=activity)[given]
    return _annotate(path, digest, kept, "compound_genes")


def _read_clusters(path: Path, digest: str) -> Annotation:
    members = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        name, *fields = line.split("\t")
        if not fields and name.strip():
            raise InputError(
                f"expected a name, a tab and members in line {number} of {path}, found no tab"
            )
        # MSigDB's gene sets have a description after the name, and tabs between the members.
        genes = fields[1:] if path.suffix.lower() == ".gmt" else " ".join(fields).split()
        members += [(name, gene) for gene in dict.fromkeys(genes)]
    return _annotate(path, digest, pd.DataFrame(members, columns=list(CLUSTERS)), "clusters")


def _read_columns(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        # A gene may be called NA or NaN: nothing but an empty field is missing.
        table = pd.read_csv(
            path,
            sep=_delimiter(path),
            usecols=list(columns),
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
        )
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(
            f"expected a table {','.join(columns)} in {path}, found {error}"
        ) from error
    return table[list(columns)]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"expected clusters as UTF-8 text in {path}, found {error}") from error


def _annotate(path: Path, digest: str, table: pd.DataFrame, kind: Kind) -> Annotation:
    names = [column for column in table.columns if column != "activity_um"]
    table = table.assign(**{name: table[name].astype(str).str.strip() for name in names})
    whole = (table[names] != "").all(axis=1)
    if not whole.all():
        _log.warning("%s: left out %d rows without an entity", path, int((~whole).sum()))
    if published := name_published(digest):
        _log.info("%s is %s", path.name, published)
    return Annotation(path.stem, digest, table[whole].reset_index(drop=True), kind)
