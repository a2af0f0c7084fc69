"""How long it takes to see that nothing is new in a landing zone of a thousand plates.

The plates are tiny ImageXpress plates that the lake remembers as ingested: their ledgers, images
and landing records are published, without pixels, as no scan reads any. Run it with::

    python -m benchmarks.landing --plates 1000 --wells 96 --channels 6
"""

import argparse
import io
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile

from phenopipe.ingest.landing import record_landing, take_snapshot
from phenopipe.ingest.watch import scan_landing
from phenopipe.lake import Lake, Recipe, Thing, ledger, plate_image
from phenopipe.plates import PlateKey, Well
from phenopipe.schema import LEDGER

PLATES_A_BATCH = 20


def main() -> None:
    arguments = read_arguments()
    with tempfile.TemporaryDirectory(prefix="phenopipe-landing-") as name:
        source, lake = Path(name) / "landing", Lake(Path(name) / "lake")
        started = time.perf_counter()
        for number in range(arguments.plates):
            key = PlateKey(f"Batch{number // PLATES_A_BATCH + 1}", f"Plate{number + 1}")
            write_plate(source / str(key), wells=arguments.wells, channels=arguments.channels)
            publish_plate(lake, key, source / str(key))
        files = arguments.plates * arguments.wells * arguments.channels
        print(f"{arguments.plates:,} plates, {files:,} files, {took(started)} to make them")
        for run in range(1, arguments.runs + 1):
            started = time.perf_counter()
            sightings = scan_landing(source, lake)
            states = {sighting.state for sighting in sightings}
            print(f"scan {run}: {took(started)}, {len(sightings):,} plates {', '.join(states)}")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plates", type=int, default=1000)
    parser.add_argument("--wells", type=int, default=96)
    parser.add_argument("--channels", type=int, default=6)
    parser.add_argument("--runs", type=int, default=3)
    return parser.parse_args()


def write_plate(folder: Path, *, wells: int, channels: int) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((8, 8), "uint16"))
    (folder / "TimePoint_1").mkdir(parents=True)
    for number in range(wells):
        for wave in range(1, channels + 1):
            name = f"{folder.name}_{Well(number // 12, number % 12)}_s1_w{wave}.TIF"
            (folder / "TimePoint_1" / name).write_bytes(buffer.getbuffer())


def publish_plate(lake: Lake, key: PlateKey, folder: Path) -> None:
    for thing in (ledger(key), plate_image(key)):
        publish(lake, thing)
    record_landing(lake, key, folder, take_snapshot(folder))


def publish(lake: Lake, thing: Thing) -> None:
    with lake.writing(thing):
        with lake.draft(thing) as path:
            pq.write_table(pa.Table.from_pylist([], schema=LEDGER), path)
        recipe = Recipe("benchmark", 1, {}, {})
        lake.publish(thing, recipe, counts={}, started=datetime.now(UTC))


def took(started: float) -> str:
    return f"{time.perf_counter() - started:.2f} s"


if __name__ == "__main__":
    main()
