"""The peers, each through its own functions: ``python -m benchmarks.maps_peers NAME ...``.

Runs in an environment that holds the peers and not phenopipe (``make bench-maps``). Each call is
the one that the library's own documentation or notebooks show.
"""
# ruff: noqa: PLC0415 - a contender imports its own library, and none of the others'

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.maps_screen import CONTROL, Screen
from benchmarks.maps_steps import Place, Step, run_contender

THRESHOLDS = (0.05, 0.95)
NULL_SIZE = 10_000


def efaar(screen: Screen, place: Place) -> Iterator[Step]:
    """EFAAR_benchmarking: TVN, aggregation, recall, consistency and magnitude."""
    from efaar_benchmarking import benchmarking as bench
    from efaar_benchmarking.efaar import aggregate, tvn_on_controls

    wells = screen.wells
    vectors = screen.read_vectors(place.dtype)
    aligned = tvn_on_controls(vectors, wells, "label", CONTROL, batch_col="experiment")
    del vectors
    yield "align", lambda: aligned
    if place.dtype is np.float64:
        # To compare: phenopipe keeps aligned wells in float32, and scores what it has kept.
        aligned = aligned.astype(np.float32).astype(np.float64)
    genes = aggregate(aligned, wells, "label", keys_to_remove=[CONTROL])
    yield "aggregate", genes.features.to_numpy
    recall = bench.known_relationship_benchmark(
        genes, "label", recall_thr_pairs=[THRESHOLDS], benchmark_data_dir=str(screen.annotations)
    )
    yield "recall", lambda: _rename(recall, key="source", value="recall_0.05_0.95")
    kept = np.union1d(screen.perturbed, screen.controls)
    aligned, wells, silent = aligned[kept], wells.iloc[kept], screen.unexpressed
    consistency = bench.pert_signal_consistency_benchmark(
        aligned, wells, "label", silent, keys_to_drop=[CONTROL], n_jobs=place.jobs
    )
    yield "consistency", lambda: _rename(consistency, key="pert", value="avgcossim")
    magnitude = bench.pert_signal_magnitude_benchmark(
        aligned, wells, "label", silent, CONTROL, n_jobs=place.jobs
    )
    yield "magnitude", lambda: _rename(magnitude, key="pert", value="edist")


def proxbias(screen: Screen, place: Place) -> Iterator[Step]:
    """Run proxbias' Brunner-Munzel on all pairs: statsmodels' rank_compare_2indep, arm by arm.

    It is made for EFAAR_benchmarking 0.1, of which it imports functions that this test does not
    use, and which 1.0 has no more: that version lies in a folder of its own.
    """
    sys.path.insert(0, str(Path(sys.prefix, "for-proxbias")))
    from proxbias.metrics import bm_metrics
    from proxbias.utils.cosine_similarity import cosine_similarity

    frame = _read_genes(screen, place)
    arms = sorted(set(screen.genes["arm"]))
    whole, per_arm = bm_metrics(cosine_similarity(frame), arms_ord=arms)
    table = pd.concat([per_arm, whole.rename(index={"all": "genome"})])
    yield "bias", lambda: _name_bias(table.rename(columns={"pval": "p_value"}))


def statsmodels(screen: Screen, place: Place) -> Iterator[Step]:
    """Run statsmodels' rank_compare_2indep once, on all pairs of the genome, each pair once.

    proxbias takes each pair between arms twice, once from either arm, which leaves the probability
    as it is and makes the statistic too large.
    """
    from sklearn.metrics.pairwise import cosine_similarity
    from statsmodels.stats.nonparametric import rank_compare_2indep

    frame = _read_genes(screen, place)
    arms = frame.index.get_level_values("chromosome_arm").to_numpy()
    first, second = np.triu_indices(len(frame), k=1)
    cosines = cosine_similarity(frame.to_numpy())[first, second]
    within = arms[first] == arms[second]
    found = rank_compare_2indep(cosines[within], cosines[~within], use_t=False)
    p_value = found.test_prob_superior(alternative="larger").pvalue
    told = {"stat": found.statistic, "prob": found.prob1, "p_value": p_value}
    yield "bias", lambda: _name_bias(pd.DataFrame(told, index=["genome"]))


def pycytominer(screen: Screen, place: Place) -> Iterator[Step]:
    """pycytominer: standardise each batch on its controls, sphere on all controls, aggregate."""
    from pycytominer import aggregate, normalize

    vectors = screen.read_vectors(place.dtype)
    names = [f"v{i:03d}" for i in range(vectors.shape[1])]
    meta = screen.wells.add_prefix("Metadata_")
    frame = pd.concat([meta, pd.DataFrame(vectors, columns=names)], axis=1)
    del vectors
    how = {
        "features": names,
        "meta_features": list(meta.columns),
        "samples": f"Metadata_label == '{CONTROL}'",
    }
    batches = frame.groupby("Metadata_experiment", sort=False)
    parts = [normalize(batch, method="standardize", **how) for _, batch in batches]
    yield "standardize", pd.concat(parts)[names].to_numpy
    del parts
    sphered = normalize(frame, method="spherize", spherize_method="ZCA", **how)
    yield "spherize", sphered[names].to_numpy
    perturbed = sphered[sphered["Metadata_label"] != CONTROL]
    means = aggregate(perturbed, strata=["Metadata_label"], features=names, operation="mean")
    yield "aggregate", means[names].to_numpy


def copairs(screen: Screen, place: Place) -> Iterator[Step]:
    """copairs: how early does a well find its replicates among the controls?"""
    from copairs.map import average_precision, mean_average_precision

    kept = np.union1d(screen.perturbed, screen.controls)
    meta = screen.wells.iloc[kept][["label"]].reset_index(drop=True)
    control = (meta["label"] == CONTROL).to_numpy()
    # A well pairs with controls as they differ in this column: perturbed wells share its -1.
    meta["reference"] = np.where(control, np.arange(len(meta)), -1)
    vectors = np.load(place.handed / "align.npy")[kept].astype(place.dtype, copy=False)
    found = average_precision(
        meta,
        vectors,
        pos_sameby=["label", "reference"],
        pos_diffby=[],
        neg_sameby=[],
        neg_diffby=["label", "reference"],
        progress_bar=False,
    )
    scores = mean_average_precision(
        found[~control],
        ["label"],
        null_size=NULL_SIZE,
        threshold=0.05,
        seed=0,
        progress_bar=False,
        max_workers=place.jobs,
        cache_dir=place.out / "null",
    )
    yield "replicates", lambda: _rename(scores, key="label", value="mean_average_precision")


def main() -> None:
    chains = {
        "efaar": efaar,
        "proxbias": proxbias,
        "statsmodels": statsmodels,
        "pycytominer": pycytominer,
        "copairs": copairs,
    }
    run_contender(chains, __doc__)


def _read_genes(screen: Screen, place: Place) -> pd.DataFrame:
    genes = screen.genes.rename(columns={"gene": "gene_symbol", "arm": "chromosome_arm"})
    index = pd.MultiIndex.from_frame(genes[["gene_symbol", "chromosome_arm"]])
    return pd.DataFrame(np.load(place.handed / "aggregate.npy").astype(place.dtype), index=index)


def _name_bias(table: pd.DataFrame) -> pd.DataFrame:
    named = table.rename(columns={"prob": "value", "stat": "statistic"}).rename_axis("key")
    return named[["value", "statistic", "p_value"]].astype(float).reset_index()


def _rename(table: pd.DataFrame, *, key: str, value: str) -> pd.DataFrame:
    """Name a peer's columns as all tables here have them, sorted by key."""
    names = {key: "key", value: "value", "pval": "p_value"}
    kept = table.rename(columns=names).sort_values("key", ignore_index=True)
    kept = kept[kept["key"] != CONTROL]  # EFAAR_benchmarking measures the controls' magnitude too
    return kept[[name for name in ("key", "value", "p_value") if name in kept]]


if __name__ == "__main__":
    main()
