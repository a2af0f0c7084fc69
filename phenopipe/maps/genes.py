"""A screen's own tables of genes: what of them a map is made from, and how they are opened."""

from collections.abc import Mapping
from dataclasses import replace

from phenopipe.config import GeneFiles
from phenopipe.digests import digest_file
from phenopipe.errors import InputError
from phenopipe.genome import Symbols, read_arms, read_expression, read_symbols, shipped_symbols


def gene_inputs(files: GeneFiles) -> dict[str, str]:
    """Give the digests of the tables, as inputs of the map.

    Raises
    ------
    InputError
        If one is not there.
    """
    inputs = {}
    for name in ("expression", "symbols", "withdrawn", "positions", "centromeres"):
        path = getattr(files, name)
        if path is None:
            continue
        if not path.is_file():
            raise InputError(
                f"expected a table of {name} at {path}, found no file: mend map.genes.{name}"
            )
        inputs[f"source:{name}"] = digest_file(path)
    return inputs


def open_symbols(files: GeneFiles) -> Symbols:
    """Say what genes' names mean and where the genes lie.

    Positions stand in the place of HGNC's loci: a name that they hold is a gene's, whatever HGNC
    calls it, and one that they do not hold has no arm.

    Raises
    ------
    InputError
        If a table cannot be used.
    """
    if files.symbols is None:
        symbols = shipped_symbols()
    else:
        symbols = read_symbols(files.symbols, withdrawn=files.withdrawn)
    if files.positions is None or files.centromeres is None:
        return symbols
    arms = read_arms(files.positions, files.centromeres)
    return replace(symbols, arms={str(gene): arm for gene, arm in arms.items()})


def open_levels(files: GeneFiles) -> Mapping[str, float] | None:
    """Read the zFPKM of each gene; None where no table was given."""
    if files.expression is None:
        return None
    return read_expression(files.expression, unit=files.expression_unit)
