"""Where genes lie, what they are called, and whether a cell expresses them."""

from phenopipe.genome.arms import (
    arm_of_locus,
    arms_from_positions,
    chromosome_arms,
    find_arm,
    read_arms,
)
from phenopipe.genome.expression import (
    UNEXPRESSED_BELOW,
    read_expression,
    unexpressed,
    zfpkm,
)
from phenopipe.genome.symbols import Symbols, locate_genes, read_symbols, shipped_symbols

__all__ = [
    "UNEXPRESSED_BELOW",
    "Symbols",
    "arm_of_locus",
    "arms_from_positions",
    "chromosome_arms",
    "find_arm",
    "locate_genes",
    "read_arms",
    "read_expression",
    "read_symbols",
    "shipped_symbols",
    "unexpressed",
    "zfpkm",
]
