"""From what a vendor's index lists, and what is there, to a plate's index."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from phenopipe.ingest.index import ImageFile, PlateIndex, find_absent, sort_images
from phenopipe.ingest.layouts.absence import expect_fields, list_absent, list_unmet
from phenopipe.ingest.layouts.duplicates import refuse_duplicates
from phenopipe.ingest.layouts.labels import label_channels
from phenopipe.ingest.layouts.records import (
    ImageRecord,
    count_images,
    find_places,
    find_time_step_s,
    find_z_step_um,
    sort_channels,
)
from phenopipe.ingest.layouts.shape import fit_shape
from phenopipe.plates import FieldKey


@dataclass(frozen=True)
class Listing:
    """What a vendor's index says of a plate, or the names of its files where there is none.

    Parameters
    ----------
    by
        The index's path, for messages; empty where there is none.
    records
        The images listed, each once.
    plate
        The plate's name.
    names
        Name of each channel token, where the index has one.
    shape, shape_by
        Rows and columns of the plate, and the file that says so, where one does.
    pixel_size_um
        Side of a pixel in micrometres, where the index says.
    lacking
        What the index itself lacks or reports as failed, one line each.
    failed
        Fields of which the index reports a failed image.
    metadata_files
        The files that were read for this.
    """

    by: str
    records: tuple[ImageRecord, ...]
    plate: str
    names: Mapping[str, str] = field(default_factory=dict)
    shape: tuple[int, int] | None = None
    shape_by: str = ""
    pixel_size_um: float | None = None
    lacking: tuple[str, ...] = ()
    failed: frozenset[FieldKey] = frozenset()
    metadata_files: tuple[str, ...] = ()


def index_plate(
    listing: Listing,
    found: Sequence[ImageRecord],
    *,
    folder: Path,
    layout: str,
    reason: str,
    prefix: str,
    ignored: Sequence[tuple[str, str]],
) -> PlateIndex:
    """Index a plate by what is listed and those of the listed images that are there.

    z and t are ranks among all that is listed, so a plane that is nowhere leaves its gap.

    Parameters
    ----------
    listing
        What the index says.
    found
        The records whose file is there, at least one.
    folder, layout, reason, ignored
        As in `PlateIndex`.
    prefix
        What stands before a channel's token in the vendor's file names.

    Raises
    ------
    InputError
        If two files are the same image, or a well lies off the plate.
    """
    planes = {record.plane for record in listing.records if record.plane is not None}
    times = {record.time for record in listing.records}
    channels = sort_channels(found)
    images = sort_images(count_images(found, planes=planes, times=times), channels)
    refuse_duplicates(images, folder, prefix=prefix)
    promised = count_images(listing.records, planes=planes, times=times)
    absent = sort_images(find_absent(images, _expected_fields(listing, images)), channels)
    wells = {image.well for image in images}
    return PlateIndex(
        folder=folder,
        layout=layout,
        reason=reason,
        plate=listing.plate,
        images=images,
        channels=label_channels({c: listing.names.get(c, "") for c in channels}, prefix=prefix),
        shape=fit_shape(wells, listing.shape, by=listing.shape_by, folder=folder),
        ignored=tuple(sorted(ignored)),
        missing=tuple(_list_missing(listing, images, absent, promised, prefix)),
        absent=absent,
        pixel_size_um=listing.pixel_size_um,
        metadata_files=tuple(sorted(listing.metadata_files)),
        z_step_um=find_z_step_um(listing.records),
        time_step_s=find_time_step_s(listing.records),
        places=find_places(found),
        expected=len(listing.records) if listing.by else None,
    )


def _expected_fields(listing: Listing, images: Sequence[ImageFile]) -> set[FieldKey]:
    """Expect what is listed; by names alone, the same fields in each well."""
    if not listing.by:
        return set(expect_fields(images))
    return {record.field_key for record in listing.records} | listing.failed


def _list_missing(
    listing: Listing,
    images: Sequence[ImageFile],
    absent: Sequence[ImageFile],
    promised: Sequence[ImageFile],
    prefix: str,
) -> list[str]:
    return [
        *listing.lacking,
        *list_unmet(images, promised, by=listing.by, prefix=prefix),
        *list_absent(images, absent, prefix=prefix),
    ]
