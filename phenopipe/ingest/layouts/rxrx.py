"""Recursion's public RxRx data sets: ``<experiment>/Plate<n>/<well>_s<site>_w<1-6>.png``.

What is decided here, where the data sets leave it open:

- The plate is its folder, whatever that is named; the experiment is the folder above it.
- File names tell no stains, and data sets differ in them: a label is the token, ``w1``.
- Images in folders inside the plate's are not the plate's.
"""

import re
from pathlib import Path

from phenopipe.errors import InputError
from phenopipe.ingest.index import ImageFile, PlateIndex, find_absent, sort_images
from phenopipe.ingest.layouts.absence import expect_fields, list_absent
from phenopipe.ingest.layouts.duplicates import refuse_duplicates
from phenopipe.ingest.layouts.folders import list_folder, walk_files
from phenopipe.plates import Well, plate_shape

_NAME = re.compile(
    r"(?P<well>[A-Z]{1,2}\d{2})_s(?P<site>\d{1,4})_w(?P<channel>[1-6])\.png",
    re.IGNORECASE | re.ASCII,
)
_SHAPE = "<well>_s<site>_w<1-6>.png"


class RxRx:
    """The layout of RxRx1, RxRx2, RxRx19 and RxRx3; see the module's text."""

    name = "rxrx"

    def recognise(self, folder: Path) -> str | None:
        """Say why the folder is an RxRx plate; None where no image in it is named like one."""
        names, _ = list_folder(folder)
        found = next((name for name in names if isinstance(_classify(name), ImageFile)), None)
        return None if found is None else f"{found} is named {_SHAPE}"

    def read(self, folder: Path) -> PlateIndex:
        """Index every file of one RxRx plate's folder.

        Raises
        ------
        InputError
            If the folder holds no plate, or two files for one image.
        """
        files = {path: _classify(path) for path in walk_files(folder)}
        found = [image for image in files.values() if isinstance(image, ImageFile)]
        if not found:
            raise InputError(
                f"expected images named {_SHAPE} in {folder}, found none among {len(files)} "
                "files: give the plate's own folder"
            )
        channels = {token: f"w{token}" for token in sorted({image.channel for image in found})}
        images = sort_images(found, list(channels))
        refuse_duplicates(images, folder, prefix="w")
        absent = sort_images(find_absent(images, expect_fields(images)), list(channels))
        return PlateIndex(
            folder=folder,
            layout=self.name,
            reason=f"{images[0].path} is named {_SHAPE}",
            plate=folder.resolve().name,
            images=images,
            channels=channels,
            shape=plate_shape([image.well for image in images]),
            ignored=tuple((path, why) for path, why in files.items() if isinstance(why, str)),
            missing=tuple(list_absent(images, absent, prefix="w")),
            absent=absent,
        )


def _classify(path: str) -> ImageFile | str:
    """Read an image file's name, or say why it is none of the plate's images."""
    inner, _, name = path.rpartition("/")
    match = _NAME.fullmatch(name)
    if name.startswith("."):
        return "hidden file"
    if match is None:
        return f"not named {_SHAPE}"
    if inner:
        return "in a folder inside the plate's"
    try:
        well = Well.parse(match["well"])
    except InputError:
        return f"no plate has a well {match['well']}"
    return ImageFile(path=path, well=well, field=int(match["site"]), channel=match["channel"])
