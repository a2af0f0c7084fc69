"""Embed many plates in one process, and see whether its memory grows.

``python -m benchmarks.embed_plates``. A small simulated plate is ingested under a hundred names, by
a process of its own. Then all are embedded one after the other with the same workers, as a backfill
does, and after each plate the resident sets of the process and its workers are summed.
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil
from scipy.stats import theilslopes

from benchmarks.measured import resident_bytes
from benchmarks.vits import CROP, VITS, publish_vit
from phenopipe import compute
from phenopipe.catalogue import list_plates
from phenopipe.config import EmbedConfig
from phenopipe.embed import embed_plate
from phenopipe.ingest import find_plates, ingest_plate
from phenopipe.lake import Lake
from phenopipe.simulate import ScreenDesign, simulate_screen

_CLASSICAL = "classical"
# The first plates fill caches and arenas: growth is looked for after them.
_WARM_UP = _A_LINE = 10


def main() -> None:
    given = _parse()
    with TemporaryDirectory(prefix="plates-") as folder:
        # A process of its own, so that what ingestion leaves behind is not counted.
        arguments = Path(folder), given.plates
        preparing = get_context("spawn").Process(target=prepare_plates, args=arguments)
        preparing.start()
        preparing.join()
        if preparing.exitcode:
            raise SystemExit("the plates could not be prepared")
        lake = Lake(Path(folder, "lake"))
        model = _add_model(given.model, lake)
        sizes: list[float] = []
        for size in embed_plates(lake, model, workers=given.workers):
            sizes.append(size)
            if len(sizes) % _A_LINE == 0:
                print(f"{len(sizes)} plates: {median(sizes[-_A_LINE:]):.0f} MiB", flush=True)
    print(describe_growth(sizes))


def prepare_plates(folder: Path, plates: int) -> None:
    """Draw a plate of 96 fields of one crop, and ingest it as so many."""
    logging.getLogger("phenopipe").setLevel(logging.ERROR)
    screen, lake = folder / "screen", Lake(folder / "lake")
    simulate_screen(screen, plates=1, wells=96, design=ScreenDesign(sites=1, size_px=CROP))
    (plate,) = find_plates(screen, "auto")
    with compute.client("local") as client:
        for number in range(plates):
            ingest_plate(plate, lake, client=client, experiment=f"Run{number:03d}")


def embed_plates(lake: Lake, model: str, *, workers: int) -> Iterator[float]:
    """Embed all plates of a lake; after each, give what the process tree holds in MiB."""
    config, process = EmbedConfig(crop=CROP, include_failed=True), psutil.Process()
    with compute.client("local", workers=workers) as client:
        for key in list_plates(lake):
            embed_plate(lake, key, model=model, client=client, config=config)
            yield resident_bytes(process) / 2**20


def describe_growth(sizes: Sequence[float]) -> str:
    """Tell what the plates after the first few add each: Theil and Sen's slope, its 95% interval.

    References
    ----------
    Sen (1968), Estimates of the regression coefficient based on Kendall's tau.
    """
    later = sizes[_WARM_UP:]
    slope, _, least, most = theilslopes(later)
    return (
        f"plates {_WARM_UP + 1} to {_WARM_UP + _A_LINE}: {median(later[:_A_LINE]):.0f} MiB; "
        f"{len(sizes) - _A_LINE + 1} to {len(sizes)}: {median(later[-_A_LINE:]):.0f} MiB\n"
        f"growth after plate {_WARM_UP}: {slope:+.3f} MiB a plate ({least:+.3f} to {most:+.3f})"
    )


def _add_model(name: str, lake: Lake) -> str:
    if name == _CLASSICAL:
        return name
    publish_vit(VITS[name], lake, precision="fp32", provider="cpu")
    return VITS[name].model_name("fp32")


def _parse() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--plates", type=int, default=100, help="a multiple of ten, 20 or more")
    arguments.add_argument("--model", choices=(_CLASSICAL, *VITS), default="vit-s16")
    arguments.add_argument("--workers", type=int, default=2)
    return arguments.parse_args()


if __name__ == "__main__":
    main()
