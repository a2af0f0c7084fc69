"""The stage: one plate's folder to a plate image, its QC, ledger and platemap."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from distributed import Client

from phenopipe.compute import Progress
from phenopipe.config import IngestConfig
from phenopipe.errors import InputError
from phenopipe.ingest.channels import name_channels, read_channels
from phenopipe.ingest.delivery import compare_delivery, read_delivery
from phenopipe.ingest.detect import read_layout
from phenopipe.ingest.index import PlateIndex
from phenopipe.ingest.planes import pick_planes
from phenopipe.ingest.plate_fields import ingest_fields
from phenopipe.ingest.plate_things import list_things, write_things
from phenopipe.ingest.platemap import orphans, platemap_table, read_plate_rows
from phenopipe.ingest.recipes import image_recipes, platemap_recipe
from phenopipe.ingest.source import SourceFile, digest_source
from phenopipe.lake import Lake, PlateRef, ledger, plate_image
from phenopipe.lake import platemap as platemap_thing
from phenopipe.plates import PlateKey, clean_name

_log = logging.getLogger(__name__)


def ingest_plate(
    folder: str | Path,
    lake: Lake,
    *,
    client: Client,
    config: IngestConfig | None = None,
    platemap: str | Path | None = None,
    experiment: str | None = None,
    replace: bool = False,
    on_progress: Progress | None = None,
) -> PlateRef:
    """Ingest one plate: publish its image, QC, ledger and platemap.

    Parameters
    ----------
    folder
        The plate's folder, as the microscope wrote it.
    lake
        Where to publish.
    client
        The cluster that reads and writes fields; it must see both folders.
    config
        How; the defaults if None.
    platemap
        A table of one or many plates, or a folder with one (see `read_plate_rows`); without one
        the published platemap has no row.
    experiment
        The plate's experiment (batch); by default the name of the folder above the plate's.
    replace
        Whether a plate that was delivered with other files is ingested anew, in their place.
    on_progress
        Called with the number of fields that are done, and of all.

    Returns
    -------
    PlateRef
        ``computed`` is False where all was published already, from the same files and settings.

    Raises
    ------
    InputError
        If the folder, the platemap or the file of channels cannot be read as such, if no field of
        the plate can, if the plate was published from other files, or if a file changes
        meanwhile. One damaged file costs its field, and stands in the ledger.
    """
    config = config or IngestConfig()
    folder = Path(folder).absolute()
    index = _read_index(folder, config)
    key = PlateKey(experiment or clean_name(folder.parent.name), clean_name(index.plate))
    plan = _Plan(lake, key, index, read_plate_rows(platemap, key), config)
    files: Mapping[str, SourceFile] | None = _digest_again(plan, replace=replace)
    computed = _publish_platemap(plan, given=platemap is not None)
    if files is None or not plan.is_current(files):
        computed = True
        files = _publish_images(plan, files or {}, client=client, on_progress=on_progress)
    return plan.ref(files, computed=computed)


@dataclass(frozen=True)
class _Plan:
    """What is to be published of one plate, and from what."""

    lake: Lake
    key: PlateKey
    index: PlateIndex
    rows: pd.DataFrame
    config: IngestConfig

    def is_current(self, files: Mapping[str, SourceFile]) -> bool:
        """Tell whether all that comes of these images is published."""
        recipes = image_recipes(self.key, self.index, files, self.config)
        return all(self.lake.is_current(thing, recipe) for thing, recipe in recipes.items())

    def ref(self, files: Mapping[str, SourceFile], *, computed: bool) -> PlateRef:
        """Refer to what was published."""
        recipes = image_recipes(self.key, self.index, files, self.config)
        counts: dict[str, int] = {}
        for thing in (*recipes, platemap_thing(self.key)):
            counts |= self.lake.require(thing, remedy="ingest the plate again").counts
        main = plate_image(self.key)
        return PlateRef(
            experiment=self.key.experiment,
            plate=self.key.plate,
            thing=main.path,
            key=recipes[main].key,
            computed=computed,
            counts=counts,
        )


def _read_index(folder: Path, config: IngestConfig) -> PlateIndex:
    index = read_layout(folder, config.layout, pattern=config.pattern)
    if config.channels is not None:
        index = name_channels(index, read_channels(config.channels))
    return pick_planes(index, z=config.z, t=config.t)


def _digest_again(plan: _Plan, *, replace: bool) -> dict[str, SourceFile] | None:
    """Digest the files of a plate that was published before; None where none was.

    A plate that is new is digested while it is read: its files are read once.
    """
    published = read_delivery(plan.lake, plan.key)
    if published is None:
        return None
    files = digest_source(plan.index, plan.config)
    delivery = compare_delivery(published, {path: f.digest for path, f in files.items()})
    if delivery.same or replace:
        return files
    told = plan.lake.require(ledger(plan.key), remedy="ingest the plate again")
    raise InputError(
        f"expected {plan.key} as it was delivered before {told.finished:%Y-%m-%d %H:%M} UTC, found "
        f"{delivery} in {plan.index.folder}: give it another name (--experiment), or let it take "
        "the place of the first (--replace)"
    )


def _publish_images(
    plan: _Plan,
    known: Mapping[str, SourceFile],
    *,
    client: Client,
    on_progress: Progress | None,
) -> Mapping[str, SourceFile]:
    """Ingest the fields and publish what comes of them; give the digests of the files."""
    started = datetime.now(UTC)
    lake, key, index, config = plan.lake, plan.key, plan.index, plan.config
    for line in index.missing:
        _log.warning("%s: missing: %s", key, line)
    with lake.writing(*list_things(key)):
        fields = ingest_fields(
            lake, key, index, known=known, config=config, client=client, on_progress=on_progress
        )
        recipes = image_recipes(key, index, fields.files, config)
        for thing, done in write_things(lake, key, index, fields, config=config).items():
            lake.publish(
                thing, recipes[thing], counts=done.counts, started=started, files=done.files
            )
    return fields.files


def _publish_platemap(plan: _Plan, *, given: bool) -> bool:
    """Publish the plate's rows, unless that is done; tell whether there was anything to do."""
    thing = platemap_thing(plan.key)
    recipe = platemap_recipe(plan.key, plan.index, plan.rows)
    if plan.lake.is_current(thing, recipe):
        return False
    started = datetime.now(UTC)
    unmatched = orphans(plan.rows, plan.index.wells, shape=plan.index.shape)
    if not given:
        _log.warning("%s: no platemap was given: its wells have no perturbation", plan.key)
    elif unmatched:
        _log.warning("%s: %s", plan.key, unmatched)
    counts = {
        "platemap_rows": len(plan.rows),
        "wells_without_row": len(unmatched.without_row),
        "rows_without_image": len(unmatched.without_image),
        "rows_off_plate": len(unmatched.off_plate),
    }
    with plan.lake.writing(thing):
        with plan.lake.draft(thing) as path:
            pq.write_table(platemap_table(plan.rows), path)
        plan.lake.publish(thing, recipe, counts=counts, started=started)
    return True
