import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control, kendalltau, spearmanr

from phenopipe.errors import InputError
from phenopipe.maps import proximity_along_arm, proximity_by_gene, sample_proximity
from phenopipe.stats import compare_rows, unit_rows


def draw_truncated(seed=0):
    """Genes on 1q share what a cut loses: all of it at the centromere, nothing at the telomere."""
    rng = np.random.default_rng(seed)
    x, arms = rng.normal(size=(200, 12)), np.repeat(["1p", "1q"], 100)
    position = np.concatenate([np.arange(100), 100 + np.arange(100)])
    x[100:, 0] += 3 * np.linspace(1, 0, 100)
    return x, arms, position


def test_each_gene_is_tested_against_its_own_arm_and_corrected_over_genes():
    x, arms, _ = draw_truncated()
    arms = arms.astype(object)
    arms[7] = ""
    frame = pd.DataFrame(x, index=[f"G{i}" for i in range(200)])
    table = proximity_by_gene(frame, arms)
    assert table.index.equals(frame.index)
    expected = compare_rows(x, arms)
    for column in ("statistic", "probability", "p_value", "n_within", "n_between"):
        np.testing.assert_array_equal(table[column], expected[column])
    tested = np.arange(200) != 7
    fdr = false_discovery_control(table.p_value[tested])
    np.testing.assert_array_equal(table.fdr[tested], fdr)
    assert np.isnan(table.fdr.iloc[7])
    assert (table.fdr[100:130] < 0.05).mean() > 0.9
    assert table.probability[:100].mean() == pytest.approx(0.5, abs=0.02)


def test_a_map_without_arms_has_no_gene_to_test():
    assert proximity_by_gene(np.eye(3), ["", None, ""]).fdr.isna().all()


def test_the_bias_of_a_truncated_arm_falls_towards_its_telomere():
    x, arms, position = draw_truncated()
    bias = proximity_by_gene(x, arms).probability
    table = proximity_along_arm(bias, arms, position)
    assert table.correlation["1q"] == pytest.approx(spearmanr(position[100:], bias[100:])[0])
    assert table.correlation["1p"] == pytest.approx(-spearmanr(position[:100], bias[:100])[0])
    assert table.high["1q"] < -0.4
    assert table.low["1p"] < 0 < table.high["1p"]
    assert table.p_bonferroni["1q"] == min(1, 2 * table.p_value["1q"])
    assert table.p_value["1q"] < 1e-10
    # Another measure of ranks agrees on the direction.
    assert kendalltau(position[100:], bias[100:])[0] < -0.3


def test_the_interval_of_a_correlation_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth, n, held = 0.5, 40, 0
    rank_truth = 6 / np.pi * np.arcsin(truth / 2)  # Spearman's of a normal pair
    for _ in range(400):
        one = rng.normal(size=n)
        other = truth * one + np.sqrt(1 - truth**2) * rng.normal(size=n)
        row = proximity_along_arm(other, ["2q"] * n, one).loc["2q"]
        held += row.low < rank_truth < row.high
    assert held / 400 == pytest.approx(0.95, abs=0.025)


def test_arms_with_few_placed_genes_have_no_correlation():
    bias, arms = np.linspace(0, 1, 45), np.array(["1p"] * 22 + ["2q"] * 19 + [""] * 4, object)
    position = np.arange(45.0)
    position[:3] = np.nan
    table = proximity_along_arm(bias, arms, position)
    assert table.n_genes.to_dict() == {"1p": 19, "2q": 19}
    assert table.drop(columns="n_genes").isna().all(axis=None)
    assert proximity_along_arm(bias, arms, position, min_genes=19).correlation.notna().all()


def test_an_arm_needs_a_side_and_lengths_must_match():
    with pytest.raises(InputError, match="expected arms that end with p or q, found 'chr1'"):
        proximity_along_arm([0.5], ["chr1"], [10])
    with pytest.raises(InputError, match="found 2, 1, 1"):
        proximity_along_arm([0.5, 0.6], ["1p"], [10])


def weigh_genes_alike(x, arms):
    """P(within > between) where each gene draws one partner, by listing all pairs."""
    cosines, same = unit_rows(x) @ unit_rows(x).T, arms[:, None] == arms
    inside = same & ~np.eye(len(x), dtype=bool)
    within, between = inside / inside.sum(1, keepdims=True), ~same / (~same).sum(1, keepdims=True)
    order = np.argsort(cosines, axis=None)
    within, between = within.ravel()[order] / len(x), between.ravel()[order] / len(x)
    return (within * (np.cumsum(between) - between / 2)).sum()


def test_draws_tend_to_the_bias_with_each_gene_weighed_alike():
    rng = np.random.default_rng(4)
    arms = np.repeat(["1p", "1q", "2p"], [60, 25, 10])
    x = rng.normal(size=(95, 6))
    x[:60, 0] += 1.5
    found = sample_proximity(x, arms, n_trials=800, seed=1)
    expected = weigh_genes_alike(x, arms)
    assert found.low < expected < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * found.spread / 800**0.5, rel=1e-3)
    assert found.high - found.low < 0.003
    assert found.n_genes == 95


def test_draws_are_seeded_and_leave_out_small_arms():
    x, arms, _ = draw_truncated()
    more = np.vstack([x, np.full((5, 12), 9.0)]), np.append(arms, ["Yq"] * 5)
    once = sample_proximity(*more, n_trials=5, seed=3)
    assert once == sample_proximity(x, arms, n_trials=5, seed=3)
    assert once != sample_proximity(x, arms, n_trials=5, seed=4)
    assert once.n_genes == 200
    with pytest.raises(InputError, match="at least 6 genes, found 1 of 2 arms"):
        sample_proximity(more[0][100:], more[1][100:])
