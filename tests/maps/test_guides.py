import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare

from phenopipe.maps.aggregate import Profiles
from phenopipe.maps.guides import _draw_labels, check_guides, describe_agreement

WIDTH = 32


def draw_guides(*sizes, active=0.0, seed=0):
    """Genes G000, G001, … with so many guides each: a gene's own direction, and each guide's."""
    random = np.random.default_rng(seed)
    rows = [
        {"label": f"G{gene:03d}", "guide": f"G{gene:03d}_{guide}"}
        for gene, size in enumerate(sizes)
        for guide in range(size)
    ]
    own = np.repeat(random.normal(size=(len(sizes), WIDTH)), sizes, axis=0)
    strength = np.broadcast_to(active, len(sizes))[np.repeat(np.arange(len(sizes)), sizes)]
    return Profiles(pd.DataFrame(rows), strength[:, None] * own + random.normal(size=own.shape))


def cosine(x, y):
    return x @ y / np.linalg.norm(x) / np.linalg.norm(y)


def test_agreement_is_the_mean_cosine_of_all_pairs_of_guides():
    guides = draw_guides(4, 2, 1, 3, active=0.7)
    found = check_guides(guides).mean_cosine
    assert found.index.tolist() == ["G000", "G001", "G003"]  # one guide has none to agree with
    for label, mean in found.items():
        x = guides.values[(guides.rows["label"] == label).to_numpy()]
        assert mean == pytest.approx(np.mean([cosine(a, b) for a, b in combinations(x, 2)]))


def test_wells_without_a_guides_name_are_not_compared():
    guides = draw_guides(3, 3)
    rows = guides.rows.assign(guide=[*guides.rows["guide"][:3], "", "x", "y"])
    found = check_guides(Profiles(rows, guides.values))
    alone = check_guides(Profiles(rows[rows["guide"] != ""], guides.values[[0, 1, 2, 4, 5]]))
    pd.testing.assert_series_equal(found.mean_cosine, alone.mean_cosine)
    assert len(found.disagreeing) == 6


def test_p_values_of_genes_without_a_phenotype_are_uniform():
    p_values = check_guides(draw_guides(*[3] * 400)).p_value
    deciles = np.histogram(p_values, bins=10, range=(0, 1))[0]
    assert deciles.min() > 15
    assert deciles.max() < 75  # 40 +- 6 each


def test_random_guides_are_of_different_genes_and_all_sets_are_as_likely():
    drawn = _draw_labels(np.random.default_rng(0), 5, 3)
    sets, counts = np.unique(np.sort(drawn, axis=1), axis=0, return_counts=True)
    assert len(sets) == 10  # of 5 genes 3 can be taken in so many ways
    assert all(len(set(row)) == 3 for row in sets.tolist())
    assert chisquare(counts).pvalue > 1e-3


def test_the_null_of_two_guides_is_that_of_all_pairs_of_different_genes():
    guides = draw_guides(*[2] * 60, active=np.repeat([1.5, 0.0], 30))
    unit = guides.values / np.linalg.norm(guides.values, axis=1, keepdims=True)
    label = guides.rows["label"].to_numpy()
    pairs = np.array([
        unit[a] @ unit[b] for a, b in combinations(range(120), 2) if label[a] != label[b]
    ])  # fmt: skip
    found = check_guides(guides)
    expected = [(pairs >= mean).mean() for mean in found.mean_cosine]
    np.testing.assert_allclose(found.p_value, expected, atol=0.02)
    assert (found.p_value[:30] < 0.05).all()


def test_a_guide_that_stands_apart_from_others_that_agree_is_told():
    guides = draw_guides(*[4] * 50, active=np.repeat([2.0, 0.0], 25))
    values = guides.values.copy()
    values[2], values[17], values[150] = -values[0], -values[16], -values[148]
    found = check_guides(Profiles(guides.rows, values))
    # The last is of a gene without a phenotype, whose others do not agree either.
    assert np.flatnonzero(found.disagreeing).tolist() == [2, 17]
    told = re.fullmatch(r"the guides of (\d+) of 50 .*; 2 guides .*", describe_agreement(found))
    assert 23 <= int(told[1]) <= 27


def test_of_two_guides_neither_is_the_wrong_one():
    guides = draw_guides(*[2] * 30, active=3.0)
    values = guides.values.copy()
    values[1] = -values[0]
    assert not check_guides(Profiles(guides.rows, values)).disagreeing.any()


def test_the_order_of_guides_and_the_run_do_not_matter():
    guides = draw_guides(3, 3, 2, 4, active=1.0)
    once, again = check_guides(guides), check_guides(guides)
    pd.testing.assert_series_equal(once.p_value, again.p_value)


@pytest.mark.parametrize("sizes", [(), (1,), (1, 1, 1)])
def test_a_screen_of_one_guide_a_gene_has_nothing_to_compare(sizes):
    rows = pd.DataFrame(
        {"label": [f"G{k}" for k in range(len(sizes))], "guide": ["g"] * len(sizes)}
    )
    found = check_guides(Profiles(rows, np.ones((len(sizes), WIDTH))))
    assert found.mean_cosine.empty
    assert not describe_agreement(found)


def test_where_too_few_genes_are_there_for_a_null_p_is_not_known():
    found = check_guides(draw_guides(3, 3, active=1.0))
    assert found.mean_cosine.notna().all()
    assert found.p_value.isna().all()  # three guides of different genes need three genes
