from itertools import product

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, kstest, norm

from phenopipe.errors import InputError
from phenopipe.maps.relations import cosine_blocks, directions, nearest, top_neighbours
from phenopipe.schema import NEIGHBOURS, check_table


def draw(n, d=48, *, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def name(n):
    return [f"G{i:03d}" for i in range(n)]


def all_cosines(x):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit @ unit.T


def alike(table):
    frame = table.to_pandas()
    return frame[frame.side == "alike"].drop(columns="side")


@pytest.mark.parametrize("block", [1, 7, 100, None])
def test_blocks_are_the_matrix(block):
    x = draw(30)
    unit = directions(x)
    rows = np.vstack([cosines for _, cosines in cosine_blocks(unit, unit, block=block)])
    np.testing.assert_allclose(rows, all_cosines(x), atol=1e-6)


def test_neighbours_are_those_of_the_sorted_matrix():
    x, names = draw(25), name(25)
    table = check_table(top_neighbours(x, names, top=4, block=6), NEIGHBOURS, where="here")
    similar = all_cosines(x)
    for side, sign in (("alike", 1), ("opposite", -1)):
        found = table.filter(pc.field("side") == side).to_pandas()
        ranked = sign * similar
        np.fill_diagonal(ranked, -np.inf)
        best = np.argsort(-ranked, axis=1)[:, :4]
        assert found["neighbour"].tolist() == [names[i] for i in best.ravel()]
        assert found["rank"].tolist() == [1, 2, 3, 4] * 25
        expected = np.take_along_axis(similar, best, axis=1).ravel()
        np.testing.assert_allclose(found["cosine"], expected, atol=1e-7)


def test_each_relation_has_its_own_neighbours_and_its_own_null():
    x = draw(70, 24)
    names = [f"P{i:02d}" for i in np.random.default_rng(2).permutation(70)]
    kinds = np.array(["gene", "compound"])[(np.arange(70) % 3 == 0).astype(int)]
    found = top_neighbours(x, names, kinds=kinds, top=70, block=9).to_pandas()
    similar = pd.DataFrame(all_cosines(x), names, names)
    kind_of = dict(zip(names, kinds, strict=True))
    for first, second in (("gene", "gene"), ("gene", "compound"), ("compound", "compound")):
        pairs = {
            (a, b): similar.loc[a, b]
            for a, b in product(names, names)
            if (kind_of[a], kind_of[b]) == (first, second) and (first != second or a < b)
        }
        z = np.arctanh(list(pairs.values()))
        low, middle, high = np.quantile(z, [0.25, 0.5, 0.75], method="inverted_cdf")
        p = 2 * norm.sf(np.abs(z - middle) / ((high - low) / (2 * norm.ppf(0.75))))
        expected = pd.DataFrame(
            {"cosine": pairs.values(), "p_value": p, "fdr": false_discovery_control(p)},
            pd.MultiIndex.from_tuples(pairs),
        )
        of = found[(found.relation == f"{first}-{second}") & (found.side == "alike")]
        told = of.set_index(["perturbation", "neighbour"]).loc[expected.index]
        np.testing.assert_allclose(told["cosine"], expected["cosine"], atol=1e-6)
        np.testing.assert_allclose(told["p_value"], expected["p_value"], rtol=1e-3)
        # A cosine in float32 may be counted a bin of 2e-6 beside its own.
        np.testing.assert_allclose(told["fdr"], expected["fdr"], rtol=5e-3)
        turned = of.set_index(["neighbour", "perturbation"]).loc[expected.index]
        np.testing.assert_array_equal(turned["cosine"], told["cosine"])


def test_significance_is_scipys_over_all_pairs():
    x, names = draw(60, 12), name(60)
    x[:6] += 2.5  # six that belong together
    table = alike(top_neighbours(x, names, top=59))
    pairs = all_cosines(x)[np.triu_indices(60, 1)]
    z = np.arctanh(pairs)
    low, middle, high = np.quantile(z, [0.25, 0.5, 0.75])
    p = 2 * norm.sf(np.abs(z - middle) / ((high - low) / (2 * norm.ppf(0.75))))
    once = table[table.perturbation < table.neighbour].sort_values(["perturbation", "neighbour"])
    # The quartiles of 1,770 pairs are those of the bins, not interpolated: 1e-3 of a deviation.
    np.testing.assert_allclose(np.log(once.p_value), np.log(p), rtol=0.02, atol=0.02)
    np.testing.assert_allclose(once.fdr, false_discovery_control(once.p_value), rtol=5e-3)
    planted = once[(once.perturbation < "G006") & (once.neighbour < "G006")]
    assert (planted.fdr < 0.05).mean() > 0.8


def test_p_values_of_unrelated_perturbations_are_uniform():
    table = alike(top_neighbours(draw(200, seed=5), name(200), top=199))
    once = table.query("perturbation < neighbour")
    assert kstest(once.p_value, "uniform").statistic < 0.02
    assert (once.fdr < 0.05).sum() == 0


@given(st.integers(2, 40), st.integers(5, 12), st.integers(1, 45), st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_neither_blocks_nor_the_order_of_rows_matter(n, block, top, seed):
    random = np.random.default_rng(seed)
    x = draw(n, 5, seed=seed)
    x[random.integers(n, size=n // 2)] = x[0]  # ties
    names = np.array(name(n))
    kinds = random.choice(["gene", "compound"], n)
    once = top_neighbours(x, names, kinds=kinds, top=top)
    order = random.permutation(n)
    again = top_neighbours(x[order], names[order], kinds=kinds[order], top=top, block=block)
    exact = ["perturbation", "relation", "side", "rank", "neighbour", "cosine"]
    assert again.select(exact) == once.select(exact)


def test_ties_fall_to_names():
    x = draw(40)
    x[[3, 4]] = x[2]
    of_tied = alike(top_neighbours(x, name(40), top=2)).query("perturbation == 'G003'")
    assert of_tied["neighbour"].tolist() == ["G002", "G004"]


def test_what_float32_leaves_open_is_settled():
    """Two neighbours nearer to one another than float32's products can tell."""
    rows = directions(draw(1, 2048))
    columns = directions(rows + 1e-4 * draw(300, 2048, seed=1))
    noisy = (rows @ columns.T) + np.random.default_rng(2).normal(0, 2e-7, 300).astype(np.float32)
    index, cosines = nearest(noisy, rows, columns, top=5)
    exact = (rows.astype(float) @ columns.T.astype(float)).astype(np.float32)[0]
    expected = np.argsort(-exact, kind="stable")[:5]
    assert index[0].tolist() == expected.tolist()
    np.testing.assert_array_equal(cosines[0], exact[expected])


@pytest.mark.parametrize(("n", "rows"), [(1, 0), (2, 2), (3, 6)])
def test_small_maps_have_as_many_neighbours_as_there_are(n, rows):
    table = top_neighbours(draw(n), list("abc")[:n], top=20)
    assert len(alike(table)) == rows
    assert table.schema == NEIGHBOURS


def test_a_kind_of_one_has_no_relation_to_itself():
    table = top_neighbours(draw(3), list("abc"), kinds=["gene", "gene", "compound"], top=5)
    assert set(table["relation"].to_pylist()) == {"gene-gene", "gene-compound"}


def test_two_perturbations_show_no_spread_so_no_evidence():
    table = top_neighbours(draw(2), ["a", "b"], top=1)
    assert alike(table)["p_value"].tolist() == [1, 1]


def test_a_zero_row_has_no_direction():
    x = draw(5)
    x[3] = 0
    with pytest.raises(InputError, match="1 of 5 that are all zero, the first at row 3"):
        top_neighbours(x, list("edcba"), top=1)


def test_what_is_not_one_name_and_kind_a_row_is_named():
    with pytest.raises(InputError, match="each perturbation once, found 'b' 2 times"):
        top_neighbours(draw(3), list("abb"), top=1)
    with pytest.raises(InputError, match="3 embeddings, found 2 names and 2 kinds"):
        top_neighbours(draw(3), list("ab"), top=1)
    with pytest.raises(InputError, match="found 3 names and 1 kinds"):
        top_neighbours(draw(3), list("abc"), kinds=["gene"], top=1)
