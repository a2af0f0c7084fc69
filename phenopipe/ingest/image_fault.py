"""What is wrong with an image file that gives no image; and how large one may be."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

FaultKind = Literal[
    "missing",
    "unreadable",
    "empty_file",
    "not_an_image",
    "truncated",
    "corrupt",
    "unsupported",
    "too_large",
]

# A camera's field is below 100 MB; this bounds a worker's memory whatever a header declares.
MAX_BYTES = 2**30


class ImageFault(Exception):  # noqa: N818 (a fault of the file, recorded and not fatal)
    """A file that gives no image, and why.

    Parameters
    ----------
    kind
        One of `FaultKind`.
    path
        The file.
    text
        What was expected and found.

    Examples
    --------
    >>> str(ImageFault("truncated", "B03_w1.tif", "expected 512 bytes of pixels, found 100"))
    'B03_w1.tif is truncated: expected 512 bytes of pixels, found 100'
    """

    def __init__(self, kind: FaultKind, path: str | Path, text: str) -> None:
        # All three as args: an exception is pickled by them when it travels from a worker.
        super().__init__(kind, str(path), text)
        self.kind: FaultKind = kind
        self.path = str(path)
        self.text = text

    def __str__(self) -> str:
        return f"{self.path} is {self.kind.replace('_', ' ')}: {self.text}"


@contextmanager
def name_faults(path: str | Path) -> Iterator[None]:
    """Name what a decoder raises: on damaged bytes that is any exception there is.

    Raises
    ------
    ImageFault
        In place of whatever the body raises.
    """
    try:
        yield
    except ImageFault:
        raise
    except MemoryError as error:
        raise ImageFault("too_large", path, "it does not fit into memory") from error
    except NotImplementedError as error:
        raise ImageFault("unsupported", path, str(error)) from error
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ImageFault("corrupt", path, f"{type(error).__name__}: {text}") from error
