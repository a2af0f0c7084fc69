"""Whether a plate in a landing zone is whole: what was promised against what lies there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from phenopipe.ingest.index import PlateIndex
from phenopipe.ingest.landing import Snapshot
from phenopipe.plates import PlateKey

# What a folder of a landing zone can be. Only a complete one is ingested; changed, refused and
# failed ones want a person.
State = Literal["arriving", "complete", "ingested", "changed", "refused", "failed"]
TROUBLED: tuple[State, ...] = ("changed", "refused", "failed")

# A microscope or a copying program that has written its last file may still be closing it, and
# some give a file its full size before its content.
SETTLE_S = 60.0


@dataclass(frozen=True)
class Sighting:
    """One folder of a landing zone, as it was found.

    Parameters
    ----------
    folder
        The plate's folder.
    state
        ``arriving``; ``complete``, to be ingested; ``ingested``; ``changed`` since it was;
        ``refused``, because no plate can be read there; ``failed`` to be ingested.
    why
        One sentence.
    key
        The plate, where it could be read which.
    snapshot
        How the folder looks; None where it could not be looked at, and where nothing is new.
    platemap, platemap_look
        The platemap that is read with it, and how it looks: `stamp_platemap`.
    published
        Key of the plate's published ledger, if any.
    """

    folder: Path
    state: State
    why: str
    key: PlateKey | None = None
    snapshot: Snapshot | None = None
    platemap: Path | None = None
    platemap_look: str = ""
    published: str = ""

    def as_row(self) -> dict[str, str]:
        """Give the sighting as a row of a table."""
        name = str(self.key) if self.key else f"{self.folder.parent.name}/{self.folder.name}"
        return {"plate": name, "state": self.state, "what": self.why}


@dataclass(frozen=True)
class Arrival:
    """What of a plate has arrived.

    Parameters
    ----------
    found
        Images whose file is not empty.
    empty
        Images whose file is.
    lacking
        Images that other fields have, or that the vendor's index lists, and lines of what else it
        promised.
    expected
        Number of images that the vendor's index promises; None where it promises none.

    Examples
    --------
    >>> str(Arrival(found=570, lacking=6, expected=576)), str(Arrival(found=1, empty=2))
    ('570 of 576 images', '1 image, 2 empty')
    """

    found: int
    empty: int = 0
    lacking: int = 0
    expected: int | None = None

    @property
    def whole(self) -> bool:
        """Whether all that was promised is there; False where nothing was promised."""
        promised = self.expected is not None and self.found >= self.expected
        return promised and not (self.empty or self.lacking)

    def __str__(self) -> str:
        count = self.found if self.expected is None else self.expected
        of = "" if self.expected is None else f"{self.found:,} of "
        empty = f", {self.empty:,} empty" if self.empty else ""
        return f"{of}{count:,} image{'s' if count != 1 else ''}{empty}"


def count_arrival(index: PlateIndex, snapshot: Snapshot) -> Arrival:
    """Count what of a plate has arrived; an image in a folder of its own (Zarr) is never empty."""
    sizes = [snapshot.files.get(image.path, (1, 0))[0] for image in index.images]
    empty = sum(size == 0 for size in sizes)
    return Arrival(
        found=len(sizes) - empty,
        empty=empty,
        lacking=len(index.absent) + len(index.missing),
        expected=index.expected,
    )


def judge_arrival(
    arrival: Arrival, *, quiet_s: float, quiet_minutes: float
) -> tuple[Literal["arriving", "complete"], str]:
    """Decide whether a plate is complete.

    It is once all that the vendor's index promises is there and nothing changed for a minute; or,
    whatever is there, once nothing changed for `quiet_minutes`.

    Parameters
    ----------
    arrival
        What has arrived.
    quiet_s
        Seconds since the folder last changed; below 0 where its clock is ahead of ours.
    quiet_minutes
        How long nothing may change in a plate that is still being taken or copied.

    Examples
    --------
    >>> judge_arrival(Arrival(found=8, expected=9), quiet_s=200, quiet_minutes=30)
    ('arriving', '8 of 9 images, last change 3 min ago')
    >>> judge_arrival(Arrival(found=9, expected=9), quiet_s=200, quiet_minutes=30)
    ('complete', '9 of 9 images')
    >>> judge_arrival(Arrival(found=8, expected=9), quiet_s=2000, quiet_minutes=30)
    ('complete', '8 of 9 images, unchanged for 33 min')
    """
    age = f"{max(quiet_s, 0) / 60:.0f} min"
    if arrival.whole and quiet_s >= SETTLE_S:
        return "complete", str(arrival)
    if quiet_s >= 60 * quiet_minutes:
        return "complete", f"{arrival}, unchanged for {age}"
    return "arriving", f"{arrival}, last change {age} ago"
