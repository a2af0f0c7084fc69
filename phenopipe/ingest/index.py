"""What a vendor's folder holds: one record an image file, and the plate's own facts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from phenopipe.plates import FieldKey, Well


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image file of a plate, or one plane of it, as its name and place tell.

    `channel` is the vendor's own token (``"1"`` for ``_w1``). `z` and `t` count from 0; None means
    that the file has no such token: a single plane or projection, a single time point. Images
    without `z` are an acquisition of their own beside a z-stack of the same field. `path` is empty
    where the image is absent. `page` says which plane of a file that holds several, counted from 0
    over the leading axes of the decoded array ``(…, y, x)``; None where the file is one plane.
    """

    path: str
    well: Well
    field: int
    channel: str
    z: int | None = None
    t: int | None = None
    page: int | None = None

    @property
    def field_key(self) -> FieldKey:
        """The field that the image belongs to."""
        return FieldKey(self.well, self.field)

    @property
    def plane(self) -> tuple[str, int | None, int | None]:
        """Channel token, z and t: which plane of the field this is."""
        return self.channel, self.z, self.t


@dataclass(frozen=True, slots=True)
class Place:
    """Where and when a field was taken, as far as the vendor tells.

    Parameters
    ----------
    x_um, y_um, z_um
        The stage's position in micrometres; x grows to the right and y downwards, as in the
        image. In which frame (the plate's or the well's) is the vendor's own.
    acquired
        When the field's first image was taken, with its time zone; UTC where the vendor gives
        none.
    """

    x_um: float | None = None
    y_um: float | None = None
    z_um: float | None = None
    acquired: datetime | None = None


@dataclass(frozen=True)
class PlateIndex:
    """What a layout read of one plate's folder.

    Every file in the folder is an image, a metadata file or ignored with its reason.

    Parameters
    ----------
    folder
        The plate's folder; paths below are relative to it, with ``/``.
    layout, reason
        The layout that read it, and why it was chosen.
    plate
        The plate's name, as the vendor wrote it.
    images
        Sorted by well, field, t, z and channel.
    channels
        Label of each channel token, in the order of the plate image's channel axis; unique.
    shape
        Rows and columns of the plate.
    ignored
        Path and reason of every other file: thumbnails, masks, strays.
    missing
        What was promised (by the vendor's own index) or implied (by the other fields), and is not
        there: one line each.
    absent
        The images that a field lacks and others of the plate have: these cost the field.
    pixel_size_um
        Side of a pixel in micrometres, where the vendor tells.
    metadata_files
        The vendor's own index files (HTD …): inputs of the plate's digest, not images.
    z_step_um, time_step_s
        Distance of z-steps in micrometres and of time points in seconds, where the vendor tells.
    places
        Where and when each field was taken, of the fields for which the vendor tells.
    illumination
        The file of each channel token's illumination function, relative to the folder: an array
        ``(y, x)`` by which an image is divided where that is asked for.
    expected
        Number of images that the vendor's own index promises; None where it promises none.
    """

    folder: Path
    layout: str
    reason: str
    plate: str
    images: tuple[ImageFile, ...]
    channels: Mapping[str, str]
    shape: tuple[int, int]
    ignored: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()
    absent: tuple[ImageFile, ...] = ()
    pixel_size_um: float | None = None
    metadata_files: tuple[str, ...] = ()
    z_step_um: float | None = None
    time_step_s: float | None = None
    places: Mapping[FieldKey, Place] = field(default_factory=dict)
    illumination: Mapping[str, str] = field(default_factory=dict)
    expected: int | None = None

    @property
    def fields(self) -> list[FieldKey]:
        """The fields that have an image, sorted."""
        return sorted({image.field_key for image in self.images})

    @property
    def wells(self) -> list[Well]:
        """The wells that have an image, sorted."""
        return sorted({image.well for image in self.images})


def sort_images(images: Iterable[ImageFile], channels: Sequence[str]) -> tuple[ImageFile, ...]:
    """Sort by well, field, t, z and channel; a file without z or t comes first.

    Examples
    --------
    >>> a01 = Well.parse("A01")
    >>> files = [ImageFile("b", a01, 1, "2"), ImageFile("c", a01, 1, "1", z=0),
    ...          ImageFile("a", a01, 1, "1")]
    >>> [image.path for image in sort_images(files, ["1", "2"])]
    ['a', 'b', 'c']
    """
    order = {channel: number for number, channel in enumerate(channels)}

    def key(image: ImageFile) -> tuple[FieldKey, int, int, int, str]:
        z = -1 if image.z is None else image.z
        t = -1 if image.t is None else image.t
        return image.field_key, t, z, order[image.channel], image.path

    return tuple(sorted(images, key=key))


def keep_images(index: PlateIndex, keep: Callable[[ImageFile], bool], *, reason: str) -> PlateIndex:
    """Keep some images of a plate; the files of the others are ignored, for the reason.

    A file stays an image where another plane of it is kept.
    """
    images = tuple(image for image in index.images if keep(image))
    others = {image.path for image in index.images} - {image.path for image in images}
    return replace(
        index,
        images=images,
        absent=tuple(image for image in index.absent if keep(image)),
        ignored=tuple(sorted([*index.ignored, *((path, reason) for path in others)])),
    )


def find_absent(images: Sequence[ImageFile], expected: Iterable[FieldKey]) -> list[ImageFile]:
    """List the images that an expected field lacks and another field has, with an empty path.

    A plane that no field has (a wave taken in one z-step only, or only as a projection) is not
    absent: such ragged stacks are legal.

    Examples
    --------
    >>> a01 = Well.parse("A01")
    >>> files = [ImageFile("a", a01, 1, "1"), ImageFile("b", a01, 1, "2"),
    ...          ImageFile("c", a01, 2, "1")]
    >>> find_absent(files, [FieldKey(a01, 1), FieldKey(a01, 2)])
    [ImageFile(path='', well=Well(row=0, column=0), field=2, channel='2', z=None, t=None, \
page=None)]
    """
    found = {(image.field_key, image.plane) for image in images}
    planes = list(dict.fromkeys(image.plane for image in images))
    return [
        ImageFile("", key.well, key.field, *plane)
        for key in sorted(expected)
        for plane in planes
        if (key, plane) not in found
    ]
