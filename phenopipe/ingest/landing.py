"""What a plate's folder looks like from outside, and the lake's memory of what was ingested.

A landing zone is looked at again and again, and its files are read once. What remembers them is
one thing a plate, ``landing/<experiment>/<plate>.parquet``: path, size and time of each file, as
they were before the plate was ingested. A folder that still looks so is not opened.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from phenopipe.digests import digest_bytes
from phenopipe.errors import InputError
from phenopipe.lake import Lake, Manifest, Recipe, Thing, landing, ledger, plate_image
from phenopipe.plates import PlateKey

STAGE_VERSION = 1
# Manifests read at a time: on object storage each is a request of some 50 ms.
_READERS = 16
# Names of a record's inputs that lie outside the lake.
_SOURCE = "source:folder"
_PLATEMAP = "source:platemap"


@dataclass(frozen=True)
class Snapshot:
    """Every file below a folder, by its path there: size in bytes, and time in ns since 1970.

    `changed_ns` is when the folder last changed, and `began_ns` when its first file came, by the
    clock of the machine that holds it.
    """

    files: Mapping[str, tuple[int, int]]
    changed_ns: int
    began_ns: int = 0

    @cached_property
    def digest(self) -> str:
        """Digest of all paths, sizes and times."""
        rows = (f"{path}\0{size}\0{time}" for path, (size, time) in sorted(self.files.items()))
        return digest_bytes("\n".join(rows).encode(errors="surrogateescape"))


def take_snapshot(folder: Path) -> Snapshot:
    """Look at every file below a folder, with one call each; nothing is opened or touched.

    The last change is the newest of the files' times of content and of status, and of the folders'
    own: copying programs give a copy the content's old time, but status is set by the machine that
    holds the copy (``st_ctime``: POSIX; on Windows, when the copy was made). The first file's
    coming is the oldest such time of a file.

    Raises
    ------
    InputError
        If a folder cannot be read.
    """
    files: dict[str, tuple[int, int]] = {}
    changed_ns, came_ns = 0, []
    try:
        for path, stat in _walk(folder):
            changed_ns = max(changed_ns, stat.st_mtime_ns, stat.st_ctime_ns)
            if not path.endswith("/"):
                files[path] = (stat.st_size, stat.st_mtime_ns)
                came_ns.append(stat.st_ctime_ns)
    except OSError as error:
        raise InputError(
            f"expected a folder that can be read, found {error.filename or folder} "
            f"({error.strerror}): check the path and your rights"
        ) from error
    return Snapshot(files, changed_ns, min(came_ns, default=changed_ns))


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Give the path of each file and, with a slash behind, of each folder; and its times."""
    pending = [""]
    yield "/", folder.stat()
    while pending:
        inner = pending.pop()
        with os.scandir(folder / inner) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                path = f"{inner}{entry.name}/" if is_folder else inner + entry.name
                # A file that went since it was listed was renamed, as copying programs do.
                with suppress(FileNotFoundError):
                    yield path, entry.stat()
                if is_folder:
                    pending.append(path)


@dataclass(frozen=True)
class Landed:
    """One plate that was ingested, and how its folder looked then.

    Parameters
    ----------
    key, folder
        The plate, and where it lay.
    digest
        Its snapshot's.
    platemap
        How the platemap looked; ``""`` where there was none.
    current
        Whether the plate is still published as it was then.
    """

    key: PlateKey
    folder: Path
    digest: str
    platemap: str
    current: bool


def read_landed(lake: Lake) -> list[Landed]:
    """Read which plates were ingested from a landing zone, in the order of their ingestion."""
    things = lake.published("landing")
    images = set(lake.published("images"))
    with ThreadPoolExecutor(_READERS) as pool:
        manifests = [m for m in pool.map(lake.manifest, things) if m]
        changed = list(pool.map(lake.changed_inputs, (m.inputs for m in manifests)))
    found = zip(manifests, changed, strict=True)
    ordered = sorted(found, key=lambda item: item[0].finished)
    return [_read_manifest(manifest, images, current=not new) for manifest, new in ordered]


def _read_manifest(manifest: Manifest, images: set[Thing], *, current: bool) -> Landed:
    told = manifest.parameters
    key = PlateKey(told["experiment"], told["plate"])
    return Landed(
        key=key,
        folder=Path(told["folder"]),
        digest=manifest.inputs[_SOURCE],
        platemap=manifest.inputs[_PLATEMAP],
        current=current and plate_image(key) in images,
    )


def read_landed_files(lake: Lake, key: PlateKey) -> dict[str, tuple[int, int]]:
    """Read the size and time of each file of a plate's folder, as it was when it was ingested."""
    with lake.fetched(landing(key)) as path:
        table = pq.read_table(path)
    columns = (table[name].to_pylist() for name in ("path", "size", "time_ns"))
    return {path: (size, time) for path, size, time in zip(*columns, strict=True)}


def record_landing(
    lake: Lake, key: PlateKey, folder: Path, snapshot: Snapshot, *, platemap: str = ""
) -> None:
    """Remember how a plate's folder looked before it was ingested; the plate is published.

    Parameters
    ----------
    lake, key
        The plate.
    folder
        Where it lies.
    snapshot
        Taken before its files were read, so that what changed meanwhile is seen as a change.
    platemap
        How its platemap looked: `stamp_platemap`.

    Raises
    ------
    InputError
        If the plate is not published.
    """
    started = datetime.now(UTC)
    thing = landing(key)
    told = lake.require(ledger(key), remedy="ingest the plate first")
    inputs = {ledger(key).path: told.key, _SOURCE: snapshot.digest, _PLATEMAP: platemap}
    named = {"experiment": key.experiment, "plate": key.plate, "folder": str(folder)}
    recipe = Recipe("watch", STAGE_VERSION, inputs, named)
    with lake.writing(thing):
        with lake.draft(thing) as path:
            pq.write_table(_tabulate(snapshot), path)
        lake.publish(thing, recipe, counts={"files": len(snapshot.files)}, started=started)


def stamp_platemap(path: Path | None) -> str:
    """Digest how a platemap looks, and what it may be joined with; ``""`` for none.

    Its content is not read: path, size and time of the file, and of those in the folders beside it
    that hold maps by name and tables of perturbations.
    """
    if path is None:
        return ""
    beside = (path.parent / name for name in ("platemap", "external_metadata"))
    files = [path, *(file for folder in beside for file in _list_files(folder))]
    looks = {str(file): (file.stat().st_size, file.stat().st_mtime_ns) for file in files}
    return Snapshot(looks, 0).digest


def _list_files(folder: Path) -> Iterable[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else ()


def _tabulate(snapshot: Snapshot) -> pa.Table:
    # Names that are no text (of another code page) are spelled in ASCII.
    rows = sorted(
        (path.encode(errors="backslashreplace").decode(), look)
        for path, look in snapshot.files.items()
    )
    return pa.table(
        {
            "path": pa.array([path for path, _ in rows], pa.string()),
            "size": pa.array([size for _, (size, _) in rows], pa.int64()),
            "time_ns": pa.array([time for _, (_, time) in rows], pa.int64()),
        }
    )
