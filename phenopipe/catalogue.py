"""The lake as a whole: what is published, stale or half-written; re-read digests; sweep."""

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from zlib import crc32

from phenopipe.compute import Progress
from phenopipe.lake import PATTERNS, SKIPPED, Lake, Manifest, Thing, changed_inputs
from phenopipe.plates import PlateKey

# Manifests read at a time: on object storage each is a request of some 50 ms.
_READERS = 16


@dataclass(frozen=True, order=True, slots=True)
class Entry:
    """One thing of the lake and its state.

    ``published``, ``incomplete``, ``stale``, ``damaged`` or ``half-written``.
    """

    thing: str
    state: str
    why: str = ""

    def as_row(self) -> dict[str, str]:
        """Give the entry as a row of a table."""
        return asdict(self)


def describe_lake(lake: Lake) -> list[Entry]:
    """List every thing under the root with its state, sorted by path.

    A published thing is *stale* where one of its inputs has been published anew, or is gone. It is
    *incomplete* where fields were skipped that its stage could not live through.
    A thing is *half-written* where data lie without a manifest: a run was stopped there, or is
    still at work.
    """
    published = _published(lake)
    data = {thing for kind in PATTERNS for thing in lake.data(kind)}
    with ThreadPoolExecutor(_READERS) as pool:
        manifests = dict(zip(published, pool.map(lake.manifest, published), strict=True))
    keys = {thing: manifest.key for thing, manifest in manifests.items() if manifest}
    judged = {thing: _judge(manifest, keys, data) for thing, manifest in manifests.items()}
    judged |= {thing: ("half-written", "") for thing in data if thing not in keys}
    return sorted(Entry(thing.path, *told) for thing, told in judged.items())


def list_plates(lake: Lake) -> list[PlateKey]:
    """List the plates whose image is published, sorted."""
    return sorted(PlateKey(*_plate_of(thing.path).split("/")) for thing in lake.published("images"))


def tabulate_plates(entries: Iterable[Entry]) -> list[dict[str, str]]:
    """Tell plates by stages, from :func:`describe_lake`.

    A stage is in the state of what it publishes; ``missing`` where there is nothing of it, and
    ``begun`` where there are pieces that the next run will take up.

    Returns
    -------
    list of dict
        ``experiment``, ``plate``, ``ingest`` and one key ``embed:<model>`` a model, by plate.
    """
    states = {entry.thing: entry.state for entry in entries}
    begun = {Thing(path).guard.path for path in states if path.startswith("pieces/")}
    tables = begun | {path for path in states if path.startswith("embeddings/")}
    models = sorted({path.split("/")[1] for path in tables})
    images = {path for path in states if path.startswith("images/")}
    waiting = {path for path in begun if states.get(path) in (None, "half-written")}
    states |= dict.fromkeys(waiting, "begun")
    plates = sorted({_plate_of(path) for path in images | tables})
    return [
        {
            "experiment": plate.split("/")[0],
            "plate": plate.split("/")[1],
            "ingest": states.get(f"images/{plate}.zarr", "missing"),
            **{
                f"embed:{model}": states.get(f"embeddings/{model}/{plate}.parquet", "missing")
                for model in models
            },
        }
        for plate in plates
    ]


def verify_lake(
    lake: Lake, *, part: int = 0, parts: int = 1, on_progress: Progress | None = None
) -> list[Entry]:
    """Re-read every published file and list what differs from its manifest's digest.

    What a run publishes anew meanwhile is left alone.

    Parameters
    ----------
    part, parts
        Read only this part of so many, from 0: each thing is in the same one each time, so that
        a lake can be read bit by bit.
    on_progress
        Called with the things that were read, and their number.

    Returns
    -------
    list of Entry
        Empty where all is as it was published; else the thing, ``damaged`` and which files.
    """
    chosen = [thing for thing in _published(lake) if crc32(thing.path.encode()) % parts == part]
    damaged = []
    for done, thing in enumerate(chosen, start=1):
        if why := _differences(lake, thing):
            damaged.append(Entry(thing.path, "damaged", "; ".join(why)))
        if on_progress:
            on_progress(done, len(chosen))
    return damaged


def sweep_lake(lake: Lake, *, dry_run: bool = False) -> list[str]:
    """Remove what no manifest vouches for, and pieces that no run will take up.

    That is half-written data and drafts of manifests; and pieces of embeddings that are published,
    or whose image was published anew. What a running stage is writing is left alone: its lock is
    held.

    Returns
    -------
    list of str
        Paths under the root that were removed, or would be, sorted.
    """
    torn = [(thing, thing.path) for thing in _unpublished(lake)]
    removed = [
        path
        for thing, path in [*torn, *lake.leftovers()]
        if (lake.is_free(thing) if dry_run else _remove(lake, thing, path))
    ]
    spent = [
        piece.path
        for piece in lake.published("pieces")
        if _is_spent(lake, piece)
        and (lake.is_free(piece) if dry_run else _clear_piece(lake, piece))
    ]
    return sorted([*removed, *spent])


def _is_spent(lake: Lake, piece: Thing) -> bool:
    manifest = lake.manifest(piece)
    if manifest is None:
        return False
    return lake.manifest(piece.guard) is not None or bool(lake.changed_inputs(manifest.inputs))


def _clear_piece(lake: Lake, piece: Thing) -> bool:
    with lake.try_lock(piece) as free:
        if free:
            lake.clear(piece)
        return free


def _remove(lake: Lake, thing: Thing, path: str) -> bool:
    if not lake.is_free(thing):
        return False
    with lake.try_lock(thing) as free:
        # A run may have published it between the listing and the lock.
        vain = free and (path != thing.path or lake.manifest(thing) is None)
        if vain:
            lake.remove(path)
        return vain


def _published(lake: Lake) -> list[Thing]:
    return [thing for kind in PATTERNS for thing in lake.published(kind)]


def _unpublished(lake: Lake) -> list[Thing]:
    return [thing for kind in PATTERNS for thing in lake.unpublished(kind)]


def _judge(
    manifest: Manifest | None, keys: Mapping[Thing, str], data: Collection[Thing]
) -> tuple[str, str]:
    # It went between the listing and the reading: a run has begun to write it anew.
    if manifest is None:
        return "half-written", ""
    if Thing(manifest.thing) not in data:
        return "damaged", "its data are gone"
    if changed := changed_inputs(manifest.inputs, keys.get):
        return "stale", f"changed since: {', '.join(changed)}"
    if skipped := manifest.counts.get(SKIPPED):
        return "incomplete", f"fields skipped: {skipped}; its metadata name them (skipped_fields)"
    return "published", ""


def _differences(lake: Lake, thing: Thing) -> list[str]:
    manifest = lake.manifest(thing)
    if manifest is None:
        return []
    try:
        found = lake.digest_files(thing)
    except FileNotFoundError:
        if lake.manifest(thing) == manifest:
            raise
        return []
    names = sorted(manifest.files.keys() | found.keys())
    differences = [
        f"{name}: {_difference(manifest.files.get(name), found.get(name))}"
        for name in names
        if manifest.files.get(name) != found.get(name)
    ]
    # What a run wrote anew between both looks is of another manifest, or of none yet.
    return differences if differences and lake.manifest(thing) == manifest else []


def _difference(published: str | None, found: str | None) -> str:
    if found is None:
        return "is gone"
    return "was not published" if published is None else "has other bytes"


def _plate_of(path: str) -> str:
    return "/".join(path.removesuffix(".zarr").removesuffix(".parquet").split("/")[-2:])
