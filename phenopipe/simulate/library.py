"""What is screened: genes, guides and controls, and where they lie on a plate."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import cycle, islice
from zlib import crc32

import numpy as np

from phenopipe.errors import InputError
from phenopipe.plates import PLATE_SHAPES, Well

GUIDES = 2
POSITIVE_CONTROL = "PLK1"

# Wells a plate -> pathways, silent genes an arm, positive controls, empty wells; the wells that
# are left hold non-targeting guides (44 of 384, 12 of 96).
_SIZES = {384: (13, 22, 8, 8), 96: (4, 4, 2, 2)}
_NEGATIVE_GUIDES = 8


@dataclass(frozen=True)
class Gene:
    """One gene of the library; ``pathway`` is empty for the silent ones."""

    symbol: str
    arm: str
    pathway: str
    unexpressed: bool


@dataclass(frozen=True)
class Perturbation:
    """What is done to one well, as the platemap's columns say it."""

    name: str
    perturbation_type: str
    gene: str = ""
    guide: str = ""
    control_type: str = ""


def list_genes(wells: int) -> list[Gene]:
    """List the library for plates of so many wells: 162 genes for 384, 40 for 96.

    A plate of 384 wells holds 13 pathways of 5 or 6 expressed genes, and 22 silent genes on each
    of 4 chromosome arms: more than the 20 that arm correction asks for. A plate of 96 wells holds
    4 pathways, and 4 silent genes an arm: too few to correct.

    Raises
    ------
    InputError
        If the plates have neither 96 nor 384 wells.

    Examples
    --------
    >>> len(list_genes(384)), len(list_genes(96))
    (162, 40)
    """
    n_pathways, n_silent, _, _ = _size(wells)
    genes = _read_genes()
    pathways = list(dict.fromkeys(gene.pathway for gene in genes if gene.pathway))[:n_pathways]
    arms = dict.fromkeys(gene.arm for gene in genes)
    expressed = [gene for gene in genes if gene.pathway in pathways]
    silent = [[gene for gene in genes if gene.unexpressed and gene.arm == arm] for arm in arms]
    return expressed + [gene for genes_of_arm in silent for gene in genes_of_arm[:n_silent]]


def list_perturbations(wells: int) -> list[Perturbation]:
    """List what the wells of one plate hold: two guides a gene, and the controls.

    Examples
    --------
    >>> everything = list_perturbations(384)
    >>> len(everything), sum(p.control_type == "negative" for p in everything)
    (384, 44)
    """
    _, _, n_positive, n_empty = _size(wells)
    targeted = [guide for gene in list_genes(wells) for guide in _guides(gene.symbol)]
    positive = islice(cycle(_guides(POSITIVE_CONTROL, control_type="positive")), n_positive)
    empty = [Perturbation("EMPTY", "empty")] * n_empty
    n_negative = wells - len(targeted) - n_positive - n_empty
    negative = [
        Perturbation(
            "NTC", "control", guide=f"NTC_{i % _NEGATIVE_GUIDES + 1}", control_type="negative"
        )
        for i in range(n_negative)
    ]
    return [*targeted, *negative, *positive, *empty]


def list_wells(wells: int) -> list[Well]:
    """List the wells of a plate, row by row.

    Examples
    --------
    >>> str(list_wells(96)[12])
    'B01'
    """
    rows, columns = PLATE_SHAPES[wells]
    return [Well(row, column) for row in range(rows) for column in range(columns)]


def place_wells(
    perturbations: Sequence[Perturbation], rng: np.random.Generator
) -> dict[Well, Perturbation]:
    """Spread the perturbations over the plate at random; wells in the plate's order."""
    wells = list_wells(len(perturbations))
    order = rng.permutation(len(wells))
    return {well: perturbations[i] for well, i in zip(wells, order, strict=True)}


def seeded(seed: int, *names: str | int) -> np.random.Generator:
    """Make the generator of one named thing: the same whatever was drawn before.

    Examples
    --------
    >>> bool(seeded(0, "gene", "TP53").normal() == seeded(0, "gene", "TP53").normal())
    True
    """
    return np.random.default_rng([seed, *(crc32(str(name).encode()) for name in names)])


def _size(wells: int) -> tuple[int, int, int, int]:
    if wells not in _SIZES:
        raise InputError(f"expected plates of 96 or 384 wells, found {wells}: choose one of these")
    return _SIZES[wells]


def _read_genes() -> list[Gene]:
    text = (files("phenopipe") / "data" / "screen_genes.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader((line for line in text.splitlines() if line[0] != "#"), delimiter="\t")
    return [Gene(r["gene"], r["arm"], r["pathway"], r["unexpressed"] == "1") for r in rows]


def _guides(gene: str, *, control_type: str = "") -> list[Perturbation]:
    return [
        Perturbation(gene, "crispr", gene, f"{gene}_g{i}", control_type)
        for i in range(1, GUIDES + 1)
    ]
