"""Maps as metrics see them, with their wells in a real file."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from phenopipe.benchmark import MapData
from phenopipe.profiles import WellProfiles, read_wells
from tests.benchmark.screens import lay_out, write_wells


@pytest.fixture
def open_table(tmp_path: Path) -> Iterator[Callable[..., WellProfiles]]:
    """Write wells and open them, until the test ends."""
    with ExitStack() as stack:

        def run(labels: list[str], values: np.ndarray, *, plates: int = 3) -> WellProfiles:
            path = tmp_path / "wells.parquet"
            write_wells(path, lay_out(labels, plates=plates), np.asarray(values))
            return stack.enter_context(read_wells(path, where="wells.parquet"))

        yield run


@pytest.fixture
def make_data(open_table: Callable[..., WellProfiles]) -> Callable[..., MapData]:
    """Make a map of wells: its perturbations are the labels, its embeddings the wells' means."""

    def run(labels: list[str], values: np.ndarray, *, silent=(), shift=None, plates=3) -> MapData:
        names = sorted({*labels} - {""})
        stored = np.asarray(values, np.float32)
        means = np.stack([stored[np.array(labels) == name].mean(axis=0) for name in names])
        embeddings = {"none": means}
        if shift is not None:
            embeddings["arms"] = means - shift
        return MapData(
            embeddings=embeddings,
            labels=np.array(names, dtype=object),
            arms=np.full(len(names), "", dtype=object),
            unexpressed=np.isin(names, list(silent)),
            annotations=[],
            wells=open_table(labels, stored, plates=plates),
        )

    return run
