"""The lake: where things lie, what is published, and how it gets there.

A *thing* is one file or folder under the root with a manifest beside it, ``<thing>.json``. Data
are written first and the manifest last, in one put: a thing without a manifest does not exist.
No other module joins paths of the lake.
"""

from phenopipe.lake.lake import Lake
from phenopipe.lake.manifest import (
    SKIPPED,
    Manifest,
    MapRef,
    PlateRef,
    Recipe,
    changed_inputs,
    describe_counts,
)
from phenopipe.lake.things import (
    PATTERNS,
    Thing,
    drift,
    embeddings,
    engine_folder,
    heatmaps,
    landing,
    ledger,
    map_part,
    model_folder,
    piece_of,
    pieces_folder,
    plate_effects,
    plate_image,
    platemap,
    qc_table,
)

__all__ = [
    "PATTERNS",
    "SKIPPED",
    "Lake",
    "Manifest",
    "MapRef",
    "PlateRef",
    "Recipe",
    "Thing",
    "changed_inputs",
    "describe_counts",
    "drift",
    "embeddings",
    "engine_folder",
    "heatmaps",
    "landing",
    "ledger",
    "map_part",
    "model_folder",
    "piece_of",
    "pieces_folder",
    "plate_effects",
    "plate_image",
    "platemap",
    "qc_table",
]
