"""What all contenders embed: one plate as TIFFs and as a lake's images, and one model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.plates import KEY, SIZE, find_fields, read_field
from benchmarks.vits import CROP, Vit, publish_vit
from phenopipe.compute import client
from phenopipe.config import IngestConfig
from phenopipe.ingest import ingest_plate
from phenopipe.lake import Lake
from phenopipe.models.card import Precision
from phenopipe.plates import PlateKey

CROPS_A_FIELD = (SIZE // CROP) ** 2
WARM_UP = PlateKey("WarmUp", KEY.plate)

# Embed all crops; then give what reads the vectors (n, d), which is not timed.
Read = Callable[[], np.ndarray]
Embed = Callable[[], Read]


@dataclass(frozen=True)
class Inputs:
    """Where the files of a benchmark lie, and the model that is measured on them.

    Attributes
    ----------
    plate
        A folder of TIFFs.
    lake
        Holds the same plate, one to warm up with, and the model.
    """

    plate: Path
    lake: Path
    vit: Vit
    precision: Precision

    @property
    def model(self) -> str:
        """The model's name in the lake."""
        return self.vit.model_name(self.precision)

    @property
    def n_crops(self) -> int:
        """Crops of the plate."""
        return len(find_fields(self.plate)) * CROPS_A_FIELD


@dataclass(frozen=True)
class Settings:
    """What a contender runs with.

    Attributes
    ----------
    crops
        How many of the plate's crops, from its first; phenopipe takes all.
    batch, processes
        Found by trial; phenopipe has its own.
    """

    threads: int
    crops: int
    batch: int = 1
    processes: int = 1
    provider: str = "cpu"

    @property
    def device(self) -> str:
        """Where the model runs: ``cpu`` or ``cuda``."""
        return "cuda" if self.provider in {"cuda", "tensorrt"} else "cpu"


def prepare_inputs(
    plate: Path, warm_up: Path, lake: Path, vit: Vit, *, precision: Precision, provider: str
) -> Inputs:
    """Ingest both plates and export the model, where that is not done yet."""
    opened, config = Lake(lake), IngestConfig(layout="imagexpress")
    with client("local") as dask:
        ingest_plate(plate, opened, client=dask, config=config)
        ingest_plate(warm_up, opened, client=dask, config=config, experiment=WARM_UP.experiment)
    publish_vit(vit, opened, precision=precision, provider=provider)
    return Inputs(plate, lake, vit, precision)


def read_crops(plate: Path, n: int) -> np.ndarray:
    """Read the plate's first crops ``(n, c, y, x)``, field by field, from its TIFFs."""
    fields = find_fields(plate)[: -(-n // CROPS_A_FIELD)]
    return np.concatenate([cut_field(read_field(plate, field)) for field in fields])[:n]


def cut_field(pixels: np.ndarray) -> np.ndarray:
    """Cut a field ``(c, y, x)`` into crops ``(n, c, y, x)``, row by row, as a user does."""
    side = SIZE // CROP
    tiles = pixels.reshape(len(pixels), side, CROP, side, CROP).transpose(1, 3, 0, 2, 4)
    return np.ascontiguousarray(tiles).reshape(-1, len(pixels), CROP, CROP)


def open_fresh_lake(prepared: Path, folder: Path) -> Lake:
    """Give a lake of the same images and models, in which nothing is embedded."""
    folder.mkdir()
    for kind in ("images", "qc", "platemaps", "models"):
        (folder / kind).symlink_to((prepared / kind).absolute())
    return Lake(folder)
