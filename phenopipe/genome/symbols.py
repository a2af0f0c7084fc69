"""Gene symbols change: which gene a name means today, where that can be known."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pandas as pd

from phenopipe.errors import InputError
from phenopipe.genome.arms import arm_of_locus, chromosome_arms, read_shipped

_COMPLETE_SET = ("symbol", "location", "alias_symbol", "prev_symbol")
_WITHDRAWN = ("STATUS", "WITHDRAWN_SYMBOL")
_MERGED_INTO = "MERGED_INTO_REPORT"

# What a spreadsheet makes of a symbol. Which one it was cannot be told: MARC1 and MARCH1 both
# become 1-Mar.
_DATE = re.compile(r"\d{1,2}-(Mar|Sep|Dec)|(Mar|Sep|Dec)-\d{2}", re.IGNORECASE)


@dataclass(frozen=True)
class Symbols:
    """Which gene a name means.

    Attributes
    ----------
    arms
        Chromosome arm of each approved symbol, ``""`` where its locus names none or two.
    previous
        The approved symbols of the genes that were called so before, by former symbol.
    aliases
        The approved symbols of the genes that are called so too, by alias.
    withdrawn
        Symbols of entries that HGNC withdrew without a successor.
    """

    arms: Mapping[str, str]
    previous: Mapping[str, frozenset[str]]
    aliases: Mapping[str, frozenset[str]]
    withdrawn: frozenset[str] = frozenset()

    def resolve(self, name: str) -> tuple[str, str]:
        """Give the approved symbol that a name means, and how it was found.

        Returns
        -------
        tuple of str
            The symbol, ``""`` where it is lost, and one of ``approved``, ``previous``, ``alias``,
            ``capitals`` (as C1ORF87 for C1orf87); or, where it is lost, ``ambiguous`` (several
            genes are or were called so), ``withdrawn``, ``date`` (what a spreadsheet made of a
            symbol) or ``unknown``.

        Examples
        --------
        >>> shipped_symbols().resolve("SEPT9"), shipped_symbols().resolve("C1ORF87")
        (('SEPTIN9', 'previous'), ('C1orf87', 'capitals'))
        """
        if name in self.arms:
            return name, "approved"
        former = self.previous.get(name, frozenset())
        candidates = former | self.aliases.get(name, frozenset())
        if len(candidates) > 1:
            return "", "ambiguous"
        if candidates:
            return next(iter(candidates)), "previous" if former else "alias"
        if name in self._in_capitals:
            return self._in_capitals[name], "capitals"
        if name in self.withdrawn:
            return "", "withdrawn"
        return "", "date" if _DATE.fullmatch(name) else "unknown"

    @cached_property
    def _in_capitals(self) -> dict[str, str]:
        # Only capitals, not any case: Trp53 and Myc are genes of the mouse.
        written: dict[str, set[str]] = defaultdict(set)
        for symbol in self.arms:
            written[symbol.upper()].add(symbol)
        return {name: symbols.pop() for name, symbols in written.items() if len(symbols) == 1}


@cache
def shipped_symbols() -> Symbols:
    """Read what the package knows: HGNC's approved symbols, and those that dates did away with.

    HGNC's full list of former symbols and aliases is not shipped; :func:`read_symbols` reads it.
    """
    renamed = {former: frozenset([symbol]) for former, symbol in read_shipped("renamed_genes.tsv")}
    return Symbols(arms=chromosome_arms(), previous=renamed, aliases={})


def read_symbols(path: Path | str, *, withdrawn: Path | str | None = None) -> Symbols:
    """Read HGNC's symbols, former symbols, aliases and loci from its own files.

    Parameters
    ----------
    path
        ``hgnc_complete_set.txt`` from genenames.org (tab-separated; several values in a field
        stand between ``|``).
    withdrawn
        ``withdrawn.txt`` from there: an entry merged into others is resolved if it is one, and
        ambiguous if it was split.

    Raises
    ------
    InputError
        If a file is not there, or a column is missing.
    """
    genes = _read(Path(path), _COMPLETE_SET, called="hgnc_complete_set.txt")
    previous: dict[str, set[str]] = defaultdict(set)
    aliases: dict[str, set[str]] = defaultdict(set)
    for symbol, former, also in zip(
        genes["symbol"], genes["prev_symbol"], genes["alias_symbol"], strict=True
    ):
        for names, found in ((former, previous), (also, aliases)):
            for name in filter(None, names.split("|")):
                found[name].add(symbol)
    dead = set()
    for name, successors in _read_withdrawn(withdrawn):
        if successors:
            previous[name] |= successors
        else:
            dead.add(name)
    return Symbols(
        arms=dict(zip(genes["symbol"], map(arm_of_locus, genes["location"]), strict=True)),
        previous={name: frozenset(symbols) for name, symbols in previous.items()},
        aliases={name: frozenset(symbols) for name, symbols in aliases.items()},
        withdrawn=frozenset(dead),
    )


def _read_withdrawn(path: Path | str | None) -> Iterator[tuple[str, set[str]]]:
    if path is None:
        return
    table = _read(Path(path), _WITHDRAWN, called="withdrawn.txt")
    merged = next((name for name in table if str(name).startswith(_MERGED_INTO)), None)
    for row in table.to_dict("records"):
        # Each report is ID|symbol|status.
        reports = [report.split("|") for report in str(row.get(merged, "")).split(", ") if report]
        yield (
            row["WITHDRAWN_SYMBOL"],
            {report[1] for report in reports if report[2:] == ["Approved"]},
        )


def _read(path: Path, columns: Iterable[str], *, called: str) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"expected {called} of HGNC at {path}, found no file")
    # "NA" and "NAN" may be names, so nothing is taken for a missing value.
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(
            f"expected the columns of HGNC's {called} in {path}, found no "
            f"{', '.join(missing)}: download it anew from genenames.org"
        )
    return table


def locate_genes(genes: Iterable[str], *, symbols: Symbols | None = None) -> pd.DataFrame:
    """Resolve gene names and find their chromosome arms.

    A name is never guessed: what means two genes, or none that is known, has no arm, and its row
    says why. ``table.how.value_counts()`` counts what was resolved and lost.

    Parameters
    ----------
    genes
        Names as the screen has them.
    symbols
        What names mean: :func:`read_symbols`, or what the package knows if None.

    Returns
    -------
    DataFrame
        One row a gene, in order: ``gene``, ``symbol``, ``arm`` (both empty where lost) and
        ``how``, see :meth:`Symbols.resolve`; ``no arm`` where the symbol is known and its locus
        names no arm, or two.

    Examples
    --------
    >>> locate_genes(["TP53", "MARCH1", "nonsense"])
           gene   symbol  arm       how
    0      TP53     TP53  17p  approved
    1    MARCH1  MARCHF1   4q  previous
    2  nonsense                 unknown
    """
    known = symbols or shipped_symbols()
    rows = []
    for gene in genes:
        symbol, how = known.resolve(gene)
        arm = known.arms.get(symbol, "")
        rows.append((gene, symbol, arm, "no arm" if symbol and not arm else how))
    return pd.DataFrame(rows, columns=["gene", "symbol", "arm", "how"])
