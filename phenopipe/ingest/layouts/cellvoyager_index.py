"""The three files of a CellVoyager: ``MeasurementData.mlf``, ``MeasurementDetail.mrf``, ``.mes``.

The ``.mlf`` lists each image with its place (in micrometres, y growing upwards) and time, and
each that failed (``Type="ERR"``). The ``.mrf`` names the plate, its size, each channel's pixels
and the ``.mes``, which holds the settings: what the channels are called.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from phenopipe.errors import InputError
from phenopipe.ingest.layouts.records import ImageRecord, parse_time
from phenopipe.ingest.layouts.shape import well_at
from phenopipe.ingest.layouts.xml_file import XML_ERRORS, local_names, read_root, stream_elements
from phenopipe.plates import PLATE_SHAPES, FieldKey, Well


@dataclass(frozen=True)
class Shot:
    """One image of a CellVoyager, by the numbers in its name or in the ``.mlf``.

    `action` is the step of the protocol that took it, `timeline` the protocol's branch.
    """

    path: str
    well: Well
    field: int
    channel: str
    timeline: int
    action: int
    time: int
    plane: int
    x_um: float | None = None
    y_um: float | None = None
    z_um: float | None = None
    acquired: datetime | None = None


@dataclass(frozen=True)
class Measurement:
    """What a ``.mlf`` lists.

    Parameters
    ----------
    shots
        The images, each once.
    failures
        What failed, one line each: a field or a whole well, with the microscope's words.
    failed
        The fields that failed, of those that are named: a failed focus names just its well.
    """

    shots: tuple[Shot, ...]
    failures: tuple[str, ...]
    failed: frozenset[FieldKey]


@dataclass(frozen=True)
class Detail:
    """What a ``.mrf`` says of the plate.

    Parameters
    ----------
    plate, title
        Names of the plate and of the measurement.
    shape
        Rows and columns.
    pixel_sizes_um
        Side of a pixel of each channel, in micrometres.
    settings
        The name of the ``.mes``.
    """

    plate: str
    title: str
    shape: tuple[int, int] | None
    pixel_sizes_um: Mapping[str, float]
    settings: str

    def pixel_size_um(self, channels: Collection[str]) -> float | None:
        """Give the one pixel size of these channels; None if there is not one."""
        sizes = [size for channel, size in self.pixel_sizes_um.items() if channel in channels]
        same = all(math.isclose(size, sizes[0], rel_tol=1e-6) for size in sizes)
        return sizes[0] if sizes and same else None


def is_mlf(path: Path) -> bool:
    """Tell whether the file begins as a ``.mlf`` does."""
    try:
        return read_root(path)[0] == "MeasurementData"
    except XML_ERRORS:
        return False


def read_mlf(path: Path) -> Measurement:
    """Read what a measurement took.

    Raises
    ------
    InputError
        If it is no such file, is damaged, or an image in it lacks one of its numbers.
    """
    try:
        _check_root(path, "MeasurementData")
        shots: dict[str, Shot] = {}
        failures: dict[str, FieldKey | None] = {}
        for element in stream_elements(path, {"MeasurementRecord"}):
            told = local_names(element.attrib)
            text = " ".join((element.text or "").split())
            if told.get("Type") == "IMG":
                shot = _shot(text.replace("\\", "/"), told)
                if shots.setdefault(shot.path, shot) != shot:
                    raise ValueError(f"it lists {shot.path} as two images")
            else:
                line, key = _failure(told, text)
                failures[line] = key
        if not shots:
            raise ValueError("it lists no image")
    except XML_ERRORS as error:
        raise _unreadable(path, error, "or remove it to go by the files' names") from error
    failed = frozenset(key for key in failures.values() if key is not None)
    return Measurement(tuple(shots.values()), tuple(failures), failed)


def read_mrf(path: Path) -> Detail:
    """Read the plate's name and size, and the size of its pixels.

    Raises
    ------
    InputError
        If it is no such file, or is damaged.
    """
    try:
        root = _check_root(path, "MeasurementDetail")
        plate, sizes = "", {}
        for element in stream_elements(path, {"MeasurementSamplePlate", "MeasurementChannel"}):
            told = local_names(element.attrib)
            plate = plate or told.get("Name", "").strip()
            size = _length(told, "HorizontalPixelDimension")
            if size and "Ch" in told:
                sizes[str(_number(told, "Ch"))] = size
        return Detail(
            plate=plate,
            title=root.get("Title", "").strip(),
            shape=_shape(root),
            pixel_sizes_um=sizes,
            settings=root.get("MeasurementSettingFileName", "").strip(),
        )
    except XML_ERRORS as error:
        raise _unreadable(path, error, "or remove it to go without") from error


def read_mes(path: Path) -> dict[str, str]:
    """Read each channel's name: its fluorophore where one was chosen, else its target.

    Raises
    ------
    InputError
        If it is no such file, or is damaged.
    """
    try:
        _check_root(path, "MeasurementSetting")
        channels = [
            local_names(element.attrib)
            for element in stream_elements(path, {"Channel"})
            if any(name.endswith("}Target") or name == "Target" for name in element.attrib)
        ]
        return {
            str(_number(told, "Ch")): told.get("Fluorophore", "").strip() or told["Target"].strip()
            for told in channels
        }
    except XML_ERRORS as error:
        raise _unreadable(path, error, "or remove it to go without") from error


def _check_root(path: Path, name: str) -> Mapping[str, str]:
    root, attributes = read_root(path)
    if root != name:
        raise ValueError(f"its root is {root}, not {name}")
    return attributes


def _unreadable(path: Path, error: Exception, otherwise: str) -> InputError:
    return InputError(
        f"expected a file of CellVoyager in {path}, found one that cannot be read ({error}): "
        f"copy it anew from the microscope, {otherwise}"
    )


def _shot(path: str, told: dict[str, str]) -> Shot:
    y = _length(told, "Y")
    key = _field_key(told)
    return Shot(
        path=path,
        well=key.well,
        field=key.field,
        channel=str(_number(told, "Ch")),
        # Early CV7000 software has no branches and does not number them.
        timeline=_number({"TimelineIndex": "1"} | told, "TimelineIndex"),
        action=_number({"ActionIndex": "1"} | told, "ActionIndex"),
        time=_number(told, "TimePoint"),
        plane=_number(told, "ZIndex"),
        x_um=_length(told, "X"),
        y_um=None if y is None else 0.0 - y,
        z_um=_length(told, "Z"),
        acquired=parse_time(told.get("Time")),
    )


def _failure(told: Mapping[str, str], text: str) -> tuple[str, FieldKey | None]:
    key = _field_key(told) if "FieldIndex" in told else None
    well = well_at(_number(told, "Row"), _number(told, "Column"))
    words = f" ({text})" if text else ""
    return f"{key or f'well {well}'}: the microscope reports a failed image{words}", key


def _field_key(told: Mapping[str, str]) -> FieldKey:
    well = well_at(_number(told, "Row"), _number(told, "Column"))
    return FieldKey(well, _number(told, "FieldIndex"))


def _shape(told: Mapping[str, str]) -> tuple[int, int] | None:
    if "RowCount" not in told or "ColumnCount" not in told:
        return None
    shape = _number(told, "RowCount"), _number(told, "ColumnCount")
    most = PLATE_SHAPES[1536]
    if not (1 <= shape[0] <= most[0] and 1 <= shape[1] <= most[1]):
        raise ValueError(f"its plate has {shape[0]} x {shape[1]} wells")
    return shape


def _number(told: Mapping[str, str], name: str) -> int:
    text = told.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{name} is {text!r}, not a number" if text else f"no {name}")
    return int(text)


def _length(told: Mapping[str, str], name: str) -> float | None:
    value = float(told[name]) if told.get(name) else math.nan
    return value if math.isfinite(value) else None


def order_shots(shots: Sequence[Shot]) -> tuple[ImageRecord, ...]:
    """Say which time point and plane each image is, where the protocol has branches.

    Time points count on from timeline to timeline, or start anew with each: a well's own are
    counted, timeline after timeline, so that a well of the second does not start late. A channel
    that one action takes in one plane and another as a stack has a projection or a single plane
    beside the stack.
    """
    times = _count_times(shots)
    stacks = _find_stacks(shots)
    return tuple(
        ImageRecord(
            path=shot.path,
            well=shot.well,
            field=shot.field,
            channel=shot.channel,
            plane=None if _is_beside_stack(shot, stacks) else shot.plane,
            time=times[shot.well, shot.timeline, shot.time],
            x_um=shot.x_um,
            y_um=shot.y_um,
            z_um=shot.z_um,
            acquired=shot.acquired,
        )
        for shot in shots
    )


def _count_times(shots: Iterable[Shot]) -> dict[tuple[Well, int, int], int]:
    points: dict[int, set[int]] = defaultdict(set)
    timelines: dict[Well, set[int]] = defaultdict(set)
    for shot in shots:
        points[shot.timeline].add(shot.time)
        timelines[shot.well].add(shot.timeline)
    counted = {}
    for well, own in timelines.items():
        start = 0
        for timeline in sorted(own):
            for rank, time in enumerate(sorted(points[timeline])):
                counted[well, timeline, time] = start + rank
            start += len(points[timeline])
    return counted


def _find_stacks(shots: Iterable[Shot]) -> Mapping[str, Mapping[tuple[int, int], set[int]]]:
    stacks: dict[str, dict[tuple[int, int], set[int]]] = defaultdict(lambda: defaultdict(set))
    for shot in shots:
        stacks[shot.channel][shot.timeline, shot.action].add(shot.plane)
    return stacks


def _is_beside_stack(shot: Shot, stacks: Mapping[str, Mapping[tuple[int, int], set[int]]]) -> bool:
    own = stacks[shot.channel]
    single = len(own[shot.timeline, shot.action]) == 1
    return single and any(len(planes) > 1 for planes in own.values())
