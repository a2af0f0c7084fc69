"""What a rate means for a whole screen: hours on 1 and 8 GPUs, bytes read and written.

``python -m benchmarks.projection --crops-a-second RATE``. The screen is RxRx3's: 175 experiments of
9 plates of 1,380 wells, a field of 6 x 2048 x 2048 pixels a well, 64 crops of 256 pixels a field.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.embed_inputs import CROPS_A_FIELD
from benchmarks.plates import SIZE
from benchmarks.vits import N_CHANNELS

FIELDS = 175 * 9 * 1380
CROPS = FIELDS * CROPS_A_FIELD
PIXEL_BYTES = FIELDS * N_CHANNELS * SIZE * SIZE * 2


@dataclass(frozen=True)
class Costs:
    """What is known of one GPU and of the lake; the defaults were measured on simulated plates.

    Attributes
    ----------
    crops_a_second
        Of one GPU, from Zarr to Parquet.
    packing
        Bytes of a field's full resolution in the lake, by those of its pixels.
    row_bytes
        Bytes of a crop's row in Parquet: 384 values of float32, which hardly compress, and keys.
    """

    crops_a_second: float
    packing: float = 0.68
    row_bytes: float = 1420


def describe_projection(costs: Costs, *, gpus: Sequence[int] = (1, 8)) -> str:
    """Show the arithmetic and what comes of it; GPUs are taken not to slow one another."""
    rate, read = costs.crops_a_second, PIXEL_BYTES * costs.packing
    written = CROPS * costs.row_bytes
    lines = [
        f"crops: {FIELDS:,} fields x {CROPS_A_FIELD} = {CROPS:,}",
        f"pixels: {FIELDS:,} x {N_CHANNELS} x {SIZE} x {SIZE} x 2 bytes = "
        f"{PIXEL_BYTES / 1e12:.1f} TB",
        f"read: {PIXEL_BYTES / 1e12:.1f} TB x {costs.packing:g} as packed = {read / 1e12:.1f} TB",
        f"written: {CROPS:,} rows x {costs.row_bytes:,.0f} bytes = {written / 1e9:.0f} GB",
    ]
    for n in gpus:
        seconds = CROPS / (n * rate)
        lines.append(
            f"{n} GPU{'s' if n > 1 else ''}: {CROPS:,} / ({n} x {rate:,.0f} crops/s) = "
            f"{seconds / 3600:,.1f} h, reading {read / seconds / 1e9:.2f} GB/s, "
            f"writing {written / seconds / 1e6:.1f} MB/s"
        )
    return "\n".join(lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--crops-a-second", type=float, required=True, help="of one GPU")
    arguments.add_argument("--packing", type=float, default=Costs.packing)
    arguments.add_argument("--row-bytes", type=float, default=Costs.row_bytes)
    given = arguments.parse_args()
    print(describe_projection(Costs(given.crops_a_second, given.packing, given.row_bytes)))


if __name__ == "__main__":
    main()
