import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from phenopipe.benchmark import benchmark_map, relationship_recall
from phenopipe.config import BenchmarkConfig
from phenopipe.errors import InputError
from phenopipe.lake import Lake, map_part
from phenopipe.schema import BENCHMARK, check_table
from phenopipe.stats import compare_groups
from tests.benchmark.lake import GENES, publish_map, write_annotations

CONFIG = BenchmarkConfig(n_bootstrap=100, n_shuffles=20, n_null=100)
ON_MAP = {
    "cluster_separation": ["complexes"],
    "cluster_separation_hits": ["complexes"],
    "proximity_bias": ["1p", "1q", "genome"],
    "relationship_recall": ["others", "pathways"],
    "relationship_recall_across_arms": ["pathways"],
    "relationship_recall_within_arms": ["pathways"],
}
ON_WELLS = {
    **{f"consistency{aspect}": ["controls"] for aspect in ("", "_hits")},
    **{f"magnitude{aspect}": ["controls"] for aspect in ("", "_hits")},
    **{f"replicate_map{aspect}": ["controls", "other perturbations"] for aspect in ("", "_hits")},
}


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


@pytest.fixture
def annotations(tmp_path):
    return write_annotations(tmp_path / "annotations")


def read_scores(lake):
    table = pq.read_table(lake.path(map_part("demo", "benchmark.parquet")))
    return check_table(table, BENCHMARK, where="benchmark.parquet").to_pandas()


def list_keys(expected):
    return {
        (metric, source, correction)
        for metric, sources in expected.items()
        for source in sources
        for correction in ("arms", "none")
    }


def keys_of(scores):
    keys = scores[["metric", "source", "correction"]]
    return set(keys.itertuples(index=False, name=None))


def test_a_map_is_scored_before_and_after_its_correction(lake, annotations):
    dataset, seen = publish_map(lake), []
    ref = benchmark_map(
        lake,
        name="demo",
        annotations=annotations,
        config=CONFIG,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    scores = read_scores(lake)
    assert list_keys(ON_MAP) <= keys_of(scores)
    assert not keys_of(scores) & list_keys(ON_WELLS)
    in_order = scores.sort_values(["metric", "source", "correction"], ignore_index=True)
    pd.testing.assert_frame_equal(scores, in_order)
    assert ref.computed
    assert ref.counts["rows"] == len(scores)
    assert seen == [(done, ref.counts["metrics"]) for done in range(1, ref.counts["metrics"] + 1)]
    values = scores.set_index(["metric", "source", "correction"])
    pairs = pd.read_csv(annotations / "pathways.txt")
    kept = ~dataset["unexpressed"].to_numpy()
    for correction, name in (("none", "embedding_uncorrected"), ("arms", "embedding")):
        x = dataset[name].to_numpy()
        recall = relationship_recall(x, GENES, pairs, n_bootstrap=100)
        row = values.loc["relationship_recall", "pathways", correction]
        assert (row.value, row.low, row.high) == (recall.recall, *recall.interval)
        assert (row.n, row.null) == (59, pytest.approx(0.10))
        bias = compare_groups(x[kept], dataset["arm"].to_numpy()[kept])
        row = values.loc["proximity_bias", "genome", correction]
        assert row.value == pytest.approx(bias.probability["genome"])
        assert row.p_value == pytest.approx(bias.p_value["genome"])
        assert json.loads(row.parameters)["n_genes"] == 30
    assert np.isnan(values.loc["relationship_recall", "others", "arms"].value)


def test_replicates_are_scored_where_the_map_keeps_its_wells(lake, annotations):
    publish_map(lake, wells=True)
    benchmark_map(lake, name="demo", annotations=annotations, config=CONFIG)
    scores = read_scores(lake)
    assert list_keys(ON_MAP | ON_WELLS) <= keys_of(scores)
    values = scores.set_index(["metric", "source", "correction"])
    for metric in ("consistency", "magnitude", "replicate_map"):
        row = values.loc[metric, "controls", "none"]
        assert row.null < row.low < row.value < row.high
        assert row.n == 60
        assert 0 < values.loc[f"{metric}_hits", "controls", "none"].value <= 1


def test_an_uncorrected_map_has_no_score_after_correction(lake, annotations):
    publish_map(lake, correct="none")
    benchmark_map(lake, name="demo", annotations=annotations, config=CONFIG)
    assert set(read_scores(lake).correction) == {"none"}


def test_a_second_run_returns_at_once_and_a_fresh_one_writes_the_same_bytes(lake, annotations):
    publish_map(lake, wells=True)
    first = benchmark_map(lake, name="demo", annotations=annotations, config=CONFIG)
    again = benchmark_map(lake, name="demo", annotations=annotations, config=CONFIG)
    assert (again.computed, again.key, again.counts) == (False, first.key, first.counts)
    table = map_part("demo", "benchmark.parquet")
    once = lake.manifest(table).files
    lake.clear(table)
    assert benchmark_map(lake, name="demo", annotations=annotations, config=CONFIG).computed
    assert lake.manifest(table).files == once


def test_what_the_scores_rest_on_makes_them_stale(lake, annotations):
    def run(config=CONFIG):
        return benchmark_map(lake, name="demo", annotations=annotations, config=config)

    publish_map(lake)
    run()
    assert run(CONFIG.model_copy(update={"seed": 1})).computed
    (annotations / "others.txt").write_text("entity1,entity2\nG00,G05\n")
    assert run().computed
    publish_map(lake, seed=1)
    assert run().computed
    assert not run().computed


def test_pins_guard_the_annotations_and_change_nothing_else(lake, annotations):
    publish_map(lake)
    first = benchmark_map(lake, name="demo", annotations=annotations, config=CONFIG)
    digests = lake.manifest(map_part("demo", "benchmark.parquet")).inputs
    pinned = CONFIG.model_copy(update={"pins": {"pathways.txt": digests["source:pathways"]}})
    again = benchmark_map(lake, name="demo", annotations=annotations, config=pinned)
    assert (again.computed, again.key) == (False, first.key)
    (annotations / "pathways.txt").write_text("entity1,entity2\nG00,G05\n")
    with pytest.raises(InputError, match=r"expected pathways\.txt in .* with the digest"):
        benchmark_map(lake, name="demo", annotations=annotations, config=pinned)


def test_a_map_that_is_not_there(lake, annotations):
    with pytest.raises(InputError, match="none published: build the map first"):
        benchmark_map(lake, name="demo", annotations=annotations)
