"""A small published plate, written by hand: what ingest gives the embed stage."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from distributed import Client

from phenopipe import compute
from phenopipe.lake import Lake, Recipe, plate_image, platemap, qc_table
from phenopipe.plates import PlateKey, Well
from phenopipe.schema import PLATEMAP_COLUMNS, QC

KEY = PlateKey("HUVEC-1", "Plate3")


@dataclass
class PlateWriter:
    """Writes and publishes one plate in a lake."""

    lake: Lake
    wells: tuple[str, ...] = ("A01", "A02", "B11")
    paths: tuple[str, ...] = ("1", "2")
    channels: tuple[str, ...] = ("DNA", "ER", "AGP")
    failed: tuple[tuple[str, int], ...] = ()
    side: int = 64
    seed: int = 0
    dtype: str = "uint16"
    leading: tuple[int, ...] = ()
    pixels: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)

    def publish(self) -> None:
        self._publish(plate_image(KEY), self._write_image)
        self._publish(qc_table(KEY), self._write_qc)
        self.publish_platemap([])

    def publish_platemap(self, rows: list[dict]) -> None:
        kinds = pa.schema({**PLATEMAP_COLUMNS, "zfpkm": pa.float64(), "comment": pa.string()})
        table = pa.Table.from_pylist(rows, schema=kinds)
        self._publish(platemap(KEY), lambda path: pq.write_table(table, path), rows=str(rows))

    def _publish(self, thing, write, **parameters) -> None:
        settings = {"seed": self.seed, "failed": str(self.failed), **parameters}
        with self.lake.writing(thing):
            with self.lake.draft(thing) as path:
                write(path)
            recipe = Recipe("ingest", 1, {}, settings)
            self.lake.publish(thing, recipe, counts={}, started=datetime.now(UTC))

    def _write_image(self, path) -> None:
        rng = np.random.default_rng(self.seed)
        wells = [Well.parse(name) for name in self.wells]
        entries = [
            {
                "path": f"{well.row_name}/{well.column_name}",
                "rowIndex": well.row,
                "columnIndex": well.column,
            }
            for well in wells
        ]
        attributes = {
            "ome": {"version": "0.5", "plate": {"wells": entries}},
            "phenopipe": {"channels": list(self.channels)},
        }
        plate = zarr.create_group(path, attributes=attributes)
        for well, entry in zip(wells, entries, strict=True):
            images = {"ome": {"well": {"images": [{"path": name} for name in self.paths]}}}
            group = plate.create_group(entry["path"], attributes=images)
            for name in self.paths:
                shape = (*self.leading, len(self.channels), self.side, self.side)
                image = rng.integers(0, 250, shape).astype(self.dtype)
                group.create_group(name).create_array("0", data=image)
                self.pixels[str(well), int(name.removesuffix("z"))] = image

    def _write_qc(self, path) -> None:
        rows = [
            {
                "experiment": KEY.experiment,
                "plate": KEY.plate,
                "well": well,
                "field": int(name.removesuffix("z")),
                "channel": channel,
                "verdict": "fail" if (well, int(name.removesuffix("z"))) in self.failed else "pass",
            }
            for well in self.wells
            for name in self.paths
            for channel in self.channels
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=QC), path)


@pytest.fixture
def plate(tmp_path) -> PlateWriter:
    return PlateWriter(Lake(tmp_path / "lake"))


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    with compute.client("threads", workers=1) as started:
        yield started
