import json
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xarray as xr

from phenopipe.benchmark import benchmark_map, relationship_recall
from phenopipe.config import BenchmarkConfig
from phenopipe.errors import InputError
from phenopipe.lake import Lake, Recipe, map_part
from phenopipe.schema import BENCHMARK, check_table
from phenopipe.stats import compare_groups

GENES = [f"G{i:02d}" for i in range(60)]
CONFIG = BenchmarkConfig(n_bootstrap=100, n_shuffles=20)


def publish_map(lake, *, correct="arms", seed=0):
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(60, 6)).astype(np.float32)
    raw[:20] += 1
    corrected = raw.copy()
    corrected[:20] -= 1 if correct == "arms" else 0
    one = ("perturbation",)
    dataset = xr.Dataset(
        {
            "embedding": (("perturbation", "feature"), corrected),
            "embedding_uncorrected": (("perturbation", "feature"), raw),
            "gene": (one, np.array(GENES, dtype=object)),
            "arm": (one, np.repeat(np.array(["1p", "1q", ""], dtype=object), 20)),
            "unexpressed": (one, np.arange(60) % 4 == 0),
        },
        coords={"perturbation": np.array(GENES, dtype=object)},
        attrs={"correct": correct},
    )
    thing = map_part("demo", "map.zarr")
    with lake.writing(thing):
        with lake.draft(thing) as path:
            dataset.to_zarr(path, zarr_format=3, consolidated=False)
        recipe = Recipe("map", 1, {}, {"seed": seed, "correct": correct})
        lake.publish(thing, recipe, counts={}, started=datetime.now(UTC))
    return dataset


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


@pytest.fixture
def annotations(tmp_path):
    folder = tmp_path / "annotations"
    folder.mkdir()
    pairs = pairwise(GENES)
    lines = "\n".join(f"{a},{b}" for a, b in pairs)
    (folder / "pathways.txt").write_text(f"entity1,entity2\n{lines}\n")
    (folder / "others.txt").write_text("entity1,entity2\nX,Y\n")
    return folder


def read_scores(lake):
    table = pq.read_table(lake.path(map_part("demo", "benchmark.parquet")))
    return check_table(table, BENCHMARK, where="benchmark.parquet").to_pandas()


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
    keys = scores[["metric", "source", "correction"]]
    assert keys.to_numpy().tolist() == [
        [metric, source, correction]
        for metric, sources in (
            ("proximity_bias", ["1p", "1q", "genome"]),
            ("relationship_recall", ["others", "pathways"]),
        )
        for source in sources
        for correction in ("arms", "none")
    ]
    assert (ref.computed, ref.counts["rows"], seen) == (True, 10, [(1, 2), (2, 2)])
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
        assert (row.value, row.p_value) == (bias.probability["genome"], bias.p_value["genome"])
        assert json.loads(row.parameters)["n_genes"] == 30
    assert np.isnan(values.loc["relationship_recall", "others", "arms"].value)


def test_an_uncorrected_map_has_no_score_after_correction(lake, annotations):
    publish_map(lake, correct="none")
    benchmark_map(lake, name="demo", annotations=annotations, config=CONFIG)
    assert set(read_scores(lake).correction) == {"none"}


def test_a_second_run_returns_at_once_and_a_fresh_one_writes_the_same_bytes(lake, annotations):
    publish_map(lake)
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


def test_a_map_that_is_not_there(lake, annotations):
    with pytest.raises(InputError, match="none published: build the map first"):
        benchmark_map(lake, name="demo", annotations=annotations)
