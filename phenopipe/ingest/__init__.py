"""Ingest: a microscope's folder to an OME-Zarr plate, with QC, ledger and platemap.

A name is imported when it is first asked for. A worker asks for the module of fields alone, and
does without tables, statistics and pictures: 140 MB less in each.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phenopipe.ingest.detect import find_plates, read_layout
    from phenopipe.ingest.drift import BatchRef, judge_batch
    from phenopipe.ingest.images import ImageFault, read_image
    from phenopipe.ingest.index import PlateIndex
    from phenopipe.ingest.plate import ingest_plate
    from phenopipe.ingest.platemap import find_platemap
    from phenopipe.ingest.qc_summary import (
        PlateSummary,
        read_verdict,
        summarise_plate,
        summarise_qc,
    )

_MODULES = {
    "BatchRef": "drift",
    "ImageFault": "images",
    "PlateIndex": "index",
    "PlateSummary": "qc_summary",
    "find_platemap": "platemap",
    "find_plates": "detect",
    "ingest_plate": "plate",
    "judge_batch": "drift",
    "read_image": "images",
    "read_layout": "detect",
    "read_verdict": "qc_summary",
    "summarise_plate": "qc_summary",
    "summarise_qc": "qc_summary",
}

__all__ = [
    "BatchRef",
    "ImageFault",
    "PlateIndex",
    "PlateSummary",
    "find_platemap",
    "find_plates",
    "ingest_plate",
    "judge_batch",
    "read_image",
    "read_layout",
    "read_verdict",
    "summarise_plate",
    "summarise_qc",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
