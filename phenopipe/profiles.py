"""A published map as the other wings read it: its perturbations, and its aligned wells.

What metrics and hits need of single wells they read out of ``maps/<map>/wells.parquet``: what wells
are all at once, their vectors plate by plate, never all in memory unless they are asked for.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from phenopipe.errors import InputError
from phenopipe.lake import Lake, map_part
from phenopipe.schema import GENE_TYPES, check_map, check_table, wells_schema


def open_map(lake: Lake, name: str) -> xr.Dataset:
    """Read a published map.

    Returns
    -------
    Dataset
        By perturbation: ``embedding`` (after correction) and ``embedding_uncorrected``, each with
        the dim feature; ``kind`` (``gene``, ``compound``, or else the type of perturbation),
        ``gene``, ``arm``, ``unexpressed``, ``compound``, ``concentration_um``, ``n_wells``,
        ``n_guides`` and ``agreement`` (the mean cosine of its guides, NaN below two).

    Raises
    ------
    InputError
        If the map is not published, or was by a version that knew less.
    """
    thing = map_part(name, "map.zarr")
    lake.require(thing, remedy=f"run `phenopipe map --root {lake.root} --name {name}`")
    with (
        lake.fetched(thing) as path,
        xr.open_zarr(path, consolidated=False, chunks=None) as dataset,
    ):
        return check_map(dataset, where=thing.path).load()


class WellProfiles:
    """An opened ``wells.parquet``; made by :func:`open_wells`, good as long as its block lasts.

    Parameters
    ----------
    file
        A table of schema.wells_schema, a row group a plate.

    Attributes
    ----------
    width
        The vectors' number of values k.
    """

    def __init__(self, file: pq.ParquetFile) -> None:
        self._file = file
        self.width = int(file.schema_arrow.field("embedding").type.list_size)
        groups = range(file.num_row_groups)
        sizes = [file.metadata.row_group(group).num_rows for group in groups]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def rows(self) -> pd.DataFrame:
        """What each well is: every column but the vectors, in the file's order.

        Text is categorical, with sorted categories, and never missing: empty where nothing is
        known. ``concentration_um`` is NaN there.
        """
        names = [name for name in self._file.schema_arrow.names if name != "embedding"]
        frame: pd.DataFrame = self._file.read(columns=names).unify_dictionaries().to_pandas()
        for name in frame.select_dtypes("category"):
            found = frame[name].cat
            frame[name] = found.reorder_categories(sorted(found.categories))
        return frame

    def plates(self) -> Iterator[tuple[pd.DataFrame, NDArray[np.float32]]]:
        """Read plate by plate: the slice of `rows`, and the vectors, shape (wells, k).

        The slice keeps the numbers that its rows have in `rows`.
        """
        for group, (start, stop) in enumerate(pairwise(self._starts.tolist())):
            yield self.rows.iloc[start:stop], self._read(group)

    def take(self, index: ArrayLike) -> NDArray[np.float32]:
        """Read the vectors of some wells, from the plates that they are on only.

        Parameters
        ----------
        index
            Numbers of rows in `rows`, shape (m,), in any order and as often as wanted.

        Returns
        -------
        ndarray of float32, shape (m, k)

        Raises
        ------
        InputError
            If a number is not that of a row.
        """
        wanted = np.asarray(index, dtype=np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise InputError(
                f"expected numbers of rows from 0 to {len(self) - 1}, found {wanted.min()} to "
                f"{wanted.max()}: take them from rows.index"
            )
        order = np.argsort(wanted, kind="stable")
        cuts = np.searchsorted(wanted[order], self._starts)
        taken = np.empty((len(wanted), self.width), dtype=np.float32)
        for group, (start, stop) in enumerate(pairwise(cuts.tolist())):
            if start < stop:
                places = order[start:stop]
                taken[places] = self._read(group)[wanted[places] - self._starts[group]]
        return taken

    def _read(self, group: int) -> NDArray[np.float32]:
        column = self._file.read_row_group(group, columns=["embedding"])["embedding"]
        values: NDArray[np.float32] = column.combine_chunks().flatten().to_numpy()
        return values.reshape(-1, self.width)


@contextmanager
def open_wells(lake: Lake, name: str) -> Iterator[WellProfiles]:
    """Open the aligned wells of a published map.

    They are sorted by experiment, plate and well. Negative controls are among them
    (``control_type`` is ``negative``, ``label`` is empty); what the map leaves out is not. They
    are not corrected by chromosome arm: of a perturbation's wells that is one shift, its
    ``embedding_uncorrected`` less its ``embedding`` in the map.

    Raises
    ------
    InputError
        If the map is not published, or was by a version that kept no wells.
    """
    thing = map_part(name, "wells.parquet")
    lake.require(thing, remedy=f"run `phenopipe map --root {lake.root} --name {name}`")
    with lake.fetched(thing) as path, read_wells(path, where=thing.path) as wells:
        yield wells


@contextmanager
def read_wells(path: Path, *, where: str) -> Iterator[WellProfiles]:
    """Open a file of aligned wells.

    Parameters
    ----------
    where
        What the file is, for messages.

    Raises
    ------
    InputError
        If it lacks a column.
    """
    texts = [name for name, kind in _types_of_rows().items() if pa.types.is_string(kind)]
    with pq.ParquetFile(path) as file:
        found = file.schema_arrow
        width = found.field("embedding").type.list_size if "embedding" in found.names else 0
        check_table(found.empty_table(), wells_schema(width), where=where)
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        yield WellProfiles(file)


def perturbed_gene(rows: pd.DataFrame) -> pd.Series:
    """Give the gene that was perturbed in each well: a compound's target was not.

    Examples
    --------
    >>> rows = pd.DataFrame({"perturbation_type": ["crispr", "compound"], "gene": ["A", "B"]})
    >>> perturbed_gene(rows).tolist()
    ['A', '']
    """
    genes: pd.Series = rows["gene"].astype(object)
    return genes.where(rows["perturbation_type"].isin(GENE_TYPES), "")


def blank_vehicles(compounds: pd.Series, vehicles: Collection[str]) -> pd.Series:
    """Leave out what compounds are dissolved in, in any case: a well with nothing else has none.

    Examples
    --------
    >>> blank_vehicles(pd.Series(["dmso", "aspirin"]), ["DMSO"]).tolist()
    ['', 'aspirin']
    """
    folded = {vehicle.casefold() for vehicle in vehicles}
    return compounds.where(~compounds.str.casefold().isin(folded), "")


def _types_of_rows() -> dict[str, pa.DataType]:
    return {field.name: field.type for field in wells_schema(1) if field.name != "embedding"}
