"""Send a shipment: what is not there yet, file by file; each manifest behind its files.

A transfer may be killed at any point. What it sent stays at the far side, without a manifest and so
unseen, and the next transfer sends only what is not there with the right digest.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from phenopipe.compute import Progress
from phenopipe.errors import InputError
from phenopipe.lake import Lake, Manifest, Thing, drift
from phenopipe.transfer.pace import Pace
from phenopipe.transfer.shipments import Parcel, Shipment
from phenopipe.transfer.survey import Surveyed, check_distinct, compare, survey

# A plate's small things go one after the other, each with some ten requests: meanwhile the images
# of other plates fill the line. Each file in hand takes up to 8 MB of memory where one is a bucket.
_PARCELS_AT_ONCE = 4
_FILES_AT_ONCE = 8


class Shipped(BaseModel):
    """What became of a shipment.

    Attributes
    ----------
    parcels
        How many it holds.
    sent
        How many of them were not all there before, and are now.
    files, bytes
        What went over the line.
    refused
        Parcels that were not sent, each with its reason; trying again would not help.
    failed
        Parcels that did not arrive as a whole, each with its reason; trying again may help.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    parcels: int
    sent: int
    files: int
    bytes: int
    refused: dict[str, str]
    failed: dict[str, str]

    @property
    def left(self) -> dict[str, str]:
        """Parcels that are not there, each with its reason."""
        return self.refused | self.failed

    def as_row(self) -> dict[str, str | int]:
        """Give the shipment as a row of a table."""
        return {
            "what": self.name,
            "parcels": self.parcels,
            "sent": self.sent,
            "there_already": self.parcels - self.sent - len(self.left),
            "failed": len(self.left),
            "files": self.files,
            "GB": f"{self.bytes / 1e9:,.3f}",
        }


def send_shipment(
    source: Lake,
    target: Lake,
    shipment: Shipment,
    *,
    pace: Pace | None = None,
    replace: bool = False,
    on_progress: Progress | None = None,
) -> Shipped:
    """Send what of a shipment is not there yet, and check each file's digest at the far side.

    A thing is there when its manifest is, which comes last and is the source's, byte for byte.
    One parcel that fails does not stop the others.

    Parameters
    ----------
    source, target
        The lakes; the source is only read.
    pace
        How fast; as fast as it goes if None.
    replace
        Whether what is published there otherwise gives way; if not, its whole parcel is refused.
    on_progress
        Called with the files that are there, and the number of all that were not.

    Raises
    ------
    InputError
        If the lakes are one and the same.
    """
    check_distinct(source, target)
    pace = pace or Pace()
    surveyed = survey(source, target, shipment)
    total = sum(sum(one.wanted.values()) for one in surveyed)
    run = _Run(source, target, pace, replace, _Count(total, on_progress))
    with ThreadPoolExecutor(_PARCELS_AT_ONCE) as pool:
        try:
            outcomes = list(pool.map(run.send_parcel, surveyed))
        except BaseException:
            # The threads would go on to the end of their parcels, which may take hours.
            pace.stop()
            raise
    outcomes += run.send_drift(shipment)
    return _sum_up(shipment, outcomes)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a parcel: files and bytes that were sent, and what went wrong."""

    name: str
    files: int = 0
    bytes: int = 0
    error: Exception | None = None
    was_there: bool = False


@dataclass
class _Count:
    """Files that are there, of all that were not; threads add to it."""

    total: int
    on_progress: Progress | None
    done: int = 0
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, files: int) -> None:
        """Add to the number of all."""
        self.total += files

    def add(self, files: int) -> None:
        """Add to those that are there."""
        with self._turn:
            self.done += files
            if self.on_progress:
                self.on_progress(self.done, self.total)


@dataclass(frozen=True)
class _Run:
    """One transfer between two lakes."""

    source: Lake
    target: Lake
    pace: Pace
    replace: bool
    count: _Count

    def send_parcel(self, surveyed: Surveyed) -> _Outcome:
        """Send one parcel; what goes wrong is told, not raised."""
        name, sent = surveyed.parcel.name, []
        try:
            if why := surveyed.refusal(self.source, self.target, replace=self.replace):
                raise InputError(why)
            for thing in surveyed.wanted:
                sent += self._send_thing(thing)
        except (InputError, OSError) as error:
            return _Outcome(name, len(sent), sum(sent), error)
        return _Outcome(name, len(sent), sum(sent), was_there=not surveyed.wanted)

    def send_drift(self, shipment: Shipment) -> list[_Outcome]:
        """Send what compares an experiment's plates, if all of those are at the far side."""
        if shipment.experiment is None:
            return []
        thing = drift(shipment.experiment)
        manifest = self.source.manifest(thing)
        if manifest is None or self.target.changed_inputs(manifest.inputs):
            return []
        alone = Shipment(shipment.experiment, (Parcel(thing.path, (thing,)),))
        surveyed = survey(self.source, self.target, alone)
        self.count.expect(sum(sum(one.wanted.values()) for one in surveyed))
        return [self.send_parcel(one) for one in surveyed]

    def _send_thing(self, thing: Thing) -> list[int]:
        """Send what of a thing is not there; gives the bytes of each file that was sent."""
        with self.target.holding(thing):
            manifest = self._read_manifest(thing)
            if self._is_there(thing, manifest):
                self.count.add(len(manifest.files))
                return []
            wanted = self._find_wanted(thing, manifest)
            self.count.add(len(manifest.files) - len(wanted))
            sent = self._send_files(thing, wanted)
            self.target.republish(thing, self.source)
        return sent

    def _read_manifest(self, thing: Thing) -> Manifest:
        manifest = self.source.manifest(thing)
        if manifest is None:
            raise OSError(
                f"expected {self.source.path(thing)} to stay published, found that it is being "
                "written anew: start the transfer again when that is done"
            )
        return manifest

    def _is_there(self, thing: Thing, manifest: Manifest) -> bool:
        """Tell whether another run was faster; unpublish what is to be replaced."""
        standing = compare(manifest, self.target.manifest(thing))
        if standing == "differs":
            if not self.replace:
                raise OSError(
                    f"expected {self.target.path(thing)} to stay missing, found that another run "
                    "published it meanwhile: start the transfer again"
                )
            self.target.unpublish(thing)
        return standing == "there"

    def _find_wanted(self, thing: Thing, manifest: Manifest) -> dict[str, str]:
        """Find the files that are not there with the right digest; remove what is no part of it."""
        found = self.target.digest_drafted(thing)
        for name in found.keys() - manifest.files.keys():
            self.target.remove_file(thing, name)
        return {name: d for name, d in manifest.files.items() if found.get(name) != d}

    def _send_files(self, thing: Thing, wanted: Mapping[str, str]) -> list[int]:
        sizes = self.source.measure_files(thing) if wanted else {}

        def send(name: str) -> int:
            if name not in sizes:
                raise OSError(
                    f"expected {name} in {self.source.path(thing)} as its manifest says, found "
                    "none: `phenopipe verify` tells what is damaged"
                )
            self.pace.wait(sizes[name])
            self.target.receive(thing, name, self.source, size=sizes[name], digest=wanted[name])
            self.count.add(1)
            return sizes[name]

        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            return list(pool.map(send, wanted))


def _sum_up(shipment: Shipment, outcomes: list[_Outcome]) -> Shipped:
    ended = [one for one in outcomes if one.error is None and not one.was_there]
    refused = {one.name: str(one.error) for one in outcomes if isinstance(one.error, InputError)}
    failed = {one.name: str(one.error) for one in outcomes if isinstance(one.error, OSError)}
    return Shipped(
        name=shipment.name,
        parcels=len(outcomes),
        sent=len(ended),
        files=sum(one.files for one in outcomes),
        bytes=sum(one.bytes for one in outcomes),
        refused=refused,
        failed=failed,
    )
