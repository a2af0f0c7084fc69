"""Files outside the lake: there when they are whole, and never in another's place."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phenopipe.errors import InputError


def check_free(out: str | Path) -> Path:
    """Return the path of a local file that can be made.

    Raises
    ------
    InputError
        If it is a URL, is there already, or its folder is not.
    """
    path = Path(out)
    if "://" in str(out):
        raise InputError(
            f"expected a local file to export to, found {out}: export to a folder, then copy it"
        )
    if path.exists():
        raise InputError(
            f"expected a file that is not there yet, found {path}: choose another name, or remove "
            "it first"
        )
    if not path.parent.is_dir():
        raise InputError(
            f"expected the folder {path.parent} for {path.name}, found none: make it first"
        )
    return path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a draft's path beside the file; rename it when all is written, else remove it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield draft
        # Another run may have made it meanwhile.
        check_free(path)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
