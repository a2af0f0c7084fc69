"""Score maps: relations, clusters, replicates, compounds, proximity bias, and a user's metrics."""

from phenopipe.benchmark.against import compare_maps, read_comparison
from phenopipe.benchmark.clusters import compare_clusters
from phenopipe.benchmark.compound_gene import score_compounds
from phenopipe.benchmark.consistency import replicate_consistency
from phenopipe.benchmark.leaderboard import rank_maps
from phenopipe.benchmark.leaderboard_picture import draw_leaderboard
from phenopipe.benchmark.magnitude import replicate_magnitude
from phenopipe.benchmark.metric import MapData, Metric, Score
from phenopipe.benchmark.proximity import score_proximity
from phenopipe.benchmark.recall import Recall, relationship_recall
from phenopipe.benchmark.replicate_map import replicate_precision
from phenopipe.benchmark.run import benchmark_map

__all__ = [
    "MapData",
    "Metric",
    "Recall",
    "Score",
    "benchmark_map",
    "compare_clusters",
    "compare_maps",
    "draw_leaderboard",
    "rank_maps",
    "read_comparison",
    "relationship_recall",
    "replicate_consistency",
    "replicate_magnitude",
    "replicate_precision",
    "score_compounds",
    "score_proximity",
]
