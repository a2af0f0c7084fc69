"""Score maps: relationship recall, proximity bias, and metrics of a user's own."""

from phenopipe.benchmark.metric import MapData, Metric, Score
from phenopipe.benchmark.proximity import score_proximity
from phenopipe.benchmark.recall import Recall, relationship_recall
from phenopipe.benchmark.run import benchmark_map

__all__ = [
    "MapData",
    "Metric",
    "Recall",
    "Score",
    "benchmark_map",
    "relationship_recall",
    "score_proximity",
]
