"""The screen that all map benchmarks read: a file of vectors and a table of wells.

Each contender imports this in its own environment, so nothing but numpy and pandas is needed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

CONTROL = "NTC"
MAX_CONTROLS = 1000
SOURCES = ("CORUM", "HuMAP", "Reactome", "SIGNOR", "StringDB")


@dataclass(frozen=True)
class Screen:
    """A screen that was drawn; see :func:`benchmarks.maps_draw.draw_screen`.

    Attributes
    ----------
    folder
        Holds ``vectors.npy``, ``wells.parquet``, ``genes.parquet`` and ``annotations/``.
    """

    folder: Path

    @cached_property
    def wells(self) -> pd.DataFrame:
        """One row a well: experiment, plate, well and label, a gene or ``NTC``.

        Sorted by experiment, plate and well. An experiment is a batch.
        """
        return pd.read_parquet(self.folder / "wells.parquet")

    @cached_property
    def genes(self) -> pd.DataFrame:
        """One row a gene, by symbol: gene, arm and whether it is unexpressed."""
        return pd.read_parquet(self.folder / "genes.parquet")

    @property
    def annotations(self) -> Path:
        """The folder of known relationships, a file a source."""
        return self.folder / "annotations"

    @property
    def unexpressed(self) -> list[str]:
        """The genes without a phenotype: the null of consistency and magnitude."""
        return self.genes.gene[self.genes.unexpressed].tolist()

    @property
    def controls(self) -> np.ndarray:
        """The numbers of the control wells that replicates are measured against.

        1,000, drawn once for all contenders: EFAAR_benchmarking takes no more by default, nor
        does phenopipe.
        """
        rows = np.flatnonzero((self.wells["label"] == CONTROL).to_numpy())
        return np.sort(np.random.default_rng(0).permutation(rows)[:MAX_CONTROLS])

    @property
    def perturbed(self) -> np.ndarray:
        """The numbers of all other wells."""
        return np.flatnonzero((self.wells["label"] != CONTROL).to_numpy())

    def read_vectors(self, dtype: type) -> np.ndarray:
        """Read all vectors (n, d) into memory; they are stored in float32."""
        return np.load(self.folder / "vectors.npy").astype(dtype, copy=False)

    def read_batches(self, dtype: type) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
        """Read batch by batch: its wells and their vectors."""
        for _, wells in self.wells.groupby("experiment", sort=False):
            # Mapped anew each time, so that what was read before need not stay in memory.
            stored = np.load(self.folder / "vectors.npy", mmap_mode="r")
            yield wells, np.array(stored[wells.index[0] : wells.index[-1] + 1], dtype=dtype)
