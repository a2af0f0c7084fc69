"""Ingest: a microscope's folder to an OME-Zarr plate, with QC, ledger and platemap."""

from phenopipe.ingest.detect import find_plates, read_layout
from phenopipe.ingest.images import ImageFault, read_image
from phenopipe.ingest.index import PlateIndex
from phenopipe.ingest.plate import ingest_plate
from phenopipe.ingest.platemap import find_platemap

__all__ = [
    "ImageFault",
    "PlateIndex",
    "find_platemap",
    "find_plates",
    "ingest_plate",
    "read_image",
    "read_layout",
]
