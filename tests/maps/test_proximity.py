import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from statsmodels.stats.nonparametric import rank_compare_2indep

from phenopipe.errors import InputError
from phenopipe.genome import arms_from_positions
from phenopipe.maps.proximity import arm_report, correct_arms, proximity_bias
from phenopipe.stats import RankCounts


@pytest.fixture(scope="module")
def periscope(shared):
    embeddings = pd.read_csv(shared("maps/HeLa_HPLM_hit_list_PCA.csv"), index_col=0)
    names = ["gene", "chrom", "start", "end"]
    genes = pd.read_csv(
        shared("genes/hg38_gencode_v27.txt"), sep="\t", names=names, usecols=range(4)
    ).drop_duplicates("gene")
    centromeres = pd.read_csv(shared("genes/centromeres_hg38.tsv"), sep="\t")
    return embeddings, arms_from_positions(genes, centromeres).reindex(embeddings.index).fillna(
        ""
    ).to_numpy()


def test_bias_is_that_of_statsmodels_on_a_seeded_screen(shared):
    folder = shared("reference/efaar")
    expected = pd.read_csv(folder / "bm.csv", index_col="arm")
    arms = pd.read_csv(folder / "arms.csv").arm.to_numpy()
    found = proximity_bias(np.load(folder / "out.npz")["agg"], arms)
    # The reference's genome row counts each pair between arms twice, so only P is comparable; its
    # cosines are of single precision, where two pairs tie that differ here (half of 1.4e8).
    assert found.probability["genome"] == pytest.approx(expected.prob["all"], abs=0.6 / 1.4e8)
    expected, found = expected.drop("all"), found.drop("genome")
    for ours, theirs in (("statistic", "stat"), ("probability", "prob"), ("p_value", "pval")):
        np.testing.assert_allclose(found[ours], expected[theirs].reindex(found.index), rtol=1e-9)


def test_the_genome_of_a_seeded_screen_is_that_of_statsmodels_whose_row_counts_pairs_twice(shared):
    folder = shared("reference/efaar")
    expected = pd.read_csv(folder / "bm.csv", index_col="arm").loc["all"]
    arms = pd.read_csv(folder / "arms.csv").arm.to_numpy()
    # In single precision, as the reference's cosines are.
    unit = np.load(folder / "out.npz")["agg"].astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines, same = unit @ unit.T, arms[:, None] == arms
    counts = RankCounts(cosines[np.triu(same, 1)])
    counts.add(cosines[~same])  # each pair from both of its arms
    found = counts.test()
    assert found.statistic == pytest.approx(expected.stat, rel=1e-6)
    assert found.p_value == pytest.approx(expected.pval, rel=1e-6)


def test_the_genome_of_periscope_is_that_of_statsmodels_on_all_pairs(periscope):
    embeddings, arms = (given[::2] for given in periscope)  # half of the genes, for time
    known = arms != ""
    cosine = 1 - pdist(embeddings[known], "cosine")
    one, other = (arms[known][side] for side in np.triu_indices(known.sum(), 1))
    peer = rank_compare_2indep(cosine[one == other], cosine[one != other], use_t=False)
    found = proximity_bias(embeddings, arms).loc["genome"]
    assert (found.n_within, found.n_between) == (peer.nobs_1, peer.nobs_2)
    assert found.probability == pytest.approx(peer.prob1, rel=1e-9)
    assert found.statistic == pytest.approx(peer.statistic, rel=1e-9)
    p_value = peer.test_prob_superior(alternative="larger").pvalue
    assert found.p_value == pytest.approx(p_value, rel=1e-9)


def test_bias_of_periscope_is_the_published_one(periscope):
    table = proximity_bias(*periscope)
    assert round(table.probability["genome"], 3) == 0.538
    top = table.probability.drop("genome").nlargest(3).round(3)
    assert top.to_dict() == {"17p": 0.675, "8p": 0.638, "15q": 0.621}
    pairs = table.n_within["genome"] + table.n_between["genome"]
    known = int((periscope[1] != "").sum())
    assert pairs == known * (known - 1) // 2


def test_correcting_arms_removes_the_bias_of_periscope(periscope):
    embeddings, arms = periscope
    every = np.ones(len(arms), dtype=bool)
    corrected = correct_arms(embeddings, arms, every, min_reference=1)
    # Arms centred on all their genes: the published figure of this map.
    assert round(proximity_bias(corrected, arms).probability["genome"], 3) == 0.494


def test_bonferroni_counts_the_arms_tested():
    x = np.random.default_rng(0).normal(size=(21, 5))
    table = proximity_bias(x, ["1p"] * 10 + ["2q"] * 10 + ["Yp"])
    assert table.p_bonferroni["1p"] == min(1, 2 * table.p_value["1p"])
    assert np.isnan(table.p_bonferroni["Yp"])
    assert table.p_bonferroni["genome"] == table.p_value["genome"]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_the_order_of_genes_does_not_matter(seed, random):
    x = np.random.default_rng(seed).normal(size=(24, 4))
    arms = np.array([*"aaaaaaabbbbbbbbcccccc", "", None, np.nan], dtype=object)
    order = random.sample(range(24), 24)
    once, again = proximity_bias(x, arms), proximity_bias(x[order], arms[order])
    pd.testing.assert_frame_equal(once, again, rtol=1e-12)
    known = slice(0, 21)  # what has no arm is left out
    pd.testing.assert_frame_equal(once, proximity_bias(x[known], arms[known]), rtol=1e-12)


def test_arms_and_rows_must_match():
    with pytest.raises(InputError, match="one arm a row, found 2 for 3 rows"):
        proximity_bias(np.ones((3, 2)), ["1p", "2q"])


def test_an_arm_is_corrected_by_the_mean_of_its_unexpressed_genes():
    x = np.random.default_rng(0).normal(size=(60, 3))
    arms = np.array(["1p"] * 30 + ["2q"] * 29 + [""], dtype=object)
    reference = np.zeros(60, dtype=bool)
    reference[:21] = reference[30:50] = True  # 21 genes on 1p, 20 on 2q
    corrected = correct_arms(x, arms, reference)
    np.testing.assert_allclose(corrected[:30], x[:30] - x[:21].mean(axis=0), rtol=1e-14)
    np.testing.assert_array_equal(corrected[30:], x[30:])  # 20 are not more than 20
    assert arm_report(arms, reference) == [
        {"arm": "1p", "n_genes": 30, "n_reference": 21, "corrected": True, "why": ""},
        {"arm": "2q", "n_genes": 29, "n_reference": 20, "corrected": False,
         "why": "20 unexpressed genes, needs more than 20"},
        {"arm": "", "n_genes": 1, "n_reference": 0, "corrected": False,
         "why": "no arm is known"},
    ]  # fmt: skip


def test_a_phenotype_that_an_arm_shares_is_gone():
    rng = np.random.default_rng(1)
    arms = np.repeat(["1p", "2q", "3p"], 60)
    own, shared_by_arm = rng.normal(size=(180, 8)), rng.normal(size=(3, 8))
    reference = np.tile(np.arange(60) < 30, 3)
    own[reference] = 0
    found = correct_arms(own + np.repeat(shared_by_arm, 60, axis=0), arms, reference)
    np.testing.assert_allclose(found, own, atol=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_correcting_twice_is_correcting_once(seed):
    x = np.random.default_rng(seed).normal(size=(20, 3))
    arms, reference = np.repeat(["1p", "2q"], 10), np.tile([True, False], 10)
    once = correct_arms(x, arms, reference, min_reference=2)
    np.testing.assert_allclose(correct_arms(once, arms, reference, min_reference=2), once)


def test_what_is_given_stays_and_its_type_comes_back():
    frame = pd.DataFrame(np.ones((3, 2), dtype=np.float32), index=list("ABC"), columns=[7, 8])
    corrected = correct_arms(frame, ["1p"] * 3, [True, True, True], min_reference=2)
    assert (frame == 1).all(axis=None)
    pd.testing.assert_frame_equal(corrected, frame * 0)


def test_a_reference_must_be_a_mask():
    with pytest.raises(InputError, match="true-or-false reference flag a row"):
        correct_arms(np.ones((2, 2)), ["1p", "1p"], reference=[0, 1])
