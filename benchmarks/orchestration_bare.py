"""Embed a lake's plates with the library alone, as many at a time as the flow does.

``python -m benchmarks.orchestration_bare ROOT``: what the flow ``plates`` is measured against.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.orchestration_lake import MODEL
from phenopipe import compute
from phenopipe.catalogue import list_plates
from phenopipe.embed import embed_plate
from phenopipe.lake import Lake

_PLATES_AT_ONCE = 2


def main() -> None:
    lake = Lake(sys.argv[1])
    with compute.client("local") as client, ThreadPoolExecutor(_PLATES_AT_ONCE) as pool:
        embed = partial(embed_plate, lake, model=MODEL, client=client)
        for _ in pool.map(embed, list_plates(lake)):
            pass


if __name__ == "__main__":
    main()
