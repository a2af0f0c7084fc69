"""Images as a vendor's index lists them, or their names tell, before z and t count from 0."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from phenopipe.ingest.index import ImageFile, Place
from phenopipe.plates import FieldKey, Well

# Stages and clocks jitter; steps that differ by more than this share are not one step.
_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image as a vendor lists it.

    Parameters
    ----------
    path
        The image's file, relative to the plate's folder.
    well, field, channel
        As in `ImageFile`.
    plane, time
        The vendor's own numbers, from wherever they start; `plane` is None of a projection.
    x_um, y_um, z_um
        The stage's position in micrometres; x grows to the right, y downwards.
    acquired
        When the image was taken.
    """

    path: str
    well: Well
    field: int
    channel: str
    plane: int | None
    time: int
    x_um: float | None = None
    y_um: float | None = None
    z_um: float | None = None
    acquired: datetime | None = None

    @property
    def field_key(self) -> FieldKey:
        """The field that the image belongs to."""
        return FieldKey(self.well, self.field)


def count_images(
    records: Iterable[ImageRecord], *, planes: Collection[int], times: Collection[int]
) -> list[ImageFile]:
    """Count z and t of images from 0: the rank among the plate's planes and time points.

    A plate of one plane has no z, one of a single time point no t.

    Examples
    --------
    >>> a01 = Well.parse("A01")
    >>> found = [ImageRecord("a", a01, 1, "1", plane=1, time=1)]
    >>> count_images(found, planes=[1, 2, 4], times=[1])[0].plane
    ('1', 0, None)
    >>> found = [ImageRecord("a", a01, 1, "1", plane=4, time=2)]
    >>> count_images(found, planes=[1, 2, 4], times=[1, 2])[0].plane
    ('1', 2, 1)
    """
    z = _rank(planes)
    t = _rank(times)
    return [
        ImageFile(
            path=record.path,
            well=record.well,
            field=record.field,
            channel=record.channel,
            z=None if record.plane is None else z[record.plane],
            t=t[record.time],
        )
        for record in records
    ]


def _rank(numbers: Collection[int]) -> dict[int, int | None]:
    ordered = sorted(set(numbers))
    several = len(ordered) > 1
    return {number: rank if several else None for rank, number in enumerate(ordered)}


def find_places(records: Iterable[ImageRecord]) -> dict[FieldKey, Place]:
    """Say where and when the first image of each field was taken, as far as that is known."""
    first: dict[FieldKey, ImageRecord] = {}
    for record in records:
        before = first.setdefault(record.field_key, record)
        if _is_earlier(record, before):
            first[record.field_key] = record
    places = {
        key: Place(record.x_um, record.y_um, record.z_um, record.acquired)
        for key, record in sorted(first.items())
    }
    return {key: place for key, place in places.items() if place != Place()}


def _is_earlier(record: ImageRecord, before: ImageRecord) -> bool:
    if record.acquired is None:
        return False
    return before.acquired is None or record.acquired < before.acquired


def find_z_step_um(records: Iterable[ImageRecord]) -> float | None:
    """Find the distance of neighbouring planes in micrometres; None if it is not one."""
    heights = _series(
        ((r.field_key, r.channel, r.time), r.plane, r.z_um) for r in records if r.plane is not None
    )
    step = _regular_step(heights)
    return None if step is None else round(abs(step), 4)


def find_time_step_s(records: Iterable[ImageRecord]) -> float | None:
    """Find the interval of neighbouring time points in seconds; None if it is not one."""
    seconds = _series(
        ((r.field_key, r.channel, r.plane), r.time, r.acquired.timestamp() if r.acquired else None)
        for r in records
    )
    step = _regular_step(seconds)
    return None if step is None else round(step, 3)


def _series(
    values: Iterable[tuple[object, int, float | None]],
) -> Mapping[object, Mapping[int, float]]:
    series: dict[object, dict[int, float]] = defaultdict(dict)
    for key, number, value in values:
        if value is not None:
            series[key][number] = value
    return series


def _regular_step(series: Mapping[object, Mapping[int, float]]) -> float | None:
    """Take each step's median over the plate, and their median if they agree."""
    ranks = {number: n for n, number in enumerate(sorted({k for s in series.values() for k in s}))}
    steps: dict[int, list[float]] = defaultdict(list)
    for values in series.values():
        by_rank = {ranks[number]: value for number, value in values.items()}
        for rank, value in by_rank.items():
            if rank + 1 in by_rank:
                steps[rank].append(by_rank[rank + 1] - value)
    medians = [median(found) for found in steps.values()]
    if not medians:
        return None
    middle = median(medians)
    regular = all(abs(step - middle) <= _JITTER * abs(middle) for step in medians)
    return middle if regular and middle else None


def parse_time(text: str | None) -> datetime | None:
    """Read a time in ISO 8601, as UTC where it names no zone; None where there is none.

    Raises
    ------
    ValueError
        If the text is no time.

    Examples
    --------
    >>> parse_time("2024-06-24T11:48:55.5306001-04:00").isoformat()
    '2024-06-24T11:48:55.530600-04:00'
    >>> parse_time("2024-06-24T11:48:55").isoformat()
    '2024-06-24T11:48:55+00:00'
    """
    if not text:
        return None
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def sort_channels(records: Sequence[ImageRecord]) -> list[str]:
    """Give the channel tokens of the records, which are numbers, in order."""
    return sorted({record.channel for record in records}, key=int)
