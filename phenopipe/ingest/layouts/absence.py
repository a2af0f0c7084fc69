"""Telling what a plate lacks: each thing once, at the highest level that lacks it."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from phenopipe.ingest.index import ImageFile
from phenopipe.plates import FieldKey, Well


def list_absent(
    images: Sequence[ImageFile], absent: Sequence[ImageFile], *, prefix: str
) -> Iterator[str]:
    """Name each well, field or image that is absent once, at the highest level that is.

    Parameters
    ----------
    images
        The images that are there.
    absent
        Those that are not.
    prefix
        What stands before a channel's token in the vendor's file names: ``w``, ``ch``.

    Examples
    --------
    >>> a01, a02 = Well.parse("A01"), Well.parse("A02")
    >>> there = [ImageFile("a", a01, 1, "1")]
    >>> gone = [ImageFile("", a01, 1, "2"), ImageFile("", a02, 1, "1"), ImageFile("", a02, 1, "2")]
    >>> list(list_absent(there, gone, prefix="w"))
    ['A01 field 1: no image of w2', 'well A02: no image']
    """
    wells = {image.well for image in images}
    fields = {image.field_key for image in images}
    lines = (_absent_line(image, wells, fields, prefix) for image in absent)
    yield from dict.fromkeys(lines)


def expect_fields(images: Iterable[ImageFile]) -> list[FieldKey]:
    """Expect of each well the fields that any well has, sorted.

    Examples
    --------
    >>> a01, a02 = Well.parse("A01"), Well.parse("A02")
    >>> there = [ImageFile("a", a01, 0, "1"), ImageFile("b", a02, 1, "1")]
    >>> [str(key) for key in expect_fields(there)]
    ['A01 field 0', 'A01 field 1', 'A02 field 0', 'A02 field 1']
    """
    found = {image.field_key for image in images}
    numbers = sorted({key.field for key in found})
    wells = sorted({key.well for key in found})
    return [FieldKey(well, number) for well in wells for number in numbers]


def _absent_line(image: ImageFile, wells: set[Well], fields: set[FieldKey], prefix: str) -> str:
    if image.well not in wells:
        return f"well {image.well}: no image"
    if image.field_key not in fields:
        return f"{image.field_key}: no image"
    return f"{image.field_key}: no image of {_name_plane(image, prefix)}"


def _name_plane(image: ImageFile, prefix: str) -> str:
    z = "" if image.z is None else f" z={image.z}"
    t = "" if image.t is None else f" t={image.t}"
    return f"{prefix}{image.channel}{z}{t}"


def list_unmet(
    images: Sequence[ImageFile], promised: Sequence[ImageFile], *, by: str, prefix: str
) -> Iterator[str]:
    """Name the channels, z-steps, time points and planes that are promised and no field has.

    Parameters
    ----------
    images
        The images that are there, at least one.
    promised
        All that the vendor's index lists, there or not.
    by
        The index that promises them, for the lines.
    prefix
        What stands before a channel's token in the vendor's file names.

    Examples
    --------
    >>> a01 = Well.parse("A01")
    >>> promised = [ImageFile("", a01, 1, channel, z=z) for channel in "12" for z in (0, 1)]
    >>> list(list_unmet(promised[:1], promised, by="Index.xml", prefix="ch"))
    ['ch2 promised by Index.xml: no image', 'z=1 promised by Index.xml: no image']
    """
    planes = {image.plane for image in images}
    channels, steps, times = (set(values) for values in zip(*planes, strict=True))
    unmet = [
        image
        for image in {image.plane: image for image in promised}.values()
        if image.plane not in planes
    ]
    lines = [
        *(f"{prefix}{image.channel}" for image in unmet if image.channel not in channels),
        *(f"z={image.z}" for image in unmet if image.z not in steps),
        *(f"t={image.t}" for image in unmet if image.t not in times),
        *(
            _name_plane(image, prefix)
            for image in unmet
            if image.channel in channels and image.z in steps and image.t in times
        ),
    ]
    yield from (f"{line} promised by {by}: no image" for line in dict.fromkeys(lines))


def list_gaps(numbers: Iterable[int], *, kind: str, spell: str) -> Iterator[str]:
    """Name the gaps in the numbers that files or folders are given.

    Parameters
    ----------
    numbers
        The numbers found, in any order.
    kind
        What is counted, for the lines.
    spell
        How the vendor writes a number, with ``{}`` in its place.

    Examples
    --------
    >>> list(list_gaps([1, 2, 5], kind="z-steps", spell="ZStep_{}"))
    ['z-steps between ZStep_2 and ZStep_5: no image']
    """
    for before, after in pairwise(sorted(set(numbers))):
        if after - before > 1:
            yield f"{kind} between {spell.format(before)} and {spell.format(after)}: no image"
