r"""A user's own file names, by a regular expression of theirs.

::

    (?P<plate>[^/_]+)_(?P<well>[A-P]\d+)_s(?P<site>\d+)_(?P<channel>[A-Za-z0-9]+)\.tif

- The expression must match a file's whole path from the plate's folder, with ``/``: its name, and
  the folders between. ``[^/]*`` in front lets it begin later in a name, ``.*`` in a folder below.
- Groups: ``plate``, ``well``, ``site``, ``channel``, ``z``, ``t``, and no others; only the well is
  required. ``row`` and ``column`` may stand for ``well``. What a group matches holds no ``/``.
- Where ``plate`` matches in a folder's name, that folder is the plate's; else the plate's folder is
  the one at which the match begins. Without ``plate``, the plate bears its folder's name.
- Wells are ``A1``, ``a01``, ``A-01`` or ``A_1``; rows, by letter or number, and columns count
  from 1.
- Wells by one number, counted row by row from 1: name the group ``well96``, ``well384`` or
  ``well1536``, as 13 is B01 of the first and A13 of the others. In a group ``well`` a number is
  taken only where the numbers tell the plate: up to 12 they mean the same wells on all plates;
  where the largest is 96 or 384 that is the plate's size, and `missing` says so; above 384 it is
  1536.
- Sites keep their numbers, which may count from 0; without one it is site 1. Channels are names or
  numbers (``01`` is ``1``); without one it is channel ``1``.
- ``z`` and ``t`` are any numbers, such as micrometres or minutes: they count from 0 by rank. A step
  wider than the narrowest is a gap, which is told in `missing`.
- A file that the expression does not match is ignored; one that it matches and that makes no sense
  is an error, so that no image is lost by a slip in the expression.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from phenopipe.errors import InputError
from phenopipe.ingest.index import ImageFile, PlateIndex, find_absent, sort_images
from phenopipe.ingest.layouts.absence import expect_fields, list_absent
from phenopipe.ingest.layouts.duplicates import refuse_duplicates
from phenopipe.ingest.layouts.expression import LINEAR_WELLS, PathExpression
from phenopipe.ingest.layouts.folders import list_folder, walk_files
from phenopipe.plates import PLATE_SHAPES, FieldKey, Well, plate_shape, row_name

_WELL = re.compile(r"([A-Z]{1,2})[-_ ]?(\d{1,3})", re.IGNORECASE | re.ASCII)
_COUNT = re.compile(r"\d{1,9}", re.ASCII)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Found:
    """One image file as its path tells, before the well is counted out and z and t ranked."""

    path: str
    plate: str
    well: Well | int
    site: int
    channel: str
    z: Decimal | None
    t: Decimal | None


class Pattern:
    r"""Files named as a user's regular expression says; see the module's text.

    Parameters
    ----------
    pattern
        The expression.

    Raises
    ------
    InputError
        If it is no regular expression, is too large, names an unknown group, or not the well.

    Examples
    --------
    >>> Pattern(r"(?P<well>[A-H]\d+)_(?P<dye>\w+)\.tif")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    phenopipe.errors.InputError: expected groups named plate, well, ... found 'dye': rename it, ...
    """

    name = "pattern"

    def __init__(self, pattern: str) -> None:
        self._expression = PathExpression(pattern)

    def recognise(self, folder: Path) -> str | None:
        """Say which file fits the pattern; None where none does.

        Raises
        ------
        InputError
            If matching a name takes too long.
        """
        starts = self._expression.list_starts(folder)
        for path in self._walk(folder, starts):
            if self._match(path, starts) is not None:
                return f"{path} fits the pattern"
        return None

    def read(self, folder: Path) -> PlateIndex:
        """Index every file of one plate's folder.

        Raises
        ------
        InputError
            If no file fits the pattern; if one fits and its well, site, z or t is none; if the
            folder holds two plates, or two files for one image; if wells' numbers do not tell the
            plate's size; or if matching a name takes too long.
        """
        found, ignored = self._sort_files(folder)
        if not found:
            raise InputError(
                f"expected files whose whole path from {folder} fits the pattern "
                f"{self._expression.pattern}, found none among {len(ignored)}: give the plate's "
                "own folder, or correct the pattern (.* in front lets it begin later)"
            )
        plate = _one_plate(found, folder)
        size = _plate_size(found, self._expression.groups)
        channels = sorted({file.channel for file in found}, key=_channel_order)
        images = sort_images(_count_from_zero(found, size, folder), channels)
        refuse_duplicates(images, folder, prefix="channel ")
        absent = sort_images(find_absent(images, _expect(images)), channels)
        return PlateIndex(
            folder=folder,
            layout=self.name,
            reason=f"{images[0].path} fits the pattern",
            plate=plate or folder.resolve().name,
            images=images,
            channels={channel: channel for channel in channels},
            shape=PLATE_SHAPES[size] if size else plate_shape([image.well for image in images]),
            ignored=tuple(sorted(ignored)),
            missing=(
                *_list_deduced(size, self._expression.groups),
                *_list_gaps(found),
                *list_absent(images, absent, prefix="channel "),
            ),
            absent=absent,
        )

    def _walk(self, folder: Path, starts: Sequence[str], inner: str = "") -> Iterator[str]:
        """Walk the files of the folders whose paths may be the beginning of a match."""
        files, folders = list_folder(folder / inner)
        yield from (inner + name for name in files)
        for name in folders:
            deeper = f"{inner}{name}/"
            if any(self._expression.may_begin(deeper, start=start) for start in starts):
                yield from self._walk(folder, starts, deeper)

    def _match(self, path: str, starts: Sequence[str]) -> dict[str, str] | None:
        if _is_hidden(path):
            return None
        matches = (self._expression.match(path, start=start) for start in starts)
        return next((match for match in matches if match is not None), None)

    def _sort_files(self, folder: Path) -> tuple[list[_Found], list[tuple[str, str]]]:
        starts = self._expression.list_starts(folder)
        found: list[_Found] = []
        ignored: list[tuple[str, str]] = []
        for path in walk_files(folder):
            match = self._match(path, starts)
            if match is not None:
                found.append(_read_groups(match, path))
            else:
                reason = "hidden file" if _is_hidden(path) else "does not fit the pattern"
                ignored.append((path, reason))
        return found, ignored


def _is_hidden(path: str) -> bool:
    return path.startswith(".") or "/." in path


def _read_groups(groups: Mapping[str, str], path: str) -> _Found:
    channel = groups.get("channel", "1")
    return _Found(
        path=path,
        plate=groups.get("plate", ""),
        well=_read_well(groups, path),
        site=_read_site(groups.get("site", "1"), path),
        channel=str(int(channel)) if _COUNT.fullmatch(channel) else channel,
        z=_read_number(groups, "z", path),
        t=_read_number(groups, "t", path),
    )


def _read_well(groups: Mapping[str, str], path: str) -> Well | int:
    """Read a well's name, or its number where it has one."""
    for name, size in {"well": 1536, **LINEAR_WELLS}.items():
        number = int(groups[name]) if _COUNT.fullmatch(groups.get(name, "")) else -1
        if 1 <= number <= size:
            return number
    text = groups.get("well") or _spell_row(groups.get("row", "")) + groups.get("column", "")
    match = _WELL.fullmatch(text)
    try:
        return Well.parse(match[1] + match[2] if match else text)
    except InputError as error:
        names = ("well", "row", "column", *LINEAR_WELLS)
        shown = " and ".join(f"{name} {groups[name]!r}" for name in names if name in groups)
        raise InputError(
            f"expected a well such as A1, a01 or A-01, or its number from 1, in {path}, found "
            f"{shown or 'none'}: correct the pattern so that it fits wells only"
        ) from error


def _spell_row(text: str) -> str:
    """Spell a row's number in letters; none is numbered 0."""
    is_row = _COUNT.fullmatch(text) and 1 <= int(text) <= PLATE_SHAPES[1536][0]
    return row_name(int(text) - 1) if is_row else text


def _read_site(text: str, path: str) -> int:
    if not _COUNT.fullmatch(text):
        raise InputError(
            f"expected a whole number for the pattern's group site, found {text!r} in {path}: let "
            "the group fit digits only"
        )
    return int(text)


def _read_number(groups: Mapping[str, str], name: str, path: str) -> Decimal | None:
    text = groups.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise InputError(
            f"expected a number for the pattern's group {name}, found {text!r} in {path}: let the "
            "group fit a number only"
        )
    return Decimal(text)


def _one_plate(found: Sequence[_Found], folder: Path) -> str:
    first = {file.plate: file.path for file in reversed(found)}
    if len(first) > 1:
        shown = ", ".join(
            f"{plate or 'none'} ({path})" for plate, path in sorted(first.items())[:5]
        )
        raise InputError(
            f"expected the pattern to find one plate in {folder}, found {len(first)}: {shown}: "
            "give each plate a folder of its own, or name the plate in the pattern, such as "
            f"(?P<plate>{re.escape(max(first))})"
        )
    return next(iter(first))


def _plate_size(found: Sequence[_Found], groups: frozenset[str]) -> int | None:
    """Tell the wells of the plate where they are numbered, and where that matters; else None."""
    numbers = {file.well: file.path for file in found if isinstance(file.well, int)}
    told = next((size for name, size in LINEAR_WELLS.items() if name in groups), None)
    if told or not numbers:
        return told
    named = next((file.path for file in found if isinstance(file.well, Well)), None)
    largest = max(numbers)
    if named:
        raise InputError(
            f"expected wells by name or by number in the pattern's group well, found both "
            f"({named}, {numbers[largest]}): correct the pattern"
        )
    if largest <= 12:
        return None
    if largest < 384 and largest != 96:
        raise InputError(
            f"expected wells such as A1 in the pattern's group well, found numbers up to {largest} "
            f"({numbers[largest]}), which are other wells on another size of plate: name the "
            f"group {' or '.join(LINEAR_WELLS)}, as the plate is"
        )
    return min(size for size in PLATE_SHAPES if size >= largest)


def _list_deduced(size: int | None, groups: frozenset[str]) -> Iterator[str]:
    """Tell of a plate's size that nobody told: a larger plate, half imaged, would look alike."""
    if size in (96, 384) and "well" in groups:
        yield (
            f"the plate's size: taken for {size} wells by their numbers; name the pattern's group "
            f"well{size} to say so"
        )


def _channel_order(channel: str) -> tuple[bool, int, str]:
    is_number = bool(_COUNT.fullmatch(channel))
    return not is_number, int(channel) if is_number else 0, channel


def _count_from_zero(
    found: Sequence[_Found], size: int | None, folder: Path
) -> Iterator[ImageFile]:
    _check_times(found, folder)
    steps = {step: rank for rank, step in enumerate(_sort_numbers(file.z for file in found))}
    times = {time: rank for rank, time in enumerate(_sort_numbers(file.t for file in found))}
    _, columns = PLATE_SHAPES[size or 96]
    for file in found:
        well = file.well
        yield ImageFile(
            path=file.path,
            well=well if isinstance(well, Well) else Well(*divmod(well - 1, columns)),
            field=file.site,
            channel=file.channel,
            z=None if file.z is None else steps[file.z],
            t=None if file.t is None else times[file.t],
        )


def _check_times(found: Sequence[_Found], folder: Path) -> None:
    timed = next((file.path for file in found if file.t is not None), None)
    untimed = next((file.path for file in found if file.t is None), None)
    if timed and untimed:
        raise InputError(
            f"expected the pattern to find a time in each file of {folder} or in none, found one "
            f"in {timed} and none in {untimed}: correct the pattern"
        )


def _sort_numbers(numbers: Iterable[Decimal | None]) -> list[Decimal]:
    return sorted({number for number in numbers if number is not None})


def _list_gaps(found: Sequence[_Found]) -> Iterator[str]:
    kinds = {"z": [file.z for file in found], "t": [file.t for file in found]}
    for kind, values in kinds.items():
        pairs = list(pairwise(_sort_numbers(values)))
        narrowest = min((after - before for before, after in pairs), default=0)
        for before, after in pairs:
            if after - before > narrowest:
                yield f"{kind} between {before} and {after}: no image"


def _expect(images: Sequence[ImageFile]) -> list[FieldKey]:
    """Expect each site in each well; where no two wells share one, they count over the plate."""
    found = sorted({image.field_key for image in images})
    numbers = {key.field for key in found}
    return found if len(numbers) == len(found) else expect_fields(images)
