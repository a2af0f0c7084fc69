"""What a transfer would send, and how long that takes."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from phenopipe.lake import Lake, Thing
from phenopipe.transfer.shipments import Shipment
from phenopipe.transfer.survey import check_distinct, survey

# Things measured at a time: on object storage each is a request a thousand files.
_READERS = 16

# Bytes a second where no rate is given: a line of 1 Gbit/s, well used.
ASSUMED_RATE = 100e6


@dataclass(frozen=True, slots=True)
class Estimate:
    """What of a shipment is yet to be sent: at most, as files of a broken transfer count too.

    Attributes
    ----------
    parcels, there, refused
        How many it holds; how many are there as a whole; how many would be refused.
    files, bytes
        What would go over the line.
    """

    name: str
    parcels: int
    there: int
    refused: int
    files: int
    bytes: int

    def as_row(self, rate: float | None) -> dict[str, str | int]:
        """Give the estimate as a row of a table, with the hours at a rate in bytes a second.

        Examples
        --------
        >>> Estimate("HUVEC-1", 2, 1, 0, 9, 36 * 10**9).as_row(10e6)["hours"]
        '1.00'
        """
        return {
            "what": self.name,
            "parcels": self.parcels,
            "there_already": self.there,
            "refused": self.refused,
            "to_send": self.parcels - self.there - self.refused,
            "files": self.files,
            "GB": f"{self.bytes / 1e9:,.3f}",
            "hours": f"{self.bytes / (rate or ASSUMED_RATE) / 3600:,.2f}",
        }


def estimate_shipment(
    source: Lake, target: Lake, shipment: Shipment, *, replace: bool = False
) -> Estimate:
    """Find out what `send_shipment` would send; nothing is written.

    Raises
    ------
    InputError
        If the lakes are one and the same.
    """
    check_distinct(source, target)
    surveyed = survey(source, target, shipment)
    sendable = [one for one in surveyed if not one.refusal(source, target, replace=replace)]
    sizes = _measure(source, [thing for one in sendable for thing in one.wanted])
    return Estimate(
        name=shipment.name,
        parcels=len(surveyed),
        there=sum(not one.wanted for one in surveyed),
        refused=len(surveyed) - len(sendable),
        files=sum(files for files, _ in sizes),
        bytes=sum(size for _, size in sizes),
    )


def add_up(estimates: Sequence[Estimate]) -> Estimate:
    """Add estimates up to that of the whole transfer."""
    return Estimate(
        name="all",
        parcels=sum(one.parcels for one in estimates),
        there=sum(one.there for one in estimates),
        refused=sum(one.refused for one in estimates),
        files=sum(one.files for one in estimates),
        bytes=sum(one.bytes for one in estimates),
    )


def _measure(source: Lake, things: Sequence[Thing]) -> list[tuple[int, int]]:
    """Count each thing's files and bytes, without keeping their names."""

    def measure(thing: Thing) -> tuple[int, int]:
        sizes = source.measure_files(thing)
        return len(sizes), sum(sizes.values())

    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(measure, things))
