"""Ingest: a microscope's folder to an OME-Zarr plate, with QC, ledger and platemap."""

from phenopipe.ingest.detect import find_plates, read_layout
from phenopipe.ingest.drift import BatchRef, judge_batch
from phenopipe.ingest.images import ImageFault, read_image
from phenopipe.ingest.index import PlateIndex
from phenopipe.ingest.plate import ingest_plate
from phenopipe.ingest.platemap import find_platemap
from phenopipe.ingest.qc_summary import summarise_qc

__all__ = [
    "BatchRef",
    "ImageFault",
    "PlateIndex",
    "find_platemap",
    "find_plates",
    "ingest_plate",
    "judge_batch",
    "read_image",
    "read_layout",
    "summarise_qc",
]
