"""From published embeddings to aligned wells, plate by plate: memory does not grow with wells.

Three passes. *Gather* reads the embeddings, averages crops to wells and keeps these in a scratch
file: crops are up to a hundred times as many, so they are read once. *Fit* adds up the moments of
the controls, and learns which features and wells are of use. *Align* writes ``wells.parquet``.
Plates come in one order, so that sums, and the bytes written, are the same each time.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client
from numpy.typing import NDArray

from phenopipe.compute import Progress, stream_ordered
from phenopipe.config import MapConfig
from phenopipe.embeddings import Embeddings, feature_names, vectors_of
from phenopipe.errors import InputError
from phenopipe.maps.aggregate import name_perturbations
from phenopipe.maps.align import ALIGNMENTS, Alignment
from phenopipe.maps.components import ComponentAlignment
from phenopipe.maps.expression import CarriedLevels
from phenopipe.maps.filters import (
    MISSING,
    describe_dropped,
    needs_moments,
    often_missing,
    select_features,
    subset_moments,
)
from phenopipe.maps.wells import (
    BROKEN,
    COLUMNS,
    NEGATIVE,
    PlateWells,
    describe_left_out,
    read_plate_wells,
)
from phenopipe.profiles import perturbed_gene
from phenopipe.schema import wells_schema
from phenopipe.stats import Indices, Moments

Exclusion = dict[str, str | int]

# What a perturbation's label is made of.
_TREATMENT = ["perturbation", "perturbation_type", "gene", "compound", "concentration_um"]
_Treatment = tuple[str, str, str, str, float | None]


@dataclass(frozen=True)
class GatheredWells:
    """The averaged wells of all plates, in a file outside memory: one batch a plate.

    Attributes
    ----------
    path
        An Arrow file.
    names
        The features' names.
    n_finite
        In how many wells each feature is finite, shape (d,).
    n_wells
        How many wells there are.
    left_out
        How many more there were, by what they are.
    """

    path: Path
    names: list[str]
    n_finite: Indices
    n_wells: int
    left_out: Counter[str]

    def plates(self, features: Indices) -> Iterator[tuple[pd.DataFrame, NDArray[np.float32]]]:
        """Read plate by plate the wells whose vectors are finite: rows, and some features."""
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_file(file) as reader:
            for number in range(reader.num_record_batches):
                table = pa.Table.from_batches([reader.get_batch(number)])
                x = vectors_of(table)
                if len(features) < x.shape[1]:
                    x = x[:, features]
                finite = np.isfinite(x).all(axis=1)
                rows = table.drop_columns(["embedding"]).to_pandas()
                if finite.all():
                    yield rows, x
                elif finite.any():
                    yield rows[finite].reset_index(drop=True), x[finite]


@dataclass(frozen=True)
class FittedMap:
    """What is learned from all wells before they are aligned.

    Attributes
    ----------
    alignment
        None where nothing is to be aligned.
    features
        Numbers of the features that are kept, ascending.
    labels
        The map's perturbation by treatment.
    levels
        zFPKM by gene, as the platemaps carry it.
    exclusions
        ``what``, ``count`` and ``why`` of wells and features that are left out.
    """

    alignment: Alignment | None
    features: Indices
    labels: dict[_Treatment, str]
    levels: dict[str, float]
    exclusions: list[Exclusion]


def gather_wells(
    found: Embeddings,
    path: Path,
    *,
    config: MapConfig,
    client: Client | None = None,
    on_progress: Progress | None = None,
) -> GatheredWells:
    """Average the crops of all plates into wells, and keep these in a file.

    Parameters
    ----------
    client
        Plates are read and averaged side by side there; what is written is the same.
    """
    schema = found.unite([name for name in found.column_names if name in COLUMNS])
    task: dict[str, Any] = {"lake": found.lake, "schema": schema, "config": config}
    plates: Iterable[PlateWells] = (
        map(partial(read_plate_wells, **task), found.plates)
        if client is None
        else stream_ordered(client, read_plate_wells, found.plates, **task)
    )
    names = feature_names(schema.empty_table())
    n_finite, n_wells = np.zeros(len(names), dtype=np.int64), 0
    left_out: Counter[str] = Counter()
    writer: pa.ipc.RecordBatchFileWriter | None = None
    with pa.OSFile(str(path), "wb") as file:
        for done, plate in enumerate(plates, start=1):
            writer = writer or pa.ipc.new_file(file, plate.table.schema)
            left_out.update(plate.left_out)
            if n := len(plate.table):
                n_finite += np.isfinite(vectors_of(plate.table)).sum(axis=0)
                n_wells += n
                writer.write_table(plate.table)
            if on_progress:
                on_progress(done, len(found.plates))
        if writer:
            writer.close()
    return GatheredWells(path, names, n_finite, n_wells, left_out)


@dataclass
class _Seen:
    """What the wells of all plates add up to."""

    controls: dict[str, Moments] = field(default_factory=dict)
    total: Moments | None = None
    perturbed: Counter[str] = field(default_factory=Counter)
    treatments: set[_Treatment] = field(default_factory=set)
    levels: CarriedLevels = field(default_factory=CarriedLevels)
    n_wells: int = 0

    def add(self, rows: pd.DataFrame, x: NDArray[np.float32], *, in_total: bool) -> None:
        """Take in one plate's wells."""
        negative = (rows["control_type"] == "negative").to_numpy()
        experiment = str(rows["experiment"].iloc[0])
        self.n_wells += len(rows)
        if in_total:
            moments = Moments.of(x)
            self.total = moments if self.total is None else self.total + moments
        if negative.any():
            moments = Moments.of(x[negative])
            known = self.controls.get(experiment)
            self.controls[experiment] = moments if known is None else known + moments
        wells = rows[~negative]
        if len(wells):
            self.perturbed[experiment] += len(wells)
            self.treatments.update(_treatments(wells))
            if "zfpkm" in wells:
                self.levels.add(perturbed_gene(wells), wells["zfpkm"])


def fit_map(wells: GatheredWells, config: MapConfig) -> FittedMap:
    """Learn from all wells what aligning them takes.

    Raises
    ------
    InputError
        If no perturbed well or feature is left, or an experiment has none or too few controls.
    """
    missing = often_missing(wells.n_finite, wells.n_wells, max_missing=config.max_missing)
    present = np.flatnonzero(~missing)
    seen = _Seen()
    for rows, x in wells.plates(present):
        seen.add(rows, x, in_total=needs_moments(config))
    left_out = wells.left_out + Counter({BROKEN: wells.n_wells - seen.n_wells})
    left_out[NEGATIVE] = sum(controls.count for controls in seen.controls.values())
    exclusions = describe_left_out(left_out, config)
    if not seen.perturbed:
        told = ", ".join(f"{item['count']} {item['what']}" for item in exclusions) or "no wells"
        raise InputError(
            f"expected perturbed wells, found none among {left_out.total()} ({told}): check the "
            "platemap, and the map's filters"
        )
    features, dropped = select_features(seen.total, present, config=config)
    dropped[MISSING] = np.flatnonzero(missing)
    return FittedMap(
        alignment=_fit_alignment(seen, np.searchsorted(present, features), config),
        features=features,
        labels=_name_treatments(seen.treatments, config),
        levels=seen.levels.means(),
        exclusions=exclusions + describe_dropped(dropped, wells.names, config),
    )


def _fit_alignment(seen: _Seen, places: Indices, config: MapConfig) -> Alignment | None:
    if config.align == "none":
        return None
    without = sorted(set(seen.perturbed) - set(seen.controls))
    if without:
        raise InputError(
            f"expected negative control wells in each experiment, found none in "
            f"{', '.join(without)}: set control_type in the platemap, leave the experiment out, or "
            'align "none"'
        )
    controls = {name: subset_moments(found, places) for name, found in seen.controls.items()}
    return make_alignment(config).fit_moments(controls)


def make_alignment(config: MapConfig) -> Alignment:
    """Make the alignment of a map's settings, not fitted yet."""
    kind = ALIGNMENTS[config.align]
    if issubclass(kind, ComponentAlignment):
        return kind(config.n_components)
    return kind()


def _treatments(rows: pd.DataFrame) -> list[_Treatment]:
    doses = rows["concentration_um"].astype(object)
    columns = [*(rows[name] for name in _TREATMENT[:-1]), doses.where(doses.notna(), None)]
    # Lists first: pandas hands out its own text one by one, and slowly.
    return list(zip(*(column.to_numpy(dtype=object).tolist() for column in columns), strict=True))


def _name_treatments(treatments: set[_Treatment], config: MapConfig) -> dict[_Treatment, str]:
    ordered = sorted(treatments, key=lambda one: (*one[:-1], one[-1] is not None, one[-1] or 0))
    frame = pd.DataFrame(ordered, columns=_TREATMENT)
    names = name_perturbations(frame, vehicles=config.vehicles)
    return dict(zip(ordered, names.tolist(), strict=True))


def align_wells(wells: GatheredWells, fitted: FittedMap, path: Path) -> int:
    """Align the wells, and write them with their labels: schema.wells_schema, a row group a plate.

    Returns
    -------
    int
        How many of them are perturbed.
    """
    perturbed = 0
    writer: pq.ParquetWriter | None = None
    try:
        for rows, x in wells.plates(fitted.features):
            table = _align_plate(rows, x, fitted)
            writer = writer or _open_parquet(path, table.schema)
            writer.write_table(table, row_group_size=len(table))
            perturbed += int((rows["control_type"] != "negative").sum())
    finally:
        if writer:
            writer.close()
    return perturbed


def _align_plate(rows: pd.DataFrame, x: NDArray[np.float32], fitted: FittedMap) -> pa.Table:
    if fitted.alignment is not None:
        # In double precision: a direction in which controls hardly vary is scaled up a lot.
        x = fitted.alignment.transform(
            x.astype(np.float64), batch=rows["experiment"].to_numpy()
        ).astype(np.float32)
    negative = (rows["control_type"] == "negative").to_numpy()
    labels = [
        "" if control else fitted.labels[treatment]
        for control, treatment in zip(negative, _treatments(rows), strict=True)
    ]
    schema = wells_schema(x.shape[1])
    vectors = pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(x).ravel(), x.shape[1])
    known = pa.Table.from_pandas(rows.assign(label=labels), preserve_index=False)
    columns = [
        vectors if column.name == "embedding" else known[column.name].cast(column.type)
        for column in schema
    ]
    return pa.table(columns, schema=schema)


def _open_parquet(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    texts = [column.name for column in schema if pa.types.is_string(column.type)]
    # Bytes of vectors do not compress; zstd would take a fifth of the stage's time for 8%.
    compression = {column.name: "zstd" for column in schema if column.name != "embedding"}
    return pq.ParquetWriter(path, schema, compression=compression, use_dictionary=texts)
