import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist, squareform
from statsmodels.stats.nonparametric import rank_compare_2indep

from phenopipe.errors import InputError
from phenopipe.stats import compare_groups, compare_rows, cosine_pairs, pair_index, pairs


@pytest.mark.parametrize("n", [0, 1, 2, 513, 700])
def test_cosines_of_pairs_are_those_of_scipy_in_its_order(n):
    x = np.random.default_rng(n).normal(size=(n, 4))
    expected = 1 - pdist(x, "cosine") if n > 1 else np.empty(0)
    np.testing.assert_allclose(cosine_pairs(x), expected, atol=1e-12)


def test_pair_index_numbers_the_upper_triangle():
    first, second = np.triu_indices(9, 1)
    np.testing.assert_array_equal(pair_index(first, second, 9), np.arange(36))
    np.testing.assert_array_equal(pair_index(second, first, 9), np.arange(36))


def test_a_row_that_is_not_finite_is_named():
    with pytest.raises(InputError, match="in 1 of 3 rows, the first at row 2"):
        cosine_pairs([[1.0, 0.0], [0.0, 1.0], [np.nan, 1.0]])


@pytest.mark.parametrize("block_pairs", [1, 100, 10_000])  # a row a block, some, all
def test_groups_are_compared_as_by_listing_their_pairs(block_pairs, monkeypatch):
    monkeypatch.setattr(pairs, "_BLOCK_PAIRS", block_pairs)
    rng = np.random.default_rng(0)
    x, groups = rng.normal(size=(30, 6)), np.array(list("aaabbbbbcc") * 3)
    cosine = 1 - pdist(x, "cosine")
    one, other = (groups[side] for side in np.triu_indices(30, 1))
    for name, row in compare_groups(x, groups).iterrows():
        of_group = (one == name) | (other == name) if name != "genome" else np.True_
        expected = rank_compare_2indep(
            cosine[(one == other) & of_group], cosine[(one != other) & of_group], use_t=False
        )
        assert (row.n_within, row.n_between) == (expected.nobs_1, expected.nobs_2)
        assert row.probability == pytest.approx(expected.prob1, rel=1e-12)
        assert row.statistic == pytest.approx(expected.statistic, rel=1e-9)


def test_blocks_change_no_bit(monkeypatch):
    x, groups = np.random.default_rng(1).integers(-2, 3, size=(60, 3)), list("aabbbc") * 10
    x[(x == 0).all(axis=1)] = 1
    whole = compare_groups(x, groups)
    monkeypatch.setattr(pairs, "_BLOCK_PAIRS", 150)
    pd.testing.assert_frame_equal(compare_groups(x, groups), whole, rtol=1e-12)


def test_a_row_is_compared_as_by_listing_its_pairs(monkeypatch):
    monkeypatch.setattr(pairs, "_BLOCK_PAIRS", 100)
    rng = np.random.default_rng(2)
    x = rng.normal(size=(32, 6))
    groups = np.array([*"aaabbbbbcc" * 3, "", "alone"], dtype=object)
    table = compare_rows(x, groups)
    cosine = 1 - squareform(pdist(x, "cosine"))
    for row in range(30):
        own = (groups == groups[row]) & (np.arange(32) != row)
        others = (groups != groups[row]) & (groups != "")
        expected = rank_compare_2indep(cosine[row, own], cosine[row, others], use_t=False)
        found = table.loc[row]
        assert (found.group, found.n_within, found.n_between) == (
            groups[row], expected.nobs_1, expected.nobs_2,
        )  # fmt: skip
        assert found.probability == pytest.approx(expected.prob1, rel=1e-12)
        assert found.statistic == pytest.approx(expected.statistic, rel=1e-9)
    assert table.group.tolist()[30:] == ["", "alone"]
    assert table.probability[30:].isna().all()
    assert table.n_within.tolist()[30:] == [0, 0]
