"""The lake as a whole: what is published, stale or half-written; re-read digests; sweep."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from phenopipe.lake import PATTERNS, Lake, Thing
from phenopipe.plates import PlateKey


@dataclass(frozen=True, order=True, slots=True)
class Entry:
    """One thing of the lake and its state: ``published``, ``stale`` or ``half-written``."""

    thing: str
    state: str
    why: str = ""

    def as_row(self) -> dict[str, str]:
        """Give the entry as a row of a table."""
        return asdict(self)


def describe_lake(lake: Lake) -> list[Entry]:
    """List every thing under the root with its state, sorted by path.

    A published thing is *stale* where one of its inputs has been published anew, or is gone.
    A thing is *half-written* where data lie without a manifest: a run was stopped there, or is
    still at work.
    """
    entries = [Entry(thing.path, *_judge(lake, thing)) for thing in _published(lake)]
    half_written = (Entry(thing.path, "half-written") for thing in _unpublished(lake))
    return sorted([*entries, *half_written])


def list_plates(lake: Lake) -> list[PlateKey]:
    """List the plates whose image is published, sorted."""
    return sorted(PlateKey(*_plate_of(thing.path).split("/")) for thing in lake.published("images"))


def tabulate_plates(entries: Iterable[Entry]) -> list[dict[str, str]]:
    """Tell plates by stages, from :func:`describe_lake`: ``published``, ``stale`` or ``missing``.

    Returns
    -------
    list of dict
        ``experiment``, ``plate``, ``ingest`` and one key ``embed:<model>`` a model, by plate.
    """
    states = {entry.thing: entry.state for entry in entries}
    models = sorted({path.split("/")[1] for path in states if path.startswith("embeddings/")})
    plates = sorted(
        {_plate_of(path) for path in states if path.startswith(("images/", "embeddings/"))}
    )
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


def verify_lake(lake: Lake) -> list[Entry]:
    """Re-read every published file and list what differs from its manifest's digest.

    Returns
    -------
    list of Entry
        Empty where all is as it was published; else the thing, ``damaged`` and which files.
    """
    found = ((thing, _differences(lake, thing)) for thing in _published(lake))
    return [Entry(thing.path, "damaged", "; ".join(why)) for thing, why in found if why]


def sweep_lake(lake: Lake, *, dry_run: bool = False) -> list[str]:
    """Remove what no manifest vouches for: half-written data and drafts of manifests.

    What a running stage is writing is left alone: its lock is held.

    Returns
    -------
    list of str
        Paths under the root that were removed, or would be, sorted.
    """
    swept = [thing.path for thing in _unpublished(lake) if _remove(lake, thing, dry_run=dry_run)]
    for thing, draft in ((thing, draft) for kind in PATTERNS for thing, draft in lake.drafts(kind)):
        with lake.try_lock(thing) as free:
            if free and not dry_run:
                draft.unlink(missing_ok=True)
        swept += [draft.relative_to(lake.root).as_posix()] if free else []
    return sorted(swept)


def _remove(lake: Lake, thing: Thing, *, dry_run: bool) -> bool:
    with lake.try_lock(thing) as free:
        # A run may have published it between the listing and the lock.
        half_written = free and lake.manifest(thing) is None
        if half_written and not dry_run:
            lake.clear(thing)
        return half_written


def _published(lake: Lake) -> list[Thing]:
    return [thing for kind in PATTERNS for thing in lake.published(kind)]


def _unpublished(lake: Lake) -> list[Thing]:
    return [thing for kind in PATTERNS for thing in lake.unpublished(kind)]


def _judge(lake: Lake, thing: Thing) -> tuple[str, str]:
    manifest = lake.require(thing, remedy="run the stage again")
    if not lake.path(thing).exists():
        return "damaged", "its data are gone"
    changed = lake.changed_inputs(manifest.inputs)
    return ("stale", f"changed since: {', '.join(changed)}") if changed else ("published", "")


def _differences(lake: Lake, thing: Thing) -> list[str]:
    manifest = lake.require(thing, remedy="run the stage again")
    found = lake.digest_files(thing)
    names = sorted(manifest.files.keys() | found.keys())
    return [
        f"{name}: {_difference(manifest.files.get(name), found.get(name))}"
        for name in names
        if manifest.files.get(name) != found.get(name)
    ]


def _difference(published: str | None, found: str | None) -> str:
    if found is None:
        return "is gone"
    return "was not published" if published is None else "has other bytes"


def _plate_of(path: str) -> str:
    return "/".join(path.removesuffix(".zarr").removesuffix(".parquet").split("/")[-2:])
