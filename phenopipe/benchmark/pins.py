"""Which annotations were meant: digests that a user pins, and those of published files."""

from collections.abc import Mapping
from pathlib import Path

from phenopipe.errors import InputError

# The annotations that EFAAR_benchmarking publishes (Celik et al. 2024), by BLAKE3 digest. A score
# on one of these can be set beside those of its paper.
PUBLISHED = {
    "6511903c1317b82b4477eeb1141f06bbb46cfdec1929d11b1498356e2f68739b": "CORUM.txt",
    "db04c4d55009530d37006105e5ba4d5e706bce7e6eaab6184a6f4c27de87fc7c": "CORUM_clusters.tsv",
    "a4b4eec33afdf8b7c75a8660ba72d09cc1dbe24d2bf14bbbd5fc3dcf0232dcf9": "HuMAP.txt",
    "58b5871eb1656e3a377422ac27cbae71f1569fbc2194453149f0498a785576ba": "Reactome.txt",
    "9a07b4033a7c358769e5d8d1b9556a5577df0815ee2753ec8867eb7dacc8a68e": "SIGNOR.txt",
    "0b5541d484ca23121805d690b3ed34a0f1000fb2cc437b278aa727971216b97f": "StringDB.txt",
}


def name_published(digest: str) -> str:
    """Name the published file with this digest; empty if it is none that is known."""
    name = PUBLISHED.get(digest)
    return f"{name} of EFAAR_benchmarking 1.0" if name else ""


def check_pins(folder: Path, digests: Mapping[str, str], pins: Mapping[str, str]) -> None:
    """Refuse a folder in which a pinned file is missing or has other bytes.

    Parameters
    ----------
    folder
        Where the files are, for messages.
    digests
        BLAKE3 digests of the files that are there, by name.
    pins
        The digests that they must have, by name.

    Raises
    ------
    InputError
        Naming the first file that is not as pinned.

    Examples
    --------
    >>> check_pins(Path("known"), {"CORUM.txt": "ab"}, {"CORUM.txt": "ab"})
    """
    for name, pinned in sorted(pins.items()):
        found = digests.get(name)
        if found is None:
            there = ", ".join(sorted(digests)) or "none"
            raise InputError(
                f"expected the pinned annotation {name} in {folder}, found {there}: put it there, "
                "or take it out of the settings (benchmark.pins)"
            )
        if found != pinned:
            raise InputError(
                f"expected {name} in {folder} with the digest {pinned} that the settings pin "
                f"(benchmark.pins), found {found}: bring back the file that was pinned, or pin "
                "the new one"
            )
