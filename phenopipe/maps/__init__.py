"""Maps: embeddings aligned on controls, corrected, averaged and related to one another."""

from phenopipe.maps.align import TVN, CenterScale, PCACenterScale
from phenopipe.maps.build import build_map, open_map, query_map
from phenopipe.maps.proximity import correct_arms, proximity_bias

__all__ = [
    "TVN",
    "CenterScale",
    "PCACenterScale",
    "build_map",
    "correct_arms",
    "open_map",
    "proximity_bias",
    "query_map",
]
