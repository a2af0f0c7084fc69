"""A map as it lies in the lake: write it, and read it back."""

from pathlib import Path

import xarray as xr

from phenopipe.lake import Lake, map_part
from phenopipe.schema import check_map


def write_zarr(dataset: xr.Dataset, path: Path) -> None:
    """Write a dataset as Zarr 3; equal datasets give equal bytes."""
    dataset.to_zarr(path, mode="w", zarr_format=3, consolidated=False)


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
