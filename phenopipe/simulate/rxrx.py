"""Write a plate as the RxRx data sets are published: one PNG an image, and ``metadata.csv``."""

from collections.abc import Sequence
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from phenopipe.plates import FieldKey, PlateKey
from phenopipe.simulate.design import ScreenDesign
from phenopipe.simulate.plan import plate_number
from phenopipe.simulate.tables import Row, write_csv

# Untreated wells, and wells with a guide that cuts no gene, as RxRx3 names them.
_CONTROLS = {"EMPTY": "EMPTY_control", "NTC": "CRISPR_control"}
# The line whose expression tells the library's silent genes.
_CELL_TYPE = "U2OS"
# Camera noise does not compress: a higher level takes longer and saves nothing.
_PNG_LEVEL = 1


class RxRx:
    """A plate in ``<experiment>/Plate<n>``, with nothing beside its images."""

    def name_image(self, key: PlateKey, field: FieldKey, wave: int) -> str:
        """Name one image's file under the screen's folder; waves count from 1.

        Examples
        --------
        >>> from phenopipe.plates import Well
        >>> RxRx().name_image(PlateKey("Batch1", "Plate1"), FieldKey(Well(1, 2), 1), 6)
        'Batch1/Plate1/B03_s1_w6.png'
        """
        return f"{key}/{field.well}_s{field.field}_w{wave}.png"

    def write_image(self, path: Path, pixels: NDArray[np.uint16], *, pixel_size_um: float) -> None:  # noqa: ARG002 - RxRx tells no pixel size
        """Write one image as a grey PNG of 16 bits; it says no pixel size, as RxRx's."""
        path.write_bytes(imagecodecs.png_encode(pixels, level=_PNG_LEVEL))

    def write_plan(self, root: Path, key: PlateKey, *, wells: int, design: ScreenDesign) -> None:  # noqa: ARG002 - RxRx plans nothing
        """Make the plate's folder: RxRx's says nothing of what was to be taken."""
        (root / str(key)).mkdir(parents=True)

    def write_platemap(self, root: Path, rows: Sequence[Row]) -> None:
        """Write ``metadata.csv`` in the columns of RxRx3, and the gene's expression."""
        write_csv(root / "metadata.csv", [_describe_well(row) for row in rows])


def _describe_well(row: Row) -> dict[str, object]:
    experiment, well = str(row["experiment"]), row["well"]
    plate = plate_number(PlateKey(experiment, str(row["plate"])))
    control = _CONTROLS.get(str(row["perturbation"]))
    guide = str(row["guide"]).rpartition("_g")[2]
    return {
        "well_id": f"{experiment}_{plate}_{well}",
        "experiment_name": experiment,
        "plate": plate,
        "address": well,
        "gene": control or row["gene"],
        "treatment": control or f"{row['gene']}_guide_{guide}",
        "SMILES": "",
        "concentration": "",
        "perturbation_type": "CRISPR",
        "cell_type": _CELL_TYPE,
        "zfpkm": row["zfpkm"],
    }
