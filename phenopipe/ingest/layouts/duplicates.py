"""Refusing two files for one image."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from phenopipe.errors import InputError
from phenopipe.ingest.index import ImageFile


def refuse_duplicates(images: Iterable[ImageFile], folder: Path, *, prefix: str) -> None:
    """Refuse images of which two are the same field, channel, z and t.

    Parameters
    ----------
    images
        The images found.
    folder
        The plate's folder, for the message.
    prefix
        What stands before a channel's token in the vendor's file names: ``w``, ``ch``.

    Raises
    ------
    InputError
        Naming both files.
    """
    seen: dict[Any, str] = {}
    for image in images:
        first = seen.setdefault((image.field_key, image.plane), image.path)
        if first != image.path:
            raise InputError(
                f"expected one file for {prefix}{image.channel} of {image.field_key} in {folder}, "
                f"found {first} and {image.path}: move one away, or give each acquisition's "
                "folder by itself"
            )
