"""A bucket of Google Cloud Storage, or a prefix in one, as a lake's storage: by way of gcsfs.

What gcsfs tries again stays with it: single requests that meet a dropped connection or a 5xx. Here
whole files are tried again, which it does not: uploads whose checksum differs, torn downloads.
"""

import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import aiohttp
from gcsfs.core import GCSFileSystem

from phenopipe.digests import digest_file
from phenopipe.errors import InputError
from phenopipe.lake.gcs import in_words, send
from phenopipe.lake.lease import Lease
from phenopipe.lake.locks import Lock
from phenopipe.lake.storage import Storage, check_digest

LOCKS = ".locks"

# A killed run's locks fall free after this long; who is cut off for longer may have to start anew.
LEASE_S = 60.0

# gcsfs sets no limit by itself: a connection that has gone silent would hold a run for ever.
_TIMEOUT = aiohttp.ClientTimeout(total=300, sock_connect=30, sock_read=60)
_WAITS_S = (1.0, 4.0)
_FILES_AT_ONCE = 8
# Larger files go in several requests, of this size up and side by side down, each within the time
# limit; eight of them fit in memory.
_PART = 2**23
_LARGE = 2**26
_DIGEST = "blake3"


class Bucket:
    """A bucket or a prefix in it; see :class:`phenopipe.lake.storage.Storage`.

    Objects are put whole or not at all. Each carries its digest in its metadata, which every
    download is checked against. Locks are leases (:mod:`phenopipe.lake.lease`).

    Parameters
    ----------
    url
        Such as ``gs://bucket/prefix``.
    """

    def __init__(self, url: str) -> None:
        self.root = url.rstrip("/")
        self._top = self.root.split("://", 1)[1]
        self._connecting = threading.Lock()
        self._connected: tuple[int, Any] | None = None

    @property
    def _gcs(self) -> Any:
        """Connect once in each process: gcsfs does not survive a fork."""
        with self._connecting:
            if self._connected is None or self._connected[0] != os.getpid():
                self._connected = os.getpid(), self._connect()
            return self._connected[1]

    def _connect(self) -> Any:
        bucket = self._top.split("/", 1)[0]
        # Listings are not kept: others write here too.
        gcs = GCSFileSystem(
            use_listings_cache=False, requests_timeout=_TIMEOUT, skip_instance_cache=True
        )
        try:
            with in_words(self.root):
                gcs.call("GET", "b/{}/o", bucket, maxResults=1)
        except (FileNotFoundError, ValueError) as error:
            raise InputError(
                f"expected the bucket {bucket} of root {self.root}, found none of that name: make "
                "it (gcloud storage buckets create), or correct the root"
            ) from error
        return gcs

    def _key(self, path: str) -> str:
        return f"{self._top}/{path}"

    def link(self, path: str) -> str:
        """Give the URL of Google's storage browser."""
        return f"https://storage.cloud.google.com/{self._key(path)}"

    def read(self, path: str) -> bytes:
        """Read an object."""
        with in_words(f"{self.root}/{path}"):
            content: bytes = self._gcs.cat_file(self._key(path))
            return content

    def put(self, path: str, content: bytes, *, lock: Lock | None) -> None:
        """Make an object that is not there yet, if the lease is still held.

        The lease is renewed just before. What remains: a request that the network holds back for
        longer than the lease is good, while no renewal comes through, may land when another run
        has taken over; that run then finds the object and stops.

        Raises
        ------
        OSError
            If another run has taken over the lease, or made the object.
        """
        if lock is not None:
            lock.confirm()
        try:
            with in_words(f"{self.root}/{path}"):
                send(self._gcs, self._key(path), content, create=True)
        except FileExistsError:
            # It may be ours: the answer to the first request was lost, and gcsfs asked again.
            if self.read(path) != content:
                raise OSError(
                    f"expected to be the only run that puts {self.root}/{path}, found it put by "
                    "another: start again"
                ) from None

    def list_names(self, folder: str, *, depth: int) -> list[str]:
        """List level by level, so that what lies deeper costs nothing."""
        level = [folder]
        for _ in range(depth - 1):
            level = [name for name, is_folder in self._list_each(level) if is_folder]
        return sorted(name for name, _ in self._list_each(level))

    def _list_each(self, folders: list[str]) -> list[tuple[str, bool]]:
        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            return [found for listed in pool.map(self._list_folder, folders) for found in listed]

    def _list_folder(self, folder: str) -> list[tuple[str, bool]]:
        try:
            with in_words(f"{self.root}/{folder}"):
                found = self._gcs.ls(self._key(folder), detail=True)
        except FileNotFoundError:
            return []
        named = ((self._relative(item["name"].rstrip("/")), item["type"]) for item in found)
        return [(name, kind == "directory") for name, kind in named if name != folder]

    def _relative(self, key: str) -> str:
        return key.removeprefix(f"{self._top}/")

    def list_files(self, path: str) -> dict[str, str | None]:
        """List a folder's objects with the digests that they carry: one request a thousand."""
        return {name: _carried(found) for name, found in self._find(path).items()}

    def _find(self, path: str) -> dict[str, dict[str, Any]]:
        with in_words(f"{self.root}/{path}"):
            found = self._gcs.find(self._key(path), detail=True)
        top = PurePosixPath(self._key(path))
        return {str(PurePosixPath(key).relative_to(top)): found[key] for key in sorted(found)}

    def list_sizes(self, path: str) -> dict[str, int]:
        """List a folder's objects with their sizes: one request a thousand."""
        return {name: found["size"] for name, found in self._find(path).items()}

    def export(self, path: str, place: Path, *, size: int, digest: str) -> None:
        """Download in one request, or in parts."""
        known = {"name": self._key(path), "size": size, "metadata": {_DIGEST: digest}}
        self._download(known, place)

    def receive(self, path: str, source: Storage, *, size: int, digest: str) -> None:  # noqa: ARG002
        """Upload; the server checks the MD5 of what arrives."""
        with source.fetched(path) as file:
            check_digest(file, digest, where=f"{source.root}/{path}")
            self._upload(file, path)

    def digest(self, path: str, names: Iterable[str]) -> dict[str, str]:
        """Download objects and digest them."""
        found = self._find(path) if names else {}
        if lost := sorted(set(names) - found.keys()):
            raise FileNotFoundError(f"expected {lost[0]} in {self.root}/{path}, found none")
        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            digests = pool.map(self._digest, (found[name] for name in names))
            return dict(zip(names, digests, strict=True))

    def _digest(self, found: dict[str, Any]) -> str:
        with tempfile.TemporaryDirectory(prefix="phenopipe-") as folder:
            place = Path(folder, "object")
            _persist(lambda: self._get(found, place))
            return digest_file(place)

    def _get(self, found: dict[str, Any], place: Path) -> None:
        options = {} if found["size"] >= _LARGE else {"concurrency": 1}
        with in_words(f"gs://{found['name']}"):
            self._gcs.get_file(found["name"], str(place), **options)

    def remove(self, path: str) -> None:
        """Delete an object, or all below a prefix."""
        keys = [found["name"] for found in self._find(path).values()]
        try:
            with in_words(f"{self.root}/{path}"):
                self._gcs.rm(keys)
        except FileNotFoundError:
            # There was none, or another run deleted it first.
            pass

    @contextmanager
    def draft(self, path: str) -> Iterator[Path]:
        """Give a path in a temporary folder; upload what lies there in the end."""
        with tempfile.TemporaryDirectory(prefix="phenopipe-") as folder:
            place = Path(folder, PurePosixPath(path).name)
            yield place
            files = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
            names = [file.relative_to(place).as_posix() for file in files]
            keys = [str(PurePosixPath(path, name)) for name in names]
            with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
                list(pool.map(self._upload, files, keys))

    def _upload(self, file: Path, path: str) -> None:
        key, metadata = self._key(path), {_DIGEST: digest_file(file)}
        small = file.stat().st_size < _PART

        def upload() -> None:
            with in_words(f"{self.root}/{path}"):
                if small:
                    send(self._gcs, key, file.read_bytes(), metadata=metadata)
                else:
                    parts = {"chunksize": _PART, "consistency": "md5"}
                    self._gcs.put_file(str(file), key, metadata=metadata, **parts)

        _persist(upload)

    @contextmanager
    def fetched(self, path: str) -> Iterator[Path]:
        """Download to a temporary folder."""
        found = self._find(path)
        if not found:
            raise FileNotFoundError(f"expected {self.root}/{path}, found nothing")
        with tempfile.TemporaryDirectory(prefix="phenopipe-") as folder:
            place = Path(folder, PurePosixPath(path).name)
            with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
                list(pool.map(self._download, found.values(), (place / name for name in found)))
            yield place

    @contextmanager
    def opened(self, path: str) -> Iterator[BinaryIO]:
        """Open an object; just the parts that are read are asked for."""
        with in_words(f"{self.root}/{path}"), self._gcs.open(self._key(path), "rb") as file:
            yield file

    def _download(self, found: dict[str, Any], place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)

        def download() -> None:
            self._get(found, place)
            size, digest = place.stat().st_size, _carried(found)
            if size != found["size"] or digest not in {None, digest_file(place)}:
                raise OSError(
                    f"expected gs://{found['name']} as it was drafted, found other bytes: it is "
                    "damaged, or is being written anew"
                )

        _persist(download)

    @contextmanager
    def lock(self, path: str, *, wait: bool) -> Iterator[Lease | None]:
        """Hold a lease, once it is sure whether another that holds it lives."""
        lease = Lease(self._gcs, self._key(path), good_for_s=LEASE_S)
        if not lease.take(wait=wait):
            yield None
            return
        try:
            yield lease
        finally:
            lease.release()

    def is_free(self, path: str) -> bool:
        """Look whether there is a lease that is still good."""
        return Lease(self._gcs, self._key(path), good_for_s=LEASE_S).is_free()

    def leftovers(self, folder: str, *, depth: int) -> list[tuple[str, str]]:  # noqa: ARG002
        """List leases; those that are good are no leftovers, but their locks are not free."""
        names = sorted(self._find(f"{LOCKS}/{folder}"))
        return [(f"{folder}/{n.removesuffix('.lock')}", f"{LOCKS}/{folder}/{n}") for n in names]


def _carried(found: dict[str, Any]) -> str | None:
    """Give the digest that an object carries; a tool other than the lake may have put it."""
    digest: str | None = found.get("metadata", {}).get(_DIGEST)
    return digest


def _persist(transfer: Callable[[], None]) -> None:
    """Try a transfer again after what can pass."""
    for wait_s in _WAITS_S:
        try:
            return transfer()
        except FileNotFoundError:
            raise
        except OSError:
            time.sleep(wait_s * random.uniform(0.8, 1.2))  # noqa: S311, no secret
    return transfer()
