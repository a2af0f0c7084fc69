"""The stages: call a map's active perturbations; rank compounds against a disease."""

import logging
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import false_discovery_control

from phenopipe.compute import Progress
from phenopipe.config import HitsConfig
from phenopipe.hits.activity import score_activity
from phenopipe.hits.controls import Controls, measure_controls
from phenopipe.hits.doses import add_curves
from phenopipe.hits.groups import describe_wells, list_groups
from phenopipe.hits.rescue import Reference, rank_rows, score_rescue
from phenopipe.hits.signature import (
    Design,
    Signature,
    choose_designs,
    find_disease,
    measure_signature,
    read_as_background,
)
from phenopipe.lake import Lake, MapRef, Recipe, Thing, map_part
from phenopipe.profiles import WellProfiles, open_map, open_wells
from phenopipe.schema import HITS, RESCUE, check_table
from phenopipe.stats import Floats

STAGE_VERSION = 1

# The FDR at which a screen is usually read; only a warning depends on it.
_USUAL_FDR = 0.05

_log = logging.getLogger(__name__)

Rows = list[dict[str, Any]]


def call_hits(
    lake: Lake,
    *,
    name: str,
    config: HitsConfig | None = None,
    on_progress: Progress | None = None,
) -> MapRef:
    """Tell which perturbations of a published map do anything, and how much; with dose curves.

    Parameters
    ----------
    lake
        Where the map is published, and ``maps/<name>/hits.parquet`` (schema.HITS) will be.
    name
        The map's name.
    config
        Least numbers of wells, permutations, resamples, seed.
    on_progress
        Called with perturbations done and their total.

    Returns
    -------
    MapRef
        With ``computed=False`` where the same hits were published before.

    Raises
    ------
    InputError
        If the map is not published, or has no negative controls to compare with.
    """
    config = config or HitsConfig()
    table = map_part(name, "hits.parquet")
    recipe = _write_recipe(lake, "hits", [map_part(name, "wells.parquet")], config, {})
    if published := lake.current(table, recipe):
        return MapRef.of(name, published, computed=False)
    started = datetime.now(UTC)
    with open_wells(lake, name) as wells:
        rows = _score_hits(wells, config, on_progress)
    counts = {
        "perturbations": len(rows),
        "tested": sum(row["p_value"] is not None for row in rows),
        "active_at_fdr_5%": sum((row["fdr"] or 0) <= _USUAL_FDR for row in rows if not row["why"]),
    }
    return _publish(lake, name, table, recipe, pa.Table.from_pylist(rows, schema=HITS),
                    counts=counts, started=started)  # fmt: skip


def _score_hits(wells: WellProfiles, config: HitsConfig, on_progress: Progress | None) -> Rows:
    facts = describe_wells(wells.rows, vehicles=config.vehicles)
    groups = list_groups(facts)
    controls = measure_controls(wells, facts, min_controls=config.min_controls)
    rows = score_activity(
        wells, groups, controls, config=config, on_group=_count_to(len(groups), on_progress)
    )
    _add_fdr(rows)
    add_curves(rows, response="effect")
    _warn_of_few_permutations(sum(not row["why"] for row in rows), config)
    return rows


def rank_rescue(
    lake: Lake,
    *,
    name: str,
    disease: Sequence[str],
    design: Design = "auto",
    config: HitsConfig | None = None,
    on_progress: Progress | None = None,
) -> MapRef:
    """Rank a map's compounds, each at each dose, by how near to health they bring a disease.

    Parameters
    ----------
    lake
        Where the map is published, and ``maps/<name>/rescue-<disease>.parquet`` (schema.RESCUE)
        will be; see :func:`rescue_table`.
    name
        The map's name.
    disease
        Genes or perturbations of the map whose wells, without a compound, show the disease.
    design
        ``on-disease``: compounds on the disease's background. ``alone``: compounds on healthy
        cells, whose effect is taken to add up with the disease's. ``auto``: what the platemap
        tells, both where both are there; see :func:`phenopipe.hits.signature.choose_designs`.
    config
        Least numbers of wells, permutations, resamples, seed.
    on_progress
        Called with compounds done and their total.

    Returns
    -------
    MapRef
        With ``computed=False`` where the same ranks were published before.

    Raises
    ------
    InputError
        If the map is not published, the disease is not in it or not told from the controls, or no
        compound is found in the design.
    """
    config, names = config or HitsConfig(), sorted(set(disease))
    table = rescue_table(name, names)
    inputs = [map_part(name, part) for part in ("wells.parquet", "map.zarr")]
    asked = {"disease": names, "design": design}
    recipe = _write_recipe(lake, "rescue", inputs, config, asked)
    if published := lake.current(table, recipe):
        return MapRef.of(name, published, computed=False)
    started = datetime.now(UTC)
    shifts = _read_arm_shifts(lake, name)
    with open_wells(lake, name) as wells:
        rows, signature = _score_designs(wells, names, design, shifts, config, on_progress)
    facts = {
        "disease": " ".join(names),
        "disease_wells": str(len(signature.wells)),
        "z_factor": f"{signature.z_factor():.4g}",
    }
    made = pa.Table.from_pylist(rows, schema=RESCUE.with_metadata(facts))
    counts = {
        "compounds_and_doses": len(rows),
        "tested": sum(row["p_value"] is not None for row in rows),
        "disease_wells": len(signature.wells),
    }
    return _publish(lake, name, table, recipe, made, counts=counts, started=started)


def _score_designs(
    wells: WellProfiles,
    names: Collection[str],
    design: Design,
    shifts: Mapping[str, Floats],
    config: HitsConfig,
    on_progress: Progress | None,
) -> tuple[Rows, Signature]:
    facts = describe_wells(wells.rows, vehicles=config.vehicles)
    if design == "on-disease":
        facts = read_as_background(facts, names)
    disease = find_disease(facts, names)
    designs = choose_designs(list_groups(facts), facts, names, design)
    controls = measure_controls(wells, facts, min_controls=config.min_controls)
    genes = facts["gene"].tolist()
    signature = measure_signature(
        wells, disease, controls, genes=genes, shifts=shifts, config=config
    )
    total = sum(len(groups) for groups in designs.values())
    rows: Rows = []
    for kind, groups in designs.items():
        found = score_rescue(
            wells,
            groups,
            signature,
            controls,
            reference=_make_reference(kind, facts, signature, controls),
            design=kind,
            shifts=shifts,
            config=config,
            on_group=_count_to(total, on_progress, before=len(rows)),
        )
        _add_fdr(found)
        add_curves(found, response="reversal")
        rank_rows(found)
        rows += found
    return rows, signature


def _make_reference(
    design: str, facts: pd.DataFrame, signature: Signature, controls: Controls
) -> Reference:
    healthy = np.sort(np.concatenate(controls.wells))
    wells = signature.wells if design == "on-disease" else healthy
    experiments = pd.factorize(facts["experiment"], sort=True)[0].astype(np.int64)
    return Reference(wells, signature.scores[wells], controls.strata, experiments)


def rescue_table(name: str, disease: Collection[str]) -> Thing:
    """Name the table of a disease: ``maps/<map>/rescue-<disease>.parquet``.

    What a file's name cannot hold becomes a hyphen, and a checksum tells such names apart.

    Examples
    --------
    >>> rescue_table("m", ["TP53"]).path, rescue_table("m", ["TP53 (orf)"]).path
    ('maps/m/rescue-TP53.parquet', 'maps/m/rescue-TP53-orf-c6b98331.parquet')
    """
    told = "+".join(sorted(set(disease)))
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", told).strip("-")[:80]
    ending = "" if plain == told else f"-{crc32(told.encode()):08x}"
    return map_part(name, f"rescue-{plain}{ending}.parquet")


def read_hits(lake: Lake, name: str) -> pa.Table:
    """Read a map's published hits (schema.HITS), in the order of labels and doses.

    Raises
    ------
    InputError
        If they are not published.
    """
    return _read(lake, map_part(name, "hits.parquet"), HITS, "run `phenopipe hits` first")


def read_rescue(lake: Lake, name: str, disease: Collection[str]) -> pa.Table:
    """Read a disease's published ranks (schema.RESCUE), in the order of labels and doses.

    Raises
    ------
    InputError
        If they are not published.
    """
    return _read(lake, rescue_table(name, disease), RESCUE, "run `phenopipe rescue` first")


def _read(lake: Lake, thing: Thing, schema: pa.Schema, remedy: str) -> pa.Table:
    lake.require(thing, remedy=remedy)
    with lake.fetched(thing) as path:
        return check_table(pq.read_table(path), schema, where=thing.path)


def _read_arm_shifts(lake: Lake, name: str) -> dict[str, Floats]:
    """Read what the map took from each gene for its chromosome arm's sake; nothing if zero."""
    dataset = open_map(lake, name)
    genes = [str(gene) for gene in dataset["gene"].to_numpy()]
    raw = dataset["embedding_uncorrected"].to_numpy().astype(np.float64)
    shifts = raw - dataset["embedding"].to_numpy()
    return {gene: shift for gene, shift in zip(genes, shifts, strict=True) if gene and shift.any()}


def _write_recipe(
    lake: Lake, stage: str, inputs: Sequence[Thing], config: HitsConfig, asked: Mapping[str, Any]
) -> Recipe:
    keys = {
        thing.path: lake.require(thing, remedy="build the map first (phenopipe map)").key
        for thing in inputs
    }
    parameters = {**config.model_dump(mode="json"), **asked}
    return Recipe(stage, STAGE_VERSION, keys, parameters)


def _publish(
    lake: Lake,
    name: str,
    thing: Thing,
    recipe: Recipe,
    table: pa.Table,
    *,
    counts: Mapping[str, int],
    started: datetime,
) -> MapRef:
    with lake.writing(thing):
        with lake.draft(thing) as path:
            pq.write_table(table, path)
        manifest = lake.publish(thing, recipe, counts=counts, started=started)
    return MapRef.of(name, manifest, computed=True)


def _add_fdr(rows: Rows) -> None:
    """Add Benjamini & Hochberg's (1995) false discovery rate over the tested rows."""
    tested = [row for row in rows if row["p_value"] is not None]
    for row in rows:
        row["fdr"] = None
    if tested:
        rates = false_discovery_control([row["p_value"] for row in tested])
        for row, rate in zip(tested, rates, strict=True):
            row["fdr"] = float(rate)


def _warn_of_few_permutations(tested: int, config: HitsConfig) -> None:
    least = math.ceil(tested / (config.n_permutations + 1) / _USUAL_FDR)
    if least > 1:
        _log.warning(
            "of %d perturbations, fewer than %d that are active cannot be told at FDR 5%% by %d "
            "permutations: raise hits.n_permutations if you expect so few",
            tested,
            least,
            config.n_permutations,
        )


def _count_to(
    total: int, on_progress: Progress | None, *, before: int = 0
) -> Callable[[int], None] | None:
    if on_progress is None:
        return None
    return lambda done: on_progress(before + done, total)
