"""How things stand at the far side: there, missing, or published there otherwise."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Manifest, Thing
from phenopipe.transfer.shipments import Parcel, Shipment

# Manifests read at a time: on object storage each is a request of some 50 ms.
_READERS = 16

Standing = Literal["there", "missing", "differs"]


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A parcel, and what of it is yet to be sent.

    Attributes
    ----------
    wanted
        Files of each thing that is not there as it is here, in the parcel's order.
    differing
        Those of the things that are published there otherwise, in the parcel's order.
    """

    parcel: Parcel
    wanted: dict[Thing, int]
    differing: tuple[Thing, ...]

    def refusal(self, source: Lake, target: Lake, *, replace: bool) -> str:
        """Say why the parcel is not sent; empty where it is."""
        more = f" (and {n} more)" if (n := len(self.differing) - 1) > 0 else ""
        for thing in self.differing:
            if thing.kind == "models":
                return (
                    f"expected {thing} in {target.root} to be the model that it is in "
                    f"{source.root}, found another graph: a version never changes; publish one of "
                    "the two as another version"
                )
            if not replace:
                return (
                    f"expected {thing}{more} in {target.root} as in {source.root}, found it made "
                    "of other inputs or settings: leave it, or let the source's take its place "
                    "(--replace)"
                )
        return ""


def compare(manifest: Manifest, there: Manifest | None) -> Standing:
    """Compare a thing with what the far side has of it, by their manifests.

    A model is the same where its graph is: parity was measured on another machine, and stands in
    another card, yet the embeddings are the same.
    """
    if there is None:
        return "missing"
    is_model = Thing(manifest.thing).kind == "models"
    if is_model and manifest.model_digest == there.model_digest:
        return "there"
    same = (manifest.key, manifest.files) == (there.key, there.files)
    return "there" if same else "differs"


def survey(source: Lake, target: Lake, shipment: Shipment) -> list[Surveyed]:
    """Find out what of a shipment is yet to be sent; only manifests are read."""
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(partial(_survey, source, target), shipment.parcels))


def check_distinct(source: Lake, target: Lake) -> None:
    """Check that two lakes are not the same.

    Raises
    ------
    InputError
        If they are.
    """
    if _resolve(source) == _resolve(target):
        raise InputError(
            f"expected two lakes, found {target.root} as both: give the other one's root"
        )


def _resolve(lake: Lake) -> str:
    return lake.root if "://" in lake.root else str(Path(lake.root).resolve())


def _survey(source: Lake, target: Lake, parcel: Parcel) -> Surveyed:
    wanted: dict[Thing, int] = {}
    differing = []
    for thing in parcel.things:
        manifest = source.manifest(thing)
        # It may be written anew since it was listed; whoever sends it then finds out.
        standing = compare(manifest, target.manifest(thing)) if manifest else "missing"
        if standing != "there":
            wanted[thing] = len(manifest.files) if manifest else 0
        if standing == "differs":
            differing.append(thing)
    return Surveyed(parcel, wanted, tuple(differing))
