"""The stage: published embeddings of one model become a map."""

import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr
from distributed import Client

from phenopipe.compute import Progress
from phenopipe.config import MapConfig
from phenopipe.embeddings import Embeddings, find_embeddings
from phenopipe.genome import Symbols
from phenopipe.lake import Lake, Manifest, MapRef, Recipe, Thing, map_part
from phenopipe.maps.aggregate import Profiles, aggregate_guides, aggregate_perturbations
from phenopipe.maps.dataset import make_dataset
from phenopipe.maps.genes import gene_inputs, open_levels, open_symbols
from phenopipe.maps.guides import Agreement, check_guides, describe_agreement
from phenopipe.maps.relations import top_neighbours
from phenopipe.maps.store import write_zarr
from phenopipe.maps.stream import Exclusion, FittedMap, align_wells, fit_map, gather_wells
from phenopipe.maps.wells import plate_key, qc_inputs
from phenopipe.profiles import read_wells
from phenopipe.schema import check_map

STAGE_VERSION = 3

# The map comes last: with its manifest all are there.
_PARTS = ("wells.parquet", "alignment.zarr", "neighbours.parquet", "map.zarr")


def build_map(
    lake: Lake,
    *,
    name: str,
    model: str = "classical",
    experiments: Sequence[str] | None = None,
    config: MapConfig | None = None,
    client: Client | None = None,
    on_progress: Progress | None = None,
) -> MapRef:
    """Align, aggregate and correct the published embeddings of a model into a map.

    Crops are averaged to wells plate by plate; wells are aligned on each experiment's negative
    controls, brought together to guides and to perturbations; then genes are corrected by
    chromosome arm. Memory grows with perturbations and batches, not with wells: these lie in
    files, of the size of two times all wells' vectors at most, in the system's temporary folder
    (``TMPDIR``) until they are published.

    Parameters
    ----------
    lake
        Where embeddings are read and the map is published.
    name
        The map's name.
    model
        Whose embeddings.
    experiments
        Experiments to take; all that are published if None. An experiment is a batch.
    config
        Filters, alignment, aggregation, correction, number of neighbours and tables of genes.
    client
        Where plates are read and averaged side by side; here, one by one, if None. The map is the
        same to the byte.
    on_progress
        Called with plates read and plates in all.

    Returns
    -------
    MapRef
        ``counts``: perturbations, wells, batches, plates.

    Raises
    ------
    InputError
        If nothing is published, plates differ in model or width, an experiment has no controls,
        no perturbation is left, or a table of genes cannot be used.
    """
    config = config or MapConfig()
    found = find_embeddings(lake, model, experiment=experiments)
    recipe = _write_recipe(found, config)
    things = {part: map_part(name, part) for part in _PARTS}
    if all(lake.is_current(thing, recipe) for thing in things.values()):
        published = lake.require(things["map.zarr"], remedy="run `phenopipe map`")
        return MapRef.of(name, published, computed=False)
    started = datetime.now(UTC)
    symbols, levels = open_symbols(config.genes), open_levels(config.genes)
    with TemporaryDirectory(prefix="phenopipe-") as folder:
        wells = Path(folder, "wells.parquet")
        fitted, n_wells = _stream_wells(found, wells, config, client, on_progress)
        known = fitted.levels if levels is None else levels
        dataset = _make_map(wells, fitted, known, symbols, config)
        batches = sorted({plate_key(plate).experiment for plate in found.plates})
        dataset.attrs |= {"model": model, "experiments": batches}
        parts: dict[str, Path | pa.Table | xr.Dataset] = {
            "wells.parquet": wells,
            "alignment.zarr": _describe_fit(fitted),
            "neighbours.parquet": _rank_neighbours(dataset, config),
            "map.zarr": check_map(dataset, where=things["map.zarr"].path),
        }
        counts = {
            "perturbations": dataset.sizes["perturbation"],
            "wells": n_wells,
            "batches": len(batches),
            "plates": len(found.plates),
        }
        # Only now: an input at fault leaves the map of before as it was.
        manifest = _publish(lake, things, parts, recipe, counts=counts, started=started)
    return MapRef.of(name, manifest, computed=True)


def _write_recipe(found: Embeddings, config: MapConfig) -> Recipe:
    inputs = {plate.thing.path: plate.key for plate in found.plates}
    inputs |= qc_inputs(found.lake, found.plates, config)
    inputs |= gene_inputs(config.genes)
    # Of a table counts what it says, not where it lies.
    options = config.model_dump(mode="json", exclude={"genes"})
    if config.genes.expression_unit is not None:
        options["expression_unit"] = config.genes.expression_unit
    digest = found.plates[0].model_digest
    return Recipe("map", STAGE_VERSION, inputs, options, digest)


def _stream_wells(
    found: Embeddings,
    path: Path,
    config: MapConfig,
    client: Client | None,
    on_progress: Progress | None,
) -> tuple[FittedMap, int]:
    """Write the aligned wells; give what they were aligned by, and how many are perturbed."""
    scratch = path.with_name("gathered.arrow")
    gathered = gather_wells(found, scratch, config=config, client=client, on_progress=on_progress)
    fitted = fit_map(gathered, config)
    n_wells = align_wells(gathered, fitted, path)
    scratch.unlink()
    return fitted, n_wells


def _make_map(
    path: Path,
    fitted: FittedMap,
    levels: Mapping[str, float],
    symbols: Symbols,
    config: MapConfig,
) -> xr.Dataset:
    with read_wells(path, where="the aligned wells") as wells:
        guides = aggregate_guides(wells, config.aggregate, vehicles=config.vehicles)
    agreement = check_guides(guides)
    guides, disagreeing = _leave_out_guides(guides, agreement, config)
    profiles = aggregate_perturbations(guides, config.aggregate)
    dataset = make_dataset(profiles, agreement, levels, config, symbols=symbols)
    dataset.attrs |= {
        "align": config.align,
        "aggregate": config.aggregate,
        "correct": config.correct,
        "exclusions": json.dumps([*fitted.exclusions, *disagreeing]),
        "guides": describe_agreement(agreement),
        "components": getattr(fitted.alignment, "cap", ""),
    }
    return dataset


def _leave_out_guides(
    guides: Profiles, agreement: Agreement, config: MapConfig
) -> tuple[Profiles, list[Exclusion]]:
    count = int(agreement.disagreeing.sum())
    if config.guides == "all" or not count:
        return guides, []
    why = "they are no more like their gene's other guides, which agree, than a random guide is"
    excluded: Exclusion = {
        "what": "guides that disagree with their gene",
        "count": count,
        "why": why,
    }
    return guides.select(~agreement.disagreeing), [excluded]


def _rank_neighbours(dataset: xr.Dataset, config: MapConfig) -> pa.Table:
    return top_neighbours(
        dataset["embedding"].to_numpy(),
        dataset["perturbation"].to_numpy().astype(str),
        kinds=dataset["kind"].to_numpy().astype(str),
        top=config.top,
    )


def _describe_fit(fitted: FittedMap) -> xr.Dataset:
    """Give what a new batch is aligned by: the fit, and the features that it was made of."""
    if fitted.alignment is None:
        dataset = xr.Dataset(attrs={"align": "none"})
    else:
        dataset = fitted.alignment.to_dataset()
    return dataset.assign(kept_feature=("kept", fitted.features.astype(np.int32)))


def _publish(
    lake: Lake,
    things: Mapping[str, Thing],
    parts: Mapping[str, Path | pa.Table | xr.Dataset],
    recipe: Recipe,
    *,
    counts: Mapping[str, int],
    started: datetime,
) -> Manifest:
    """Put the parts of a map in their places; the last one's manifest is given."""
    with lake.writing(*reversed(list(things.values()))):
        for part, content in parts.items():
            with lake.draft(things[part]) as path:
                _write(content, path)
        manifests = [
            lake.publish(thing, recipe, counts=counts, started=started) for thing in things.values()
        ]
    return manifests[-1]


def _write(content: Path | pa.Table | xr.Dataset, path: Path) -> None:
    if isinstance(content, Path):
        shutil.move(content, path)
    elif isinstance(content, xr.Dataset):
        write_zarr(content, path)
    else:
        pq.write_table(content, path)
