"""What each perturbation, plate and well does to cells: vectors of named traits."""

import numpy as np
from numpy.typing import NDArray

from phenopipe.plates import PLATE_SHAPES, PlateKey, Well
from phenopipe.simulate.design import Nuisances, ScreenDesign
from phenopipe.simulate.library import POSITIVE_CONTROL, Gene, Perturbation, seeded

# One unit of each changes what it names by about a tenth.
TRAITS = (
    "cell_count",
    "cell_size",
    "cell_elongation",
    "nucleus_size",
    "nucleus_elongation",
    "nucleolus_size",
    "dna_intensity",
    "er_intensity",
    "rna_intensity",
    "actin_intensity",
    "mito_intensity",
    "cytoplasm_intensity",
    "er_texture",
    "actin_fibres",
    "mito_texture",
    "mito_spread",
    "golgi_intensity",
)

Traits = NDArray[np.float64]


def no_traits() -> Traits:
    """Give the traits of an untreated cell: zeros, one a trait."""
    return np.zeros(len(TRAITS))


def with_traits(**changes: float) -> Traits:
    """Name the traits that differ from an untreated cell's.

    Examples
    --------
    >>> float(with_traits(nucleus_size=2.0).sum())
    2.0
    """
    traits = no_traits()
    for name, value in changes.items():
        traits[TRAITS.index(name)] = value
    return traits


def draw_phenotype(
    perturbation: Perturbation,
    gene: Gene | None,
    *,
    seed: int,
    design: ScreenDesign,
    nuisances: Nuisances,
) -> Traits:
    """Draw what a perturbation does: the same in every well of the screen.

    The genes of a pathway share a vector, from which each gene and guide deviates. A silent gene
    has none. Every gene also has the vector of its chromosome arm (proximity bias: a cut loses
    the arm's end, whatever the gene). Controls without a gene stay as they are.
    """
    traits = no_traits()
    if perturbation.gene == POSITIVE_CONTROL:
        traits += with_traits(cell_count=-5, nucleus_size=4, dna_intensity=3, cell_size=-2)
    if gene is not None and gene.pathway:
        traits += design.pathway_effect * _direction(seed, "pathway", gene.pathway)
        traits += design.gene_effect * _direction(seed, "gene", gene.symbol)
    if gene is not None:
        traits += nuisances.proximity_bias * _direction(seed, "arm", gene.arm)
    if perturbation.gene:
        traits += design.guide_effect * _direction(seed, "guide", perturbation.guide)
    return traits


def draw_surroundings(
    key: PlateKey, well: Well, *, wells: int, seed: int, nuisances: Nuisances
) -> Traits:
    """Draw what batch, plate, edge and chance do to the cells of one well."""
    traits = nuisances.batch * _normal(seed, "batch", key.experiment)
    traits += nuisances.plate * _normal(seed, "plate", key)
    traits += nuisances.well * _normal(seed, "well", key, well)
    if _is_edge(well, wells):
        traits += nuisances.edge * with_traits(cell_count=-1.5, cell_size=1, er_intensity=1)
    return traits


def _is_edge(well: Well, wells: int) -> bool:
    rows, columns = PLATE_SHAPES[wells]
    return well.row in (0, rows - 1) or well.column in (0, columns - 1)


def _normal(seed: int, *names: object) -> Traits:
    return seeded(seed, *(str(name) for name in names)).normal(size=len(TRAITS))


def _direction(seed: int, *names: str) -> Traits:
    vector = _normal(seed, *names)
    unit: Traits = vector / np.linalg.norm(vector)
    return unit
