import numpy as np
import pandas as pd
import pytest

from phenopipe.benchmark import MapData, proximity_resamples, score_proximity
from phenopipe.benchmark.proximity import ProximityBias
from phenopipe.benchmark.proximity_resamples import (
    RankedPairs,
    bootstrap_proximity,
    shuffle_proximity,
)
from phenopipe.config import BenchmarkConfig
from phenopipe.genome import arms_from_positions
from phenopipe.stats import bootstrap_counts, compare_groups, unit_rows

FAST = BenchmarkConfig(n_bootstrap=200, n_shuffles=50)


def draw_biased(shift=0.5, seed=0):
    """90 genes on arms of 40, 25, 15 and 10; those of the first share a phenotype."""
    x = np.random.default_rng(seed).normal(size=(90, 10))
    x[:40] += shift
    return x, np.repeat([0, 1, 2, 3], [40, 25, 15, 10])


def resample_by_listing(unit, codes, counts):
    """P(within > between) of each arm and the genome, with each pair weighed."""
    one, other = np.triu_indices(len(unit), 1)
    order = np.argsort((unit @ unit.T)[one, other])
    one, other = one[order], other[order]
    same = codes[one] == codes[other]
    weights = counts[:, one] * counts[:, other]
    columns = []
    for arm in [0, 1, 2, 3, None]:
        of_arm = (codes[one] == arm) | (codes[other] == arm) if arm is not None else np.True_
        within, between = weights * (same & of_arm), weights * (~same & of_arm)
        below = np.cumsum(between, axis=1) - between / 2
        pairs = within.sum(axis=1) * between.sum(axis=1)
        columns.append((within * below).sum(axis=1) / pairs)
    return np.stack(columns, axis=1)


def test_resamples_are_those_of_listing_all_pairs():
    x, codes = draw_biased()
    unit = unit_rows(x)
    found = bootstrap_proximity(RankedPairs(x), codes, n_bootstrap=400, seed=1)
    expected = resample_by_listing(unit, codes, bootstrap_counts(90, n_bootstrap=400, seed=1))
    # Of first order: the smaller the arm, the more is left.
    assert (abs(found - expected).max(axis=0) < [0.01, 0.015, 0.03, 0.08, 0.01]).all()
    np.testing.assert_allclose(found.std(axis=0), expected.std(axis=0), rtol=0.05)
    bounds = [np.quantile(draws, [0.025, 0.975], axis=0) for draws in (found, expected)]
    np.testing.assert_allclose(bounds[0][:, [0, 1, 4]], bounds[1][:, [0, 1, 4]], atol=0.005)


def test_shuffles_are_those_of_ranking_anew():
    x, codes = draw_biased()
    found = shuffle_proximity(RankedPairs(x), codes, n_shuffles=5, seed=3)
    rng = np.random.default_rng(3)
    expected = [compare_groups(x, rng.permutation(codes)).probability for _ in range(5)]
    np.testing.assert_allclose(found, expected, atol=5e-4)


def test_blocks_of_rows_change_nothing(monkeypatch):
    x, codes = draw_biased()
    once = bootstrap_proximity(RankedPairs(x), codes, n_bootstrap=20, seed=1)
    monkeypatch.setattr(proximity_resamples, "_BLOCK_PAIRS", 900)  # 10 rows a block
    again = bootstrap_proximity(RankedPairs(x), codes, n_bootstrap=20, seed=1)
    np.testing.assert_allclose(again, once, atol=1e-6)


def test_classes_rank_as_the_cosines_do():
    x, _ = draw_biased()
    ranked, rows = RankedPairs(x), np.arange(90)
    classes, cosines = ranked.classes(rows), unit_rows(x) @ unit_rows(x).T
    order = np.argsort(cosines, axis=None)
    assert (np.diff(classes.ravel()[order]) >= -1).all()  # neighbours in float32 may swap
    assert np.bincount(classes[np.triu_indices(90, 1)], minlength=1024).max() < 20
    np.testing.assert_array_equal(ranked.counts.sum(axis=1), 89)


@pytest.fixture(scope="module")
def periscope(shared):
    """Give the map of PERISCOPE, its arms and its score."""
    x = pd.read_csv(shared("maps/HeLa_HPLM_hit_list_PCA.csv"), index_col=0)
    names = ["gene", "chrom", "start", "end"]
    genes = pd.read_csv(
        shared("genes/hg38_gencode_v27.txt"), sep="\t", names=names, usecols=range(4)
    ).drop_duplicates("gene")
    centromeres = pd.read_csv(shared("genes/centromeres_hg38.tsv"), sep="\t")
    arms = arms_from_positions(genes, centromeres).reindex(x.index).fillna("").to_numpy()
    return x, arms, score_proximity(x, arms, n_bootstrap=200, n_shuffles=40)


def test_the_bias_of_periscope_is_the_published_one_with_its_interval(periscope):
    table = periscope[-1]
    genome = table.loc["genome"]
    assert round(genome.probability, 3) == 0.538
    assert 0.52 < genome.low < 0.538 < genome.high < 0.56
    top = table.drop("genome").nlargest(3, "probability")
    assert top.probability.round(3).to_dict() == {"17p": 0.675, "8p": 0.638, "15q": 0.621}
    assert (top.low > top.null_high).all()


def test_the_shuffled_genome_of_periscope_has_the_published_spread(periscope):
    x, arms, table = periscope
    assert table.null["genome"] == pytest.approx(0.5, abs=0.001)
    codes = pd.factorize(arms[arms != ""])[0]
    genome = shuffle_proximity(RankedPairs(x[arms != ""]), codes, n_shuffles=40, seed=1)[:, -1]
    assert genome.mean() == pytest.approx(0.4999, abs=0.0009)
    assert 0.0005 < genome.std() < 0.0015  # published: 0.0009


def test_an_arm_that_shares_a_phenotype_stands_out_of_its_band():
    x, codes = draw_biased()
    arms = np.array(["1p", "1q", "2p", "2q"], dtype=object)[codes]
    table = score_proximity(x, arms, n_bootstrap=200, n_shuffles=50)
    pd.testing.assert_frame_equal(
        table[["statistic", "probability", "p_value", "n_within", "n_between"]],
        compare_groups(x, arms),
    )
    assert ((table.low < table.probability) & (table.probability < table.high)).all()
    assert ((table.null_low < 0.5) & (table.null_high > 0.5)).all()
    assert table.low["1p"] > table.null_high["1p"]
    assert table.p_shuffled["1p"] == pytest.approx(1 / 51)
    assert table.probability["1q"] < table.null_high["1q"]


def test_small_arms_have_what_can_be_known():
    x, _ = draw_biased()
    arms = np.array(["1p"] * 40 + ["1q"] * 45 + ["2p"] * 4 + ["2q"], dtype=object)
    table = score_proximity(x, arms, n_bootstrap=100, n_shuffles=20)
    assert table.loc["2p", ["low", "high"]].isna().all()
    assert table.loc["2p", ["probability", "null", "null_low"]].notna().all()
    assert table.loc["2q", ["probability", "low", "null", "p_shuffled"]].isna().all()
    assert table.loc["2q", "n_genes"] == 1
    assert table.loc["genome"].notna().all()


def make_map(*, unexpressed):
    x, codes = draw_biased(shift=0.8)
    arms = np.array(["1p", "1q", "2p", ""], dtype=object)[codes]
    corrected = x.copy()
    corrected[:40] -= 0.8
    # The reference genes are made to lie about zero, as after a correction by themselves.
    corrected[:20] = np.random.default_rng(9).normal(scale=1e-3, size=(20, 10))
    return MapData(
        embeddings={"none": x, "arms": corrected},
        labels=np.array([f"G{i}" for i in range(90)], dtype=object),
        arms=arms,
        unexpressed=np.arange(90) < (20 if unexpressed else 0),
        annotations=[],
    )


def test_reference_genes_are_scored_neither_before_nor_after():
    data = make_map(unexpressed=True)
    scores = {(s.source, s.correction): s for s in ProximityBias().score(data, FAST)}
    scored = (data.arms != "") & ~data.unexpressed
    for correction, x in data.embeddings.items():
        expected = compare_groups(x[scored], data.arms[scored])
        for arm, row in expected.iterrows():
            found = scores[arm, correction]
            assert (found.value, found.n) == (row.probability, row.n_within)
            assert found.parameters["n_unexpressed_left_out"] == 20
    assert scores["1p", "none"].parameters["n_genes"] == 20
    assert scores["1p", "none"].value > 0.7
    assert scores["1p", "arms"].value < scores["1p", "arms"].null_high
    assert "expressed genes" in scores["genome", "arms"].parameters["scored"]


def test_all_genes_are_scored_where_none_is_known_to_be_unexpressed():
    score = ProximityBias().score(make_map(unexpressed=False), FAST)[-1]
    assert score.parameters["n_genes"] == 80
    assert score.parameters["scored"].startswith("all genes")


def test_a_map_without_arms_has_no_score(caplog):
    data = make_map(unexpressed=True)
    nowhere = MapData(**{**vars(data), "arms": np.full(90, "", dtype=object)})
    assert ProximityBias().score(nowhere, FAST) == []
    assert "no perturbation has a chromosome arm" in caplog.text
    silent = MapData(**{**vars(data), "unexpressed": np.ones(90, dtype=bool)})
    assert ProximityBias().score(silent, FAST) == []
    assert "every gene with an arm is unexpressed" in caplog.text
