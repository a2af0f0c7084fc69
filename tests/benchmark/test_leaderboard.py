import struct

import pandas as pd
import pytest

from phenopipe.benchmark import benchmark_map, draw_leaderboard, rank_maps
from phenopipe.config import BenchmarkConfig
from phenopipe.errors import InputError
from phenopipe.lake import Lake
from tests.benchmark.lake import publish_map, write_annotations

CONFIG = BenchmarkConfig(n_bootstrap=100, n_shuffles=20, n_null=100)


@pytest.fixture
def annotations(tmp_path):
    return write_annotations(tmp_path / "annotations")


@pytest.fixture
def lake(tmp_path, annotations):
    lake = Lake(tmp_path / "lake")
    publish_map(lake, name="good")
    publish_map(lake, name="noisy", noise=3.0, correct="none")
    for name in ("good", "noisy"):
        benchmark_map(lake, name=name, annotations=annotations, config=CONFIG)
    return lake


def test_maps_are_ranked_on_each_metric_the_best_first(lake):
    table = rank_maps(lake)
    for _, ranked in table.groupby(["metric", "source"]):
        assert ranked["rank"].tolist() == sorted(ranked["rank"])
        best = ranked.value
        if ranked.metric.iloc[0] == "proximity_bias":
            best = -(best - 0.5).abs()
        assert best.is_monotonic_decreasing
        assert set(ranked["map"] + " " + ranked.correction) == {
            "good none",
            "good arms",
            "noisy none",
        }
    assert set(table[table.metric == "proximity_bias"].source) == {"genome"}
    assert set(table["align"]) == {"tvn"}
    bias = table[table.metric == "proximity_bias"].set_index(["map", "correction"])
    assert bias.loc[("good", "arms"), "rank"] < bias.loc[("good", "none"), "rank"]


def test_scores_on_other_annotations_are_ranked_apart(lake, annotations):
    (annotations / "pathways.txt").write_text("entity1,entity2\nG00,G05\nG01,G07\n")
    benchmark_map(lake, name="noisy", annotations=annotations, config=CONFIG)
    table = rank_maps(lake)
    recall = table[table.metric == "relationship_recall"]
    assert recall.source.str.match(r"pathways \([0-9a-f]{8}\)").all()
    assert recall.groupby("source")["map"].nunique().tolist() == [1, 1]


def test_scores_of_a_map_that_was_published_anew_are_left_out(lake, caplog):
    publish_map(lake, name="noisy", noise=1.0, correct="none")
    assert set(rank_maps(lake)["map"]) == {"good"}
    assert "noisy: left out" in caplog.text


def test_a_lake_without_scores(tmp_path):
    with pytest.raises(InputError, match=r"maps with scores .* run `phenopipe benchmark`"):
        rank_maps(Lake(tmp_path))


def test_the_picture_is_the_same_bytes_each_time(lake, tmp_path):
    table, paths = rank_maps(lake), [tmp_path / "one.svg", tmp_path / "two.svg"]
    for path in paths:
        draw_leaderboard(table, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_picture_names_maps_metrics_and_sides(lake, tmp_path):
    path = tmp_path / "maps.svg"
    draw_leaderboard(rank_maps(lake), path)
    text = path.read_text()
    words = ("good", "noisy", "relationship recall", "pathways", "arms corrected", "by chance")
    assert all(word in text for word in words)
    # The two sides' colours of Okabe & Ito.
    assert "#0072b2" in text
    assert "#d55e00" in text


def test_the_picture_grows_with_maps_and_panels(lake, tmp_path):
    table = rank_maps(lake)
    more = pd.concat([table, *(table.assign(map=table["map"] + f"-{i}") for i in range(10))])
    sizes = []
    for rows in (table, more):
        path = tmp_path / "maps.png"
        draw_leaderboard(rows, path)
        sizes.append(struct.unpack(">II", path.read_bytes()[16:24]))
    assert sizes[1][0] == sizes[0][0]
    assert sizes[1][1] > 2 * sizes[0][1]


def test_a_picture_of_another_kind_is_refused(lake, tmp_path):
    with pytest.raises(InputError, match=r"a picture as \.svg, \.png, \.pdf, found maps\.gif"):
        draw_leaderboard(rank_maps(lake), tmp_path / "maps.gif")
