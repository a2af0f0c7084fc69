import numpy as np
import pandas as pd
import pytest

from phenopipe.benchmark import Score, compare_maps, read_comparison
from phenopipe.benchmark.against import compare_scores
from phenopipe.config import BenchmarkConfig
from phenopipe.errors import InputError
from phenopipe.lake import Lake, map_part
from phenopipe.stats.resample import bootstrap_means
from tests.benchmark.lake import GENES, publish_map, write_annotations

CONFIG = BenchmarkConfig(n_bootstrap=200, n_shuffles=20, n_null=400)


@pytest.fixture
def annotations(tmp_path):
    return write_annotations(tmp_path / "annotations")


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def compare(lake, annotations, **options):
    ref = compare_maps(lake, name="demo", against="other", annotations=annotations, **options)
    table = read_comparison(lake, "demo", "other")
    return ref, table.set_index(["metric", "source", "correction"])


def test_a_noisier_map_is_worse_with_a_p_value(lake, annotations):
    publish_map(lake, wells=True)
    publish_map(lake, name="other", noise=3.0, correct="none", wells=True)
    ref, table = compare(lake, annotations, config=CONFIG)
    assert ref.computed
    assert ref.thing == "maps/demo/against-other.parquet"
    assert set(table.index.get_level_values("correction")) == {"none", "arms against none"}
    worse = table.loc["replicate_map", "controls", "none"]
    assert worse.difference == pytest.approx(worse.value - worse.other)
    consistent = table.loc["consistency", "controls", "none"]
    # The noisy map's replicates scatter around stronger effects.
    assert consistent.low < consistent.high < 0
    assert max(consistent.p_value, consistent.p_signs) < 0.02
    assert (consistent.n, consistent.n_other) == (60, 60)
    bias = table.loc["proximity_bias", "genome", "none"]
    assert bias.low <= bias.difference <= bias.high
    assert 0 < bias.p_value <= 1
    # Pairs are not independent: no sign test on them.
    recall = table.loc["relationship_recall", "pathways", "none"]
    assert np.isnan(recall.p_signs)
    assert 0 < recall.p_value <= 1


def test_a_map_does_not_differ_from_its_copy(lake, annotations):
    publish_map(lake, wells=True)
    publish_map(lake, name="other", wells=True)
    _, table = compare(lake, annotations, config=CONFIG)
    known = table[table.value.notna()]
    assert (known.difference == 0).all()
    assert (known.p_value.dropna() == 1).all()
    assert (known.p_signs.dropna() == 1).all()
    assert len(known.p_value.dropna()) > 10


def test_maps_are_compared_on_the_perturbations_of_both(lake, annotations):
    publish_map(lake)
    renamed = [*GENES[:40], *[f"H{i}" for i in range(20)]]
    publish_map(lake, name="other", genes=renamed)
    ref, table = compare(lake, annotations, config=CONFIG)
    assert ref.counts["perturbations"] == 40
    assert table.loc["relationship_recall", "pathways", "arms"].n == 39
    publish_map(lake, name="other", genes=[f"H{i}" for i in range(60)])
    with pytest.raises(InputError, match="that demo and other both hold, found none: demo has 60"):
        compare(lake, annotations, config=CONFIG)


def test_a_comparison_is_published_once_and_stale_when_a_map_changes(lake, annotations):
    publish_map(lake)
    publish_map(lake, name="other", seed=1)
    first, _ = compare(lake, annotations, config=CONFIG)
    again, _ = compare(lake, annotations, config=CONFIG)
    assert (first.computed, again.computed) == (True, False)
    publish_map(lake, name="other", seed=2)
    assert lake.changed_inputs(lake.manifest(map_part("demo", "against-other.parquet")).inputs)
    assert compare(lake, annotations, config=CONFIG)[0].computed


def test_maps_that_cannot_be_compared(lake, annotations):
    publish_map(lake)
    with pytest.raises(InputError, match="expected two maps to compare, found demo twice"):
        compare_maps(lake, name="demo", against="demo", annotations=annotations)
    with pytest.raises(InputError, match="none published: build the map first"):
        compare(lake, annotations)
    with pytest.raises(InputError, match="run `phenopipe benchmark --map demo --against other`"):
        read_comparison(lake, "demo", "other")


def draw_scores(effect, seed=0, n=80):
    """Draw a metric's values on the same perturbations in two maps, which share most of it."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=n)
    scores = []
    for extra in (effect, 0.0):
        values = pd.Series(common + extra + 0.3 * rng.normal(size=n))
        means = bootstrap_means(values, np.arange(n)[:, None], n=n, n_bootstrap=999, seed=0)
        scores.append(Score("s", "none", float(values.mean()), resamples=means, units=values))
    return scores


def test_pairing_sees_what_two_intervals_do_not():
    first, second = draw_scores(effect=0.2)
    row = compare_scores(first, second, CONFIG)
    assert row["low"] > 0
    assert max(row["p_value"], row["p_signs"]) < 0.01
    # Unpaired, the two intervals overlap by far.
    spread = 1.96 * np.std(first.resamples)
    assert first.value - spread < second.value + spread


def test_p_values_of_no_difference_are_uniform():
    rows = [compare_scores(*draw_scores(0.0, seed=seed), CONFIG) for seed in range(100)]
    for name in ("p_value", "p_signs"):
        found = np.array([row[name] for row in rows])
        assert np.mean(found <= 0.05) <= 0.12
        assert np.mean(found) == pytest.approx(0.5, abs=0.12)
    assert np.mean([row["low"] <= 0 <= row["high"] for row in rows]) >= 0.88


def test_a_metric_without_resamples_has_a_difference_and_no_interval():
    row = compare_scores(Score("s", "none", 2.0), Score("s", "none", 1.5), CONFIG)
    assert row["difference"] == 0.5
    assert np.isnan([row["low"], row["high"], row["p_value"], row["p_signs"]]).all()
