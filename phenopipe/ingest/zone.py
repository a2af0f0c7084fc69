"""One scan of a landing zone: what it knows before it looks, and what it makes of a folder."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from phenopipe.errors import InputError
from phenopipe.ingest.arrival import Sighting, count_arrival, judge_arrival
from phenopipe.ingest.delivery import compare_delivery, read_delivery
from phenopipe.ingest.detect import read_layout
from phenopipe.ingest.index import PlateIndex
from phenopipe.ingest.landing import (
    Landed,
    Snapshot,
    read_landed_files,
    record_landing,
    stamp_platemap,
    take_snapshot,
)
from phenopipe.ingest.layouts import Layout
from phenopipe.ingest.platemap import find_platemap, orphans, platemap_table, read_plate_rows
from phenopipe.ingest.source import digest_path
from phenopipe.ingest.tables import name_some
from phenopipe.lake import Lake, ledger, plate_image
from phenopipe.lake import platemap as platemap_thing
from phenopipe.plates import PlateKey, clean_name


@dataclass(frozen=True)
class Zone:
    """A landing zone at the time of one scan.

    Parameters
    ----------
    source
        The folder of plates.
    lake
        Where plates are published.
    layout, pattern, layouts
        How plates are read, and the layouts that this leaves.
    quiet_s
        Seconds for which nothing may change in a plate that is still being taken or copied.
    now_s
        Seconds since 1970.
    landed
        What was ingested, in the order of its ingestion.
    before
        What the scan before found.
    """

    source: Path
    lake: Lake
    layout: str
    pattern: str | None
    layouts: Mapping[str, Layout]
    quiet_s: float
    now_s: float
    landed: Sequence[Landed]
    before: Sequence[Sighting]
    _platemaps: dict[Path, tuple[Path | None, str]] = field(default_factory=dict)

    @cached_property
    def by_folder(self) -> dict[Path, Landed]:
        """What was ingested, by its folder."""
        return {one.folder: one for one in self.landed}

    @cached_property
    def containers(self) -> set[Path]:
        """The folders above plates that were ingested."""
        return {above for one in self.landed for above in one.folder.parents}

    @cached_property
    def _by_key(self) -> dict[PlateKey, Landed]:
        return {one.key: one for one in self.landed if one.current}

    @cached_property
    def _before(self) -> dict[Path, Sighting]:
        return {one.folder: one for one in self.before}

    def look(self, folder: Path) -> Sighting:
        """Look at one plate's folder; it is opened only if it is not as when it was ingested."""
        try:
            snapshot = take_snapshot(folder)
            platemap, look = self._find_platemap(folder)
        except InputError as error:
            return Sighting(folder, "refused", str(error))
        landed = self.by_folder.get(folder)
        as_it_was = landed and landed.current and landed.digest == snapshot.digest
        # A platemap that was taken away withdraws nothing.
        if landed and as_it_was and (platemap is None or landed.platemap == look):
            return Sighting(folder, "ingested", "", landed.key)
        seen = Sighting(folder, "arriving", "", None, snapshot, platemap, look)
        return self._stands(seen, snapshot) or self._open(seen, snapshot)

    def _find_platemap(self, folder: Path) -> tuple[Path | None, str]:
        if folder.parent not in self._platemaps:
            found = find_platemap(folder.parent) or find_platemap(self.source)
            self._platemaps[folder.parent] = (found, stamp_platemap(found))
        return self._platemaps[folder.parent]

    def _stands(self, seen: Sighting, snapshot: Snapshot) -> Sighting | None:
        """Give what was said of the folder before, if nothing was done about it since."""
        before = self._before.get(seen.folder)
        if before is None or before.state not in {"changed", "failed"}:
            return None
        if before.key is None or before.snapshot is None:
            return None
        looked = (before.snapshot.digest, before.platemap_look, before.published)
        looks = (snapshot.digest, seen.platemap_look, self._published(before.key))
        return before if looked == looks else None

    def _published(self, key: PlateKey) -> str:
        told = self.lake.manifest(ledger(key))
        return told.key if told and self.lake.manifest(plate_image(key)) else ""

    def _quiet_s(self, snapshot: Snapshot) -> float:
        return self.now_s - snapshot.changed_ns / 1e9

    def _open(self, seen: Sighting, snapshot: Snapshot) -> Sighting:
        try:
            index = read_layout(seen.folder, self.layout, pattern=self.pattern)
            key = PlateKey(clean_name(seen.folder.parent.name), clean_name(index.plate))
            rows = read_plate_rows(seen.platemap, key)
            known = replace(seen, key=key, published=self._published(key))
            if known.published:
                return self._compare(known, key, snapshot, index, rows)
        except (InputError, OSError) as error:
            # The vendor's index, or the platemap, may be half written.
            quiet = self._quiet_s(snapshot) >= self.quiet_s
            return replace(seen, state="refused" if quiet else "arriving", why=str(error))
        return self._judge_new(known, snapshot, index, rows)

    def _judge_new(
        self, seen: Sighting, snapshot: Snapshot, index: PlateIndex, rows: pd.DataFrame
    ) -> Sighting:
        if former := self._find_former(snapshot):
            why = (
                f"has the files of {former.key}, whose folder {former.folder} is gone: give it its "
                "former name, or run phenopipe ingest if it is to be a plate of its own"
            )
            return replace(seen, state="changed", why=why)
        arrival = count_arrival(index, snapshot)
        quiet_s = self._quiet_s(snapshot)
        state, why = judge_arrival(arrival, quiet_s=quiet_s, quiet_minutes=self.quiet_s / 60)
        lacking = orphans(rows, index.wells, shape=index.shape).without_image
        if lacking:
            why = (
                f"{why}; {len(lacking):,} wells of the platemap lack images ({name_some(lacking)})"
            )
        return replace(seen, state=state, why=why)

    def _find_former(self, snapshot: Snapshot) -> Landed | None:
        same = (one for one in self._by_key.values() if one.digest == snapshot.digest)
        return next((one for one in same if not one.folder.exists()), None)

    def _compare(
        self,
        seen: Sighting,
        key: PlateKey,
        snapshot: Snapshot,
        index: PlateIndex,
        rows: pd.DataFrame,
    ) -> Sighting:
        """Hold the folder of a published plate against its ledger."""
        landed = self._by_key.get(key)
        looked = read_landed_files(self.lake, key) if landed else {}
        if looked != snapshot.files and self._quiet_s(snapshot) < self.quiet_s:
            return replace(seen, why="published already, and still changing")
        published = read_delivery(self.lake, key) or {}
        same = {path for path, look in snapshot.files.items() if looked.get(path) == look}
        delivery = compare_delivery(published, _digest(index, snapshot, published, same))
        if not delivery.same:
            where = "" if landed is None else f" from {landed.folder}"
            why = (
                f"{delivery} since it was ingested{where}: let it take the place of the first "
                "(phenopipe ingest --replace), or give it another name"
            )
            return replace(seen, state="changed", why=why)
        if seen.platemap and not self._has_rows(key, rows):
            return replace(seen, state="complete", why="its platemap is new or was changed")
        if landed is None or landed.folder == seen.folder or not landed.folder.exists():
            record_landing(self.lake, key, seen.folder, snapshot, platemap=seen.platemap_look)
        return replace(seen, state="ingested")

    def _has_rows(self, key: PlateKey, rows: pd.DataFrame) -> bool:
        if self.lake.manifest(platemap_thing(key)) is None:
            return False
        with self.lake.fetched(platemap_thing(key)) as path:
            return bool(pq.read_table(path).equals(platemap_table(rows)))


# Files digested together.
_READERS = 4


def _digest(
    index: PlateIndex, snapshot: Snapshot, published: Mapping[str, str], same: set[str]
) -> dict[str, str]:
    """Digest a plate's files, but for those that look as they did when they were published."""
    used = {*index.metadata_files, *(image.path for image in index.images)}
    known = {path: published[path] for path in used & same & published.keys()}
    unknown = sorted(used - known.keys())
    with ThreadPoolExecutor(_READERS) as pool:
        digests = [
            file.digest for file in pool.map(digest_path, [index.folder / p for p in unknown])
        ]
    return dict.fromkeys(snapshot.files, "") | known | dict(zip(unknown, digests, strict=True))
