"""Write a plate as MetaXpress exports it: one TIFF a well, site and wave, and an HTD file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from phenopipe.plates import PLATE_SHAPES, FieldKey, PlateKey
from phenopipe.simulate.design import CHANNELS, ScreenDesign
from phenopipe.simulate.tables import Row, write_csv
from phenopipe.simulate.tiff import write_tiff


class ImageXpress:
    """A plate in ``<experiment>/<plate>/TimePoint_1``, planned in ``<plate>.HTD``."""

    def name_image(self, key: PlateKey, field: FieldKey, wave: int) -> str:
        """Name one image's file under the screen's folder; waves count from 1.

        Examples
        --------
        >>> from phenopipe.plates import Well
        >>> ImageXpress().name_image(PlateKey("Batch1", "Plate1"), FieldKey(Well(1, 2), 1), 6)
        'Batch1/Plate1/TimePoint_1/Plate1_B03_s1_w6.TIF'
        """
        stem = f"{key.plate}_{field.well}_s{field.field}_w{wave}"
        return f"{key}/TimePoint_1/{stem}.TIF"

    def write_image(self, path: Path, pixels: NDArray[np.uint16], *, pixel_size_um: float) -> None:
        """Write one image as an uncompressed TIFF that says its pixel size."""
        write_tiff(path, pixels, pixel_size_um=pixel_size_um)

    def write_plan(self, root: Path, key: PlateKey, *, wells: int, design: ScreenDesign) -> None:
        """Write the plate's HTD file: what was to be acquired.

        MetaXpress writes it in the computer's code page, with the line ends of Windows.
        """
        (root / str(key) / "TimePoint_1").mkdir(parents=True)
        text = "".join(f"{line}\r\n" for line in _plan_lines(key, wells=wells, design=design))
        (root / str(key) / f"{key.plate}.HTD").write_bytes(text.encode("latin-1"))

    def write_platemap(self, root: Path, rows: Sequence[Row]) -> None:
        """Write ``platemap.csv`` beside the experiments' folders."""
        write_csv(root / "platemap.csv", rows)


def _plan_lines(key: PlateKey, *, wells: int, design: ScreenDesign) -> list[str]:
    rows, columns = PLATE_SHAPES[wells]
    return [
        '"HTSInfoFile", Version 1.0',
        '"Description", "Simulated by phenopipe"',
        '"PlateType", 6',
        '"TimePoints", 1',
        '"ZSeries", FALSE',
        '"ZSteps", 1',
        '"ZProjection", FALSE',
        f'"XWells", {columns}',
        f'"YWells", {rows}',
        *(f'"WellsSelection{row + 1}", ' + ", ".join(["TRUE"] * columns) for row in range(rows)),
        *_site_lines(design.sites),
        '"Waves", TRUE',
        f'"NWavelengths", {len(CHANNELS)}',
        *(f'"WaveName{wave}", "{name}"' for wave, name in enumerate(CHANNELS, start=1)),
        *(f'"WaveCollect{wave}", 1' for wave in range(1, len(CHANNELS) + 1)),
        f'"UniquePlateIdentifier", "{key.experiment}-{key.plate}"',
        '"EndFile"',
    ]


def _site_lines(sites: int) -> list[str]:
    """Select the sites in one row: MetaXpress numbers them from 1, left to right."""
    if sites == 1:
        return ['"Sites", FALSE', '"XSites", 1', '"YSites", 1']
    selected = ", ".join(["TRUE"] * sites)
    return ['"Sites", TRUE', f'"XSites", {sites}', '"YSites", 1', f'"SiteSelection1", {selected}']
