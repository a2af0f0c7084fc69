"""Statistics that maps, benchmarks and QC share: rows, cosines, rank tests, moments, resampling."""

from phenopipe.stats.arrays import array_like, find_rows, float_rows, to_numpy
from phenopipe.stats.energy import energy_distance, mean_distance
from phenopipe.stats.moments import Moments
from phenopipe.stats.pairs import compare_groups, compare_rows, cosine_pairs, pair_index
from phenopipe.stats.ranks import RankCounts, RankTest, brunner_munzel, placements
from phenopipe.stats.resample import bootstrap_counts, bootstrap_means, percentile_interval
from phenopipe.stats.rows import (
    Floats,
    Indices,
    finite_rows,
    group_codes,
    labelled_rows,
    unit_rows,
)
from phenopipe.stats.threads import run_threads

__all__ = [
    "Floats",
    "Indices",
    "Moments",
    "RankCounts",
    "RankTest",
    "array_like",
    "bootstrap_counts",
    "bootstrap_means",
    "brunner_munzel",
    "compare_groups",
    "compare_rows",
    "cosine_pairs",
    "energy_distance",
    "find_rows",
    "finite_rows",
    "float_rows",
    "group_codes",
    "labelled_rows",
    "mean_distance",
    "pair_index",
    "percentile_interval",
    "placements",
    "run_threads",
    "to_numpy",
    "unit_rows",
]
