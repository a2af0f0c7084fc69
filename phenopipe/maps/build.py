"""The stage: published embeddings of one model become a map."""

import difflib
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr

from phenopipe.compute import Progress
from phenopipe.config import MapConfig
from phenopipe.digests import digest_file
from phenopipe.embeddings import UNITS, Embeddings, find_embeddings
from phenopipe.errors import InputError
from phenopipe.genome import find_arm, unexpressed
from phenopipe.lake import Lake, MapRef, Recipe, map_part
from phenopipe.maps.aggregate import (
    Exclusion,
    Profiles,
    average_guides,
    average_perturbations,
    average_wells,
    join_profiles,
    name_perturbations,
    split_wells,
)
from phenopipe.maps.align import ALIGNMENTS, TVN, Alignment, PCACenterScale, control_moments
from phenopipe.maps.proximity import arm_report, correct_arms
from phenopipe.maps.relations import top_neighbours
from phenopipe.schema import NEIGHBOURS, PLATEMAP_COLUMNS, check_map, check_table

STAGE_VERSION = 1

_log = logging.getLogger(__name__)


def build_map(
    lake: Lake,
    *,
    name: str,
    model: str = "classical",
    experiments: Sequence[str] | None = None,
    expression: Path | None = None,
    config: MapConfig | None = None,
    on_progress: Progress | None = None,
) -> MapRef:
    """Align, aggregate and correct the published embeddings of a model into a map.

    Crops are averaged to wells plate by plate; wells are aligned on each experiment's negative
    controls, averaged to guides and to perturbations; then genes are corrected by chromosome arm.

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
    expression
        A CSV with columns ``gene`` and ``zfpkm``, one or more rows a gene; the platemap's column
        ``zfpkm`` if None.
    config
        Alignment, correction and number of neighbours.
    on_progress
        Called with plates done and plates in all.

    Returns
    -------
    MapRef
        ``counts``: perturbations, wells, plates, batches.

    Raises
    ------
    InputError
        If nothing is published, plates differ in model or width, an experiment has no controls,
        or no perturbation is left.
    """
    config = config or MapConfig()
    found = find_embeddings(lake, model, experiment=experiments)
    recipe = _write_recipe(found, expression, config)
    # The map comes last: with its manifest all three are there.
    things = {
        part: map_part(name, part) for part in ("alignment.zarr", "neighbours.parquet", "map.zarr")
    }
    main = things["map.zarr"]
    if all(lake.is_current(thing, recipe) for thing in things.values()):
        return MapRef.of(name, lake.require(main, remedy="run `phenopipe map`"), computed=False)
    started = datetime.now(UTC)
    wells = _read_wells(found, on_progress)
    alignment, dataset, counts = _make_map(wells, _read_expression(expression), config)
    dataset.attrs |= {"model": model, "experiments": sorted(set(wells.rows["experiment"]))}
    check_map(dataset, where=main.path)
    labels = dataset["perturbation"].to_numpy().astype(str)
    neighbours = top_neighbours(dataset["embedding"].to_numpy(), labels, top=config.top)
    # Only now: an input at fault leaves the map of before as it was.
    with lake.writing(*reversed(things.values())):
        with lake.draft(things["alignment.zarr"]) as path:
            _write_zarr(alignment, path)
        with lake.draft(things["neighbours.parquet"]) as path:
            pq.write_table(neighbours, path)
        with lake.draft(main) as path:
            _write_zarr(dataset, path)
        counts["plates"] = len(found.plates)
        manifests = [
            lake.publish(thing, recipe, counts=counts, started=started) for thing in things.values()
        ]
    return MapRef.of(name, manifests[-1], computed=True)


def _write_recipe(found: Embeddings, expression: Path | None, config: MapConfig) -> Recipe:
    inputs = {plate.thing.path: plate.key for plate in found.plates}
    if expression is not None:
        if not expression.is_file():
            raise InputError(f"expected a CSV of gene and zfpkm at {expression}, found no file")
        inputs["source:expression"] = digest_file(expression)
    digest = found.plates[0].model_digest
    return Recipe("map", STAGE_VERSION, inputs, config.model_dump(mode="json"), digest)


def _read_wells(found: Embeddings, on_progress: Progress | None) -> Profiles:
    """Average plate by plate: memory grows with wells, not with crops."""
    wanted = {*UNITS["well"], *PLATEMAP_COLUMNS, "zfpkm", "embedding"}
    columns = [name for name in found.column_names if name in wanted]
    tables = found.read_plates(columns, on_progress=on_progress)
    where = [plate.thing.path for plate in found.plates]
    return join_profiles(
        [average_wells(table, where=path) for table, path in zip(tables, where, strict=True)]
    )


def _make_map(
    wells: Profiles, expression: Mapping[str, float] | None, config: MapConfig
) -> tuple[xr.Dataset, xr.Dataset, dict[str, int]]:
    controls, perturbed, exclusions = split_wells(wells)
    if not len(perturbed.rows):
        raise InputError(
            f"expected perturbed wells, found none among {len(wells.rows)} "
            f"({_tell(exclusions)}): check the platemap"
        )
    alignment = _fit_alignment(controls, perturbed, config)
    perturbed = name_perturbations(perturbed)
    if alignment is not None:
        aligned = alignment.transform(perturbed.values, batch=perturbed.rows["experiment"])
        perturbed = Profiles(perturbed.rows, aligned)
    profiles = average_perturbations(average_guides(perturbed))
    levels = expression if expression is not None else _carried_expression(perturbed)
    dataset = _correct(profiles, levels, config)
    dataset.attrs |= {
        "align": config.align,
        "correct": config.correct,
        "exclusions": json.dumps(exclusions),
        "components": getattr(alignment, "cap", ""),
    }
    counts = {
        "perturbations": len(profiles.rows),
        "wells": len(perturbed.rows),
        "batches": wells.rows["experiment"].nunique(),
    }
    fitted = xr.Dataset(attrs={"align": "none"}) if alignment is None else alignment.to_dataset()
    return fitted, dataset, counts


def _tell(exclusions: list[Exclusion]) -> str:
    return ", ".join(f"{item['count']} {item['what']}" for item in exclusions) or "no wells"


def _fit_alignment(controls: Profiles, perturbed: Profiles, config: MapConfig) -> Alignment | None:
    if config.align == "none":
        return None
    batches = controls.rows["experiment"].to_numpy(dtype=str)
    missing = sorted(set(perturbed.rows["experiment"]) - set(batches.tolist()))
    if missing:
        raise InputError(
            f"expected negative control wells in each experiment, found none in "
            f"{', '.join(missing)}: set control_type in the platemap, leave the experiment out, or "
            'align "none"'
        )
    kind = ALIGNMENTS[config.align]
    alignment = kind(config.n_components) if kind in (TVN, PCACenterScale) else kind()
    everything = np.ones(len(batches), dtype=bool)
    return alignment.fit_moments(
        control_moments(controls.values, batch=batches, control=everything)
    )


def _read_expression(path: Path | None) -> dict[str, float] | None:
    """Read zFPKM by gene, the mean where a gene has several samples."""
    if path is None:
        return None
    frame = pd.read_csv(path)
    if not {"gene", "zfpkm"} <= set(frame.columns):
        raise InputError(
            f"expected columns gene and zfpkm in {path}, found {', '.join(frame.columns)}"
        )
    return _mean_by_gene(frame["gene"], frame["zfpkm"], where=str(path))


def _carried_expression(wells: Profiles) -> dict[str, float]:
    if "zfpkm" not in wells.rows:
        return {}
    return _mean_by_gene(wells.rows["gene"], wells.rows["zfpkm"], where="the platemaps")


def _mean_by_gene(genes: pd.Series, levels: pd.Series, *, where: str) -> dict[str, float]:
    texts = levels.astype(object).where(levels.notna() & (levels != ""), None)
    numbers = pd.to_numeric(texts, errors="coerce")
    bad = texts[numbers.isna() & texts.notna()]
    if len(bad):
        raise InputError(f"expected numbers as zfpkm in {where}, found {bad.iloc[0]!r}")
    means = numbers.groupby(genes.to_numpy()).mean().dropna()
    return {str(gene): float(level) for gene, level in means.items() if gene}


def _correct(profiles: Profiles, levels: Mapping[str, float], config: MapConfig) -> xr.Dataset:
    genes = profiles.rows["gene"].tolist()
    arms = np.array([find_arm(gene) for gene in genes], dtype=object)
    silent = unexpressed([levels.get(gene, np.nan) for gene in genes])
    raw = profiles.values.astype(np.float32)
    is_gene = np.array([gene != "" for gene in genes], dtype=bool)
    corrected, report = raw, []
    if config.correct == "arms":
        corrected = correct_arms(raw, arms, silent, config.min_reference)
        report = _report_arms(arms[is_gene], silent[is_gene], config, known=bool(levels))
    dims = ("perturbation", "feature")
    variables: dict[str, Any] = {
        "embedding": (dims, corrected),
        "embedding_uncorrected": (dims, raw),
        "gene": ("perturbation", np.array(genes, dtype=object)),
        "arm": ("perturbation", arms),
        "unexpressed": ("perturbation", silent),
        "n_wells": ("perturbation", profiles.rows["n_wells"].to_numpy(dtype=np.int32)),
        "n_guides": ("perturbation", profiles.rows["n_guides"].to_numpy(dtype=np.int32)),
    }
    labels = np.array(profiles.rows["label"].tolist(), dtype=object)
    return xr.Dataset(
        variables, coords={"perturbation": labels}, attrs={"arms": json.dumps(report)}
    )


def _report_arms(
    arms: np.ndarray[Any, Any], silent: np.ndarray[Any, Any], config: MapConfig, *, known: bool
) -> list[dict[str, str | int | bool]]:
    report = arm_report(arms, silent, config.min_reference)
    if not known:
        report = [{**row, "why": "no gene's expression is known"} for row in report]
    left = [row for row in report if not row["corrected"]]
    if left:
        told = "; ".join(f"{row['arm'] or 'no arm'}: {row['why']}" for row in left[:5])
        _log.warning("%d of %d arms left uncorrected: %s", len(left), len(report), told)
    return report


def _write_zarr(dataset: xr.Dataset, path: Path) -> None:
    dataset.to_zarr(path, mode="w", zarr_format=3, consolidated=False)


def open_map(lake: Lake, name: str) -> xr.Dataset:
    """Read a published map.

    Returns
    -------
    Dataset
        ``embedding`` (after correction) and ``embedding_uncorrected`` (perturbation, feature),
        ``gene``, ``arm``, ``unexpressed``, ``n_wells`` and ``n_guides`` (perturbation).

    Raises
    ------
    InputError
        If the map is not published.
    """
    thing = map_part(name, "map.zarr")
    lake.require(thing, remedy=f"run `phenopipe map --root {lake.root} --name {name}`")
    with (
        lake.fetched(thing) as path,
        xr.open_zarr(path, consolidated=False, chunks=None) as dataset,
    ):
        return check_map(dataset, where=thing.path).load()


def query_map(lake: Lake, name: str, perturbation: str, *, top: int = 10) -> pa.Table:
    """List a perturbation's nearest neighbours in a published map.

    Returns
    -------
    Table
        schema.NEIGHBOURS, at most ``top`` rows, and no more than the map keeps.

    Raises
    ------
    InputError
        If the map is not published or does not hold the perturbation; with the closest names.
    """
    thing = map_part(name, "neighbours.parquet")
    lake.require(thing, remedy=f"run `phenopipe map --root {lake.root} --name {name}`")
    with lake.fetched(thing) as path:
        table = check_table(pq.read_table(path), NEIGHBOURS, where=thing.path)
    names = sorted(set(table["perturbation"].to_pylist()))
    if perturbation not in names:
        folded = {label.casefold(): label for label in names}
        close = difflib.get_close_matches(perturbation.casefold(), folded, n=3)
        hint = ", ".join(folded[key] for key in close) or "none that is close"
        raise InputError(
            f"expected a perturbation of the map {name}, found {perturbation!r}: "
            f"the closest names are {hint}"
        )
    mask = pa.compute.equal(table["perturbation"], perturbation)
    return table.filter(mask).slice(0, top)
