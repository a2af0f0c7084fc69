"""The vendors whose files a screen can be written as: one module each, one Protocol."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from phenopipe.plates import FieldKey, PlateKey
from phenopipe.simulate.design import ScreenDesign
from phenopipe.simulate.harmony import Harmony
from phenopipe.simulate.imagexpress import ImageXpress
from phenopipe.simulate.rxrx import RxRx
from phenopipe.simulate.tables import Row


class Vendor(Protocol):
    """How one vendor names and writes a screen's files; all paths lie in the screen's folder."""

    def name_image(self, key: PlateKey, field: FieldKey, wave: int) -> str:
        """Name one image's file, relative to the screen's folder; waves count from 1."""
        ...

    def write_image(self, path: Path, pixels: NDArray[np.uint16], *, pixel_size_um: float) -> None:
        """Write one image, ``(y, x)``."""
        ...

    def write_plan(self, root: Path, key: PlateKey, *, wells: int, design: ScreenDesign) -> None:
        """Make the plate's folder, and write what the vendor says of it there."""
        ...

    def write_platemap(self, root: Path, rows: Sequence[Row]) -> None:
        """Write what was done to each well, given in the canonical columns."""
        ...


VENDORS: dict[str, Vendor] = {
    "imagexpress": ImageXpress(),
    "harmony": Harmony(),
    "rxrx": RxRx(),
}
