"""Which chromosome arm a gene lies on: by HGNC's loci, or by positions and centromeres."""

import csv
import gzip
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from phenopipe.errors import InputError
from phenopipe.genome.tables import read_table

# One end of a locus: chromosome, side, and the rest (13.43, ter, nothing).
_END = re.compile(r"(\d{1,2}|X|Y)?([pq])(?:[\d.]+|ter)?")
_REMARK = re.compile(r" (not on reference assembly|alternate reference locus)$")
_POSITION_COLUMNS = ("gene", "chrom", "start", "end")
_CENTROMERE_COLUMNS = ("chrom", "chromStart", "chromEnd")


@cache
def chromosome_arms() -> Mapping[str, str]:
    """Read the chromosome arm of each gene, by its approved symbol.

    Returns
    -------
    Mapping of str to str
        Every gene of HGNC (CC0) whose locus lies on one arm; ``phenopipe/data/README.md`` says
        how many.

    Examples
    --------
    >>> chromosome_arms()["TP53"]
    '17p'
    """
    return MappingProxyType(dict(read_shipped("gene_arms.tsv.gz")))


def read_shipped(name: str) -> Iterator[tuple[str, str]]:
    """Yield the rows of a shipped table of two columns, without its comments and header."""
    packed = (files("phenopipe") / "data" / name).read_bytes()
    text = (gzip.decompress(packed) if name.endswith(".gz") else packed).decode()
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    for first, second, *_ in list(csv.reader(lines, delimiter="\t"))[1:]:
        yield first, second


def find_arm(gene: str) -> str:
    """Find the chromosome arm of a gene by its approved symbol; empty where it is not known.

    :func:`phenopipe.genome.locate_genes` resolves other symbols and counts what is lost.

    Examples
    --------
    >>> find_arm("OR4D5"), find_arm("not a gene")
    ('11q', '')
    """
    return chromosome_arms().get(gene, "")


def arm_of_locus(locus: str) -> str:
    """Give the arm that a cytogenetic locus lies on; empty where it names none, or two.

    Examples
    --------
    >>> [arm_of_locus(locus) for locus in ("19q13.43", "11p15-p14", "2p11-q11", "Xp22 and Yp11")]
    ['19q', '11p', '', '']
    """
    arms, chromosome = set(), ""
    for end in re.split(r"-| and | or ", _REMARK.sub("", locus)):
        found = _END.fullmatch(end.strip())
        if not found or not (found[1] or chromosome):
            return ""
        chromosome = found[1] or chromosome
        arms.add(chromosome + found[2])
    return arms.pop() if len(arms) == 1 else ""


def read_arms(positions: Path | str, centromeres: Path | str) -> pd.Series:
    """Read where genes and centromeres lie, and find each gene's arm.

    Both tables are CSV or TSV (also .gz), with the columns of :func:`arms_from_positions`, which
    says what is given and raised; ``#`` before the first column's name is left out.

    Raises
    ------
    InputError
        If a file is not there, too.
    """
    tables = (
        read_table(Path(path), what=what, texts=("gene", "chrom"))
        for path, what in ((positions, "gene positions"), (centromeres, "centromeres"))
    )
    return arms_from_positions(*tables)


def arms_from_positions(positions: pd.DataFrame, centromeres: pd.DataFrame) -> pd.Series:
    """Find each gene's arm from its position: q where its end lies past the centromere's middle.

    As Lazar et al. (2024). It places genes by any annotation, so by that for which a library was
    designed, whose symbols HGNC may have changed since.

    Parameters
    ----------
    positions
        Columns ``gene``, ``chrom`` (``chr1`` or ``1``), ``start`` and ``end`` in base pairs.
    centromeres
        UCSC's table of the same assembly: columns ``chrom``, ``chromStart``, ``chromEnd``. A
        chromosome's several parts are taken together.

    Returns
    -------
    Series of str
        Arm by gene, such as ``17p``; empty where the chromosome has no centromere (chrM), or the
        gene lies on several arms, as those of the pseudoautosomal regions do.

    Raises
    ------
    InputError
        If a column is missing, or a position is not a number.

    Examples
    --------
    >>> genes = pd.DataFrame([("A", "chr1", 5, 9), ("B", "chr1", 80, 99), ("C", "chrM", 1, 2)],
    ...                      columns=["gene", "chrom", "start", "end"])
    >>> middle = pd.DataFrame([("chr1", 40, 60)], columns=["chrom", "chromStart", "chromEnd"])
    >>> arms_from_positions(genes, middle).to_dict()
    {'A': '1p', 'B': '1q', 'C': ''}
    """
    genes = _check(positions, _POSITION_COLUMNS, numbers=("start", "end"), what="gene positions")
    parts = _check(
        centromeres, _CENTROMERE_COLUMNS, numbers=("chromStart", "chromEnd"), what="centromeres"
    ).groupby("chrom")
    middle = (parts["chromStart"].min() + parts["chromEnd"].max()) / 2
    of_gene = genes["chrom"].map(middle)
    side = np.where(genes["end"] > of_gene, "q", "p")
    arms = (genes["chrom"] + side).where(of_gene.notna(), "")
    per_gene = arms.groupby(genes["gene"].to_numpy())
    return per_gene.first().where(per_gene.nunique() == 1, "").rename("arm")


def _check(
    table: pd.DataFrame, columns: tuple[str, ...], *, numbers: tuple[str, ...], what: str
) -> pd.DataFrame:
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(
            f"expected columns {', '.join(columns)} in {what}, found "
            f"{', '.join(map(str, table.columns))}: name the columns so"
        )
    checked = table[list(columns)].copy()
    for column in numbers:
        checked[column] = pd.to_numeric(table[column], errors="coerce")
        bad = table[column][checked[column].isna()]
        if len(bad):
            raise InputError(
                f"expected base pairs as {column} in {what}, found {bad.iloc[0]!r} in row "
                f"{bad.index[0]}: mend or drop the row"
            )
    return checked.assign(chrom=checked["chrom"].astype(str).str.removeprefix("chr"))
