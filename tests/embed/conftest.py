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
from phenopipe.pyramid import halve
from phenopipe.schema import PLATEMAP_COLUMNS, QC

KEY = PlateKey("HUVEC-1", "Plate3")


@dataclass
class PlateWriter:
    """Writes and publishes one plate in a lake."""

    lake: Lake
    key: PlateKey = KEY
    wells: tuple[str, ...] = ("A01", "A02", "B11")
    paths: tuple[str, ...] = ("1", "2")
    channels: tuple[str, ...] = ("DNA", "ER", "AGP")
    failed: tuple[tuple[str, int], ...] = ()
    bright: tuple[tuple[str, int], ...] = ()
    side: int = 64
    seed: int = 0
    dtype: str = "uint16"
    leading: tuple[int, ...] = ()
    pixel_um: float | None = None
    pixels: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)

    def publish(self) -> None:
        counts = {"wells": len(self.wells), "fields": len(self.wells) * len(self.paths)}
        self._publish(plate_image(self.key), self._write_image, counts=counts)
        counts = {"fields_failed_qc": len(self.failed)}
        self._publish(qc_table(self.key), self._write_qc, counts=counts)
        self.publish_platemap([])

    def fields_in_pieces(self) -> int:
        """Count the fields that are embedded and in no table yet."""
        pieces = self.lake.published("pieces")
        return sum(self.lake.require(piece, remedy="").counts["fields"] for piece in pieces)

    def publish_platemap(self, rows: list[dict]) -> None:
        kinds = pa.schema({**PLATEMAP_COLUMNS, "zfpkm": pa.float64(), "comment": pa.string()})
        table = pa.Table.from_pylist(rows, schema=kinds)
        thing = platemap(self.key)
        self._publish(thing, lambda path: pq.write_table(table, path), rows=str(rows))

    def _publish(self, thing, write, *, counts=None, **parameters) -> None:
        settings = {"seed": self.seed, "failed": str(self.failed), **parameters}
        settings |= {"bright": str(self.bright)} if self.bright else {}
        with self.lake.writing(thing):
            with self.lake.draft(thing) as path:
                write(path)
            recipe = Recipe("ingest", 1, {}, settings)
            self.lake.publish(thing, recipe, counts=counts or {}, started=datetime.now(UTC))

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
                field = str(well), int(name.removesuffix("z"))
                if field in self.bright:
                    image[..., 0, 0] = np.iinfo(self.dtype).max
                levels = [image] if self.pixel_um is None else [image, halve(image)]
                told = group.create_group(name, attributes=self._tell_size(len(levels)))
                for level, data in enumerate(levels):
                    told.create_array(str(level), data=data)
                self.pixels[field] = image

    def _tell_size(self, levels) -> dict:
        if self.pixel_um is None:
            return {}
        axes = [{"name": "c"}, *({"name": axis, "unit": "micrometer"} for axis in "yx")]
        sides = [self.pixel_um * 2**level for level in range(levels)]
        datasets = [
            {"coordinateTransformations": [{"type": "scale", "scale": [1, side, side]}]}
            for side in sides
        ]
        return {"ome": {"multiscales": [{"axes": axes, "datasets": datasets}]}}

    def _write_qc(self, path) -> None:
        rows = [
            {
                "experiment": self.key.experiment,
                "plate": self.key.plate,
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
