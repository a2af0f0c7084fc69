"""Vendors' folder layouts: one module a vendor, one Protocol, entry points for a user's own."""

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol

from phenopipe.errors import InputError
from phenopipe.ingest.index import PlateIndex
from phenopipe.ingest.layouts.arrayscan import ArrayScan
from phenopipe.ingest.layouts.cellvoyager import CellVoyager
from phenopipe.ingest.layouts.cpg import Cpg
from phenopipe.ingest.layouts.harmony import Harmony
from phenopipe.ingest.layouts.imagexpress import ImageXpress
from phenopipe.ingest.layouts.ome_tiff import OmeTiff
from phenopipe.ingest.layouts.ome_zarr import OmeZarr
from phenopipe.ingest.layouts.rxrx import RxRx

# A package adds its own layout under this group: `name = "package.module:instance"`.
ENTRY_POINTS = "phenopipe.layouts"


class Layout(Protocol):
    """How one vendor lays out a plate's folder."""

    @property
    def name(self) -> str:
        """The name that a user gives as ``--layout``."""
        ...

    def recognise(self, folder: Path) -> str | None:
        """Say why the folder is a plate of this layout; None where it is not."""
        ...

    def read(self, folder: Path) -> PlateIndex:
        """Index every file of a plate's folder.

        Raises
        ------
        InputError
            If the folder holds no plate of this layout, more than one, or the same image twice.
        """
        ...


def find_layouts() -> dict[str, Layout]:
    """Give every layout by name: the built-in ones, then those of installed packages.

    Raises
    ------
    InputError
        If a package's layout cannot be imported, or takes a name that is taken.

    Examples
    --------
    >>> "imagexpress" in find_layouts()
    True
    """
    built_in: tuple[Layout, ...] = (
        ArrayScan(),
        ImageXpress(),
        RxRx(),
        Harmony(),
        CellVoyager(),
        Cpg(),
        OmeTiff(),
        OmeZarr(),
    )
    found = {layout.name: layout for layout in built_in}
    for point in entry_points(group=ENTRY_POINTS):
        if point.name in found:
            raise InputError(
                f"expected one layout named {point.name}, found a second at {point.value} "
                f"(entry point group {ENTRY_POINTS}): rename it in the package that adds it"
            )
        found[point.name] = _load(point)
    return found


def _load(point: EntryPoint) -> Layout:
    try:
        layout: Layout = point.load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"expected a layout at {point.value} (entry point {point.name} of {ENTRY_POINTS}), "
            f"found {error}: repair or remove the package that adds it"
        ) from error
    return layout
