"""Where the lake's bytes lie: files by their path under one root, a local folder or a bucket."""

import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO, Protocol

from phenopipe.digests import digest_file
from phenopipe.errors import InputError
from phenopipe.lake.locks import Lock, flock

# What is behind the name of data in that of a draft of its manifest, or of it.
_DRAFT = re.compile(r"(\.json\.\d+)?\.part$")


class Storage(Protocol):
    """Files by their path under a root, such as ``qc/HUVEC-1/Plate3.parquet``.

    A path may also name a folder: all files whose paths begin with it and a slash. A file that is
    not there is a `FileNotFoundError`; what disk or network do is another `OSError`.

    Attributes
    ----------
    root
        The folder's absolute path, or the bucket's URL.
    """

    root: str

    def link(self, path: str) -> str:
        """Give the URL at which a browser finds the file."""
        ...

    def read(self, path: str) -> bytes:
        """Read a file."""
        ...

    def put(self, path: str, content: bytes, *, lock: Lock | None) -> None:
        """Put a whole file at once, if the lock holds still."""
        ...

    def list_names(self, folder: str, *, depth: int) -> list[str]:
        """List the files and folders that lie just so deep below a folder, by path."""
        ...

    def list_files(self, path: str) -> dict[str, str | None]:
        """List a folder's files by their sorted path in it, or ``.`` for a file.

        With the digest that each was drafted with, where the storage keeps these.
        """
        ...

    def list_sizes(self, path: str) -> dict[str, int]:
        """List a folder's files, as `list_files` does, with their bytes."""
        ...

    def digest(self, path: str, names: Iterable[str]) -> dict[str, str]:
        """Read files of a folder, as `list_files` names them, and digest them."""
        ...

    def export(self, path: str, place: Path, *, size: int, digest: str) -> None:
        """Copy a file to a local path; an `OSError` unless it has that size and digest."""
        ...

    def receive(self, path: str, source: "Storage", *, size: int, digest: str) -> None:
        """Copy the file of that path from another storage, checked, whole or not at all."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file, or a folder and all in it; there need not be any."""
        ...

    def draft(self, path: str) -> AbstractContextManager[Path]:
        """Give a local path to write a file or folder to; it is kept if the block ends well."""
        ...

    def fetched(self, path: str) -> AbstractContextManager[Path]:
        """Give a local path to read a file or folder from, as long as the block lasts."""
        ...

    def opened(self, path: str) -> AbstractContextManager[BinaryIO]:
        """Open a file to read parts of it, as long as the block lasts."""
        ...

    def lock(self, path: str, *, wait: bool) -> AbstractContextManager[Lock | None]:
        """Hold a lock; yields None where another holds it, unless told to wait."""
        ...

    def is_free(self, path: str) -> bool:
        """Tell whether nobody holds the lock."""
        ...

    def leftovers(self, folder: str, *, depth: int) -> list[tuple[str, str]]:
        """List what killed runs left beside data so deep below a folder: data's path, its own."""
        ...


class LocalFolder:
    """A local folder; see :class:`Storage`.

    Files are put by renaming.
    """

    def __init__(self, root: str | Path) -> None:
        self._folder = Path(root).absolute()
        self.root = str(self._folder)

    def link(self, path: str) -> str:
        """Give the file's ``file://`` URL."""
        return (self._folder / path).as_uri()

    def read(self, path: str) -> bytes:
        """Read a file."""
        return (self._folder / path).read_bytes()

    def put(self, path: str, content: bytes, *, lock: Lock | None) -> None:  # noqa: ARG002
        """Write beside the place, then rename."""
        draft = self._folder / f"{path}.{os.getpid()}.part"
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._folder / path)

    def list_names(self, folder: str, *, depth: int) -> list[str]:
        """List what lies just so deep, but for drafts of `put`."""
        found = (self._folder / folder).glob("/".join("*" * depth))
        names = (path.relative_to(self._folder).as_posix() for path in found)
        return sorted(name for name in names if not name.endswith(".part"))

    def list_files(self, path: str) -> dict[str, str | None]:
        """List a folder's files; a disk keeps no digests."""
        top = self._folder / path
        found = [top] if top.is_file() else (file for file in top.rglob("*") if file.is_file())
        return dict.fromkeys(sorted(file.relative_to(top).as_posix() for file in found))

    def list_sizes(self, path: str) -> dict[str, int]:
        """Ask the disk for each file's size."""
        top = self._folder / path
        return {name: (top / name).stat().st_size for name in self.list_files(path)}

    def digest(self, path: str, names: Iterable[str]) -> dict[str, str]:
        """Read files and digest them."""
        names = list(names)
        with ThreadPoolExecutor() as pool:
            digests = pool.map(digest_file, (self._folder / path / name for name in names))
            return dict(zip(names, digests, strict=True))

    def export(self, path: str, place: Path, *, size: int, digest: str) -> None:  # noqa: ARG002
        """Copy, and read what was written."""
        shutil.copyfile(self._folder / path, place)
        check_digest(place, digest, where=f"{self.root}/{path}")

    def receive(self, path: str, source: Storage, *, size: int, digest: str) -> None:
        """Write beside the place until it is on the disk, then rename."""
        place = self._folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f"{place.name}.part")
        source.export(path, draft, size=size, digest=digest)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(place)

    def remove(self, path: str) -> None:
        """Remove a file or folder."""
        place = self._folder / path
        if place.is_dir():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)

    @contextmanager
    def draft(self, path: str) -> Iterator[Path]:
        """Give the place itself."""
        place = self._folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        yield place

    @contextmanager
    def fetched(self, path: str) -> Iterator[Path]:
        """Give the place itself."""
        yield self._folder / path

    def opened(self, path: str) -> AbstractContextManager[BinaryIO]:
        """Open the file itself."""
        return (self._folder / path).open("rb")

    def lock(self, path: str, *, wait: bool) -> AbstractContextManager[Lock | None]:
        """Hold an flock: a killed run never blocks the next."""
        return flock(self._folder / path, wait=wait)

    def is_free(self, path: str) -> bool:
        """Take the lock and give it back."""
        if not (self._folder / path).exists():
            return True
        with self.lock(path, wait=False) as lock:
            return lock is not None

    def leftovers(self, folder: str, *, depth: int) -> list[tuple[str, str]]:
        """List drafts of `put` and of `receive`."""
        found = (self._folder / folder).glob("/".join("*" * depth) + ".part")
        names = (path.relative_to(self._folder).as_posix() for path in found)
        return sorted((_DRAFT.sub("", name), name) for name in names)


def open_storage(root: str | Path) -> Storage:
    """Open a local folder, which need not be there yet, or a bucket, which must.

    Raises
    ------
    InputError
        If the root is a URL of another kind, or gcsfs is not installed.
    """
    scheme, found, _ = str(root).partition("://")
    if not found:
        return LocalFolder(root)
    if scheme != "gs":
        raise InputError(
            f"expected a local folder or gs://bucket/prefix as root, found {root}: mount it, or "
            "copy the data"
        )
    return _open_bucket(str(root))


def check_digest(file: Path, digest: str, *, where: str) -> None:
    """Read a local file again; an `OSError` unless it has the digest."""
    if digest_file(file) != digest:
        raise OSError(
            f"expected {where} as it was published, found other bytes: it is damaged (`phenopipe "
            "verify` tells), or is being written anew"
        )


@cache
def _open_bucket(url: str) -> Storage:
    """Open a bucket once a process: a worker gets the lake anew with each task."""
    # The lake's errors say what went wrong, without the traceback that gcsfs logs.
    if "GCSFS_DEBUG" not in os.environ:
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    try:
        from phenopipe.lake.bucket import Bucket  # noqa: PLC0415, gcsfs is an extra
    except ImportError as error:
        raise InputError(
            f"expected gcsfs to be installed for the root {url}, found {error}: "
            "pip install 'phenopipe[gcp]'"
        ) from error
    return Bucket(url)
