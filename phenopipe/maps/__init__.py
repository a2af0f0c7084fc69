"""Maps: embeddings aligned on controls, corrected, averaged and related to one another."""

from phenopipe.maps.align import TVN, CenterScale, PCACenterScale, Sphering, load_alignment
from phenopipe.maps.build import build_map
from phenopipe.maps.diff import diff_maps
from phenopipe.maps.proximity import correct_arms, proximity_bias
from phenopipe.maps.proximity_genes import (
    proximity_along_arm,
    proximity_by_gene,
    sample_proximity,
)
from phenopipe.maps.query import query_map
from phenopipe.profiles import open_map

__all__ = [
    "TVN",
    "CenterScale",
    "PCACenterScale",
    "Sphering",
    "build_map",
    "correct_arms",
    "diff_maps",
    "load_alignment",
    "open_map",
    "proximity_along_arm",
    "proximity_bias",
    "proximity_by_gene",
    "query_map",
    "sample_proximity",
]
