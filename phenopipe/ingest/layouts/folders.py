"""Listing folders: in one order everywhere, and never past an unreadable one in silence."""

import os
from collections.abc import Iterator
from pathlib import Path

from phenopipe.errors import InputError


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """List the names of the files and of the folders in a folder, both sorted.

    A link to a folder counts as a file: it is not followed, so no walk can run in a circle.

    Raises
    ------
    InputError
        If the folder is not there or cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found)
    except OSError as error:
        raise InputError(
            f"expected a folder that can be read, found {folder} ({error.strerror}): "
            "check the path and your rights"
        ) from error
    files = [name for name, is_folder in entries if not is_folder]
    return files, [name for name, is_folder in entries if is_folder]


def walk_files(folder: Path) -> Iterator[str]:
    """Give the path of every file below the folder, relative to it and with ``/``, in order.

    Raises
    ------
    InputError
        If a folder cannot be read.
    """
    files, folders = list_folder(folder)
    yield from files
    for name in folders:
        yield from (f"{name}/{path}" for path in walk_files(folder / name))
