"""What MetaMorph and MetaXpress write about a plane into its TIFF."""

from pathlib import Path
from typing import Any

from phenopipe.ingest.images import ImageFault, read_image_bytes
from phenopipe.ingest.tiff import open_tiff

# A resolution tag that makes pixels larger than this is a printer's default, not a microscope's.
_LARGEST_PIXEL_UM = 20.0


def read_metaseries(path: str | Path) -> tuple[dict[str, Any], float | None]:
    """Read the plane's properties as MetaMorph and MetaXpress write them, and the pixel's side.

    Returns
    -------
    tuple
        The properties by name, empty where there are none; and the side of a pixel in
        micrometres by the TIFF's resolution tags, None where they say nothing likely.

    Raises
    ------
    ImageFault
        As `read_image`; pixels are not decoded.
    """
    with open_tiff(read_image_bytes(path), path) as tiff:
        page = tiff.pages.first
        # Entities of XML may refer to one another until they fill the memory.
        if "<!ENTITY" in page.description:
            raise ImageFault("corrupt", path, "its description declares entities")
        plane = (tiff.metaseries_metadata or {}).get("PlaneInfo")
        unit, per_unit = int(page.resolutionunit), float(page.get_resolution()[0])
    micrometres = {2: 25_400.0, 3: 10_000.0}.get(unit, 0.0)
    size = micrometres / per_unit if per_unit > 0 else 0.0
    likely = 0 < size <= _LARGEST_PIXEL_UM
    return plane if isinstance(plane, dict) else {}, size if likely else None
