"""How the datasets of a map lie on disk."""

from pathlib import Path

import xarray as xr


def write_zarr(dataset: xr.Dataset, path: Path) -> None:
    """Write a dataset as Zarr 3; equal datasets give equal bytes."""
    dataset.to_zarr(path, mode="w", zarr_format=3, consolidated=False)
