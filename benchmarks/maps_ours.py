"""phenopipe in the map benchmark: ``python -m benchmarks.maps_ours NAME ...``.

Wells are read batch by batch and kept, aligned, as the stage keeps them: a Parquet file with a row
group a batch. ``phenopipe`` runs the chain, ``phenopipe-beside`` what stands beside it.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.maps_screen import CONTROL, Screen
from benchmarks.maps_steps import Place, Step, run_contender
from phenopipe.benchmark import (
    replicate_consistency,
    replicate_magnitude,
    replicate_precision,
)
from phenopipe.benchmark.annotations import read_annotations
from phenopipe.benchmark.recall import known_pairs
from phenopipe.benchmark.tails import extreme_pairs
from phenopipe.maps import TVN, CenterScale, Sphering, proximity_bias
from phenopipe.maps.aggregate import aggregate_guides, aggregate_perturbations
from phenopipe.maps.alignment import Alignment
from phenopipe.profiles import read_wells
from phenopipe.schema import wells_schema
from phenopipe.stats import pair_index

_CHECKED = 2000


def phenopipe(screen: Screen, place: Place) -> Iterator[Step]:
    """Run the chain, each step on what the one before has left."""
    path = place.out / "wells.parquet"
    align(screen, path)
    with read_wells(path, where=path.name) as wells:
        yield "align", lambda: wells.take(np.arange(_CHECKED))
        genes = aggregate_perturbations(aggregate_guides(wells, "mean"), "mean")
        yield "aggregate", lambda: genes.values
        labels = genes.rows["label"].to_numpy(dtype=object)
        recalls = recall(screen, genes.values, labels)
        yield "recall", lambda: recalls
        bias = proximity_bias(genes.values, screen.genes["arm"].to_numpy())
        yield "bias", lambda: name_bias(bias)
        rows, silent = screen.perturbed, screen.unexpressed
        values, names = wells.take(rows), wells.rows["label"].to_numpy(dtype=object)[rows]
        consistency = replicate_consistency(values, names, null=silent)
        yield "consistency", lambda: _key(consistency)
        controls = wells.take(screen.controls)
        magnitude = replicate_magnitude(values, names, controls, null=silent)
        yield "magnitude", lambda: _key(magnitude)
        precision = replicate_precision(values, names, controls)
        yield "replicates", lambda: _key(precision)


def beside(screen: Screen, place: Place) -> Iterator[Step]:  # noqa: ARG001 - the chains' signature
    """Run what pycytominer has: centre and scale each batch, sphere on all controls."""
    scaled = _fit(CenterScale(), screen)
    parts = [
        scaled.transform(vectors, batch=wells["experiment"])
        for wells, vectors in screen.read_batches(np.float64)
    ]
    yield "standardize", lambda: np.concatenate(parts)
    sphering = Sphering(n_components=None, method="zca", regularisation=1e-9)
    controls = (screen.wells["label"] == CONTROL).to_numpy()
    sphering.fit(screen.read_vectors(np.float64), control=controls)
    parts = [sphering.transform(vectors) for _, vectors in screen.read_batches(np.float64)]
    yield "spherize", lambda: np.concatenate(parts)


def align(screen: Screen, path: Path) -> None:
    """Fit TVN in one pass over the batches; in a second, align them and write them."""
    tvn = _fit(TVN(n_components=None), screen)
    tables = (
        _tabulate(wells, tvn.transform(vectors, batch=wells["experiment"]))
        for wells, vectors in screen.read_batches(np.float64)
    )
    first = next(tables)
    with pq.ParquetWriter(path, first.schema, compression="none") as file:
        for table in chain([first], tables):
            file.write_table(table, row_group_size=len(table))


def recall(screen: Screen, embeddings: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Give the share of each source's pairs in the tails of all pairs, as the peer does.

    The benchmark of a map gives each an interval too; the peer has none, and it is not timed here.
    """
    extreme = extreme_pairs(embeddings)
    names = pd.Index(labels)
    rows = []
    for source in read_annotations(screen.annotations):
        first, second = known_pairs(names, source.pairs)
        hits = extreme[pair_index(first, second, len(names))]
        rows.append({"key": source.source, "value": float(hits.mean())})
    return pd.DataFrame(rows)


def _fit(alignment: Alignment, screen: Screen) -> Alignment:
    for wells, vectors in screen.read_batches(np.float64):
        control = (wells["label"] == CONTROL).to_numpy()
        alignment.partial_fit(vectors, batch=wells["experiment"], control=control)
    return alignment.finish()


def _tabulate(wells: pd.DataFrame, aligned: np.ndarray) -> pa.Table:
    schema = wells_schema(aligned.shape[1])
    control = wells["label"] == CONTROL
    known = {
        "experiment": wells["experiment"],
        "plate": wells["plate"],
        "well": wells["well"],
        "perturbation": wells["label"],
        "perturbation_type": np.where(control, "control", "crispr"),
        "gene": wells["label"].mask(control, ""),
        "control_type": np.where(control, "negative", ""),
        "label": wells["label"].mask(control, ""),
        "concentration_um": np.full(len(wells), np.nan),
    }
    values = pa.array(aligned.astype(np.float32).ravel())
    vectors = pa.FixedSizeListArray.from_arrays(values, aligned.shape[1])
    columns = [
        vectors
        if column.name == "embedding"
        else pa.array(known.get(column.name, [""] * len(wells)), type=column.type)
        for column in schema
    ]
    return pa.table(columns, schema=schema)


def name_bias(bias: pd.DataFrame) -> pd.DataFrame:
    """Name the columns of Brunner-Munzel's test as all tables here have them."""
    return _key(bias.rename(columns={"probability": "value"}))


def _key(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename_axis("key").reset_index()


def main() -> None:
    run_contender({"phenopipe": phenopipe, "phenopipe-beside": beside}, __doc__)


if __name__ == "__main__":
    main()
