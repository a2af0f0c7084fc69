import numpy as np
import pytest
from scipy.stats import false_discovery_control, kstest, norm

from phenopipe.errors import InputError
from phenopipe.maps.relations import cosine_blocks, top_neighbours
from phenopipe.schema import NEIGHBOURS, check_table


def draw(n, d=48, *, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def all_cosines(x):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.mark.parametrize("block", [1, 7, 100])
def test_blocks_are_the_matrix(block):
    x = draw(30)
    rows = np.vstack([cosines for _, cosines in cosine_blocks(x, block=block)])
    np.testing.assert_allclose(rows, all_cosines(x), atol=1e-6)


def test_neighbours_are_those_of_the_sorted_matrix():
    x, names = draw(25), [f"G{i:02d}" for i in range(25)]
    table = check_table(top_neighbours(x, names, top=4, block=6), NEIGHBOURS, where="here")
    similar = all_cosines(x)
    np.fill_diagonal(similar, -np.inf)
    best = np.argsort(-similar, axis=1)[:, :4]
    assert table["neighbour"].to_pylist() == [names[i] for i in best.ravel()]
    assert table["rank"].to_pylist() == [1, 2, 3, 4] * 25
    np.testing.assert_allclose(
        table["cosine"].to_numpy(), np.take_along_axis(similar, best, axis=1).ravel(), atol=1e-6
    )


def test_significance_is_scipys_over_all_pairs():
    x, names = draw(60, 12), [f"G{i:02d}" for i in range(60)]
    x[:6] += 2.5  # six that belong together
    table = top_neighbours(x, names, top=59).to_pandas()
    pairs = all_cosines(x)[np.triu_indices(60, 1)]
    z = np.arctanh(pairs)
    low, middle, high = np.quantile(z, [0.25, 0.5, 0.75])
    p = 2 * norm.sf(np.abs(z - middle) / ((high - low) / (2 * norm.ppf(0.75))))
    once = table[table.perturbation < table.neighbour].sort_values(["perturbation", "neighbour"])
    # The quartiles of 1,770 pairs are those of the bins, not interpolated: 1e-3 of a deviation.
    np.testing.assert_allclose(np.log(once.p_value), np.log(p), rtol=0.02, atol=0.02)
    np.testing.assert_allclose(once.fdr, false_discovery_control(once.p_value), rtol=1e-6)
    planted = once[(once.perturbation < "G06") & (once.neighbour < "G06")]
    assert (planted.fdr < 0.05).mean() > 0.8


def test_p_values_of_unrelated_perturbations_are_uniform():
    table = top_neighbours(draw(200, seed=5), [f"G{i:03d}" for i in range(200)], top=199)
    once = table.to_pandas().query("perturbation < neighbour")
    assert kstest(once.p_value, "uniform").statistic < 0.02
    assert (once.fdr < 0.05).sum() == 0


def test_neither_blocks_nor_the_order_of_rows_matter():
    x, names = draw(40), np.array([f"G{i:02d}" for i in range(40)])
    x[[3, 4]] = x[2]  # ties
    once = top_neighbours(x, names, top=5)
    order = np.random.default_rng(1).permutation(40)
    again = top_neighbours(x[order], names[order], top=5, block=7)
    assert again.drop_columns(["cosine", "p_value", "fdr"]) == once.drop_columns(
        ["cosine", "p_value", "fdr"]
    )
    of_tied = once.to_pandas().query("perturbation == 'G02'")["neighbour"]
    assert of_tied.tolist()[:2] == ["G03", "G04"]


@pytest.mark.parametrize(("n", "rows"), [(1, 0), (2, 2), (3, 6)])
def test_small_maps_have_as_many_neighbours_as_there_are(n, rows):
    table = top_neighbours(draw(n), list("abc")[:n], top=20)
    assert table.num_rows == rows
    assert table.schema == NEIGHBOURS


def test_two_perturbations_show_no_spread_so_no_evidence():
    assert top_neighbours(draw(2), ["a", "b"], top=1)["p_value"].to_pylist() == [1, 1]


def test_a_zero_row_has_no_direction():
    x = draw(5)
    x[3] = 0
    with pytest.raises(InputError, match="1 of 5 that are all zero, the first at row 3"):
        top_neighbours(x, list("abcde"), top=1)
