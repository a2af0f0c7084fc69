import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from phenopipe.benchmark import replicate_consistency
from phenopipe.benchmark.consistency import (
    Consistency,
    _compare_with_controls,
    _pairwise_means,
    control_means,
)
from phenopipe.benchmark.replicates import each_plate
from tests.benchmark.screens import FAST, align_reference, draw_screen


def mean_cosine(x):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return (unit @ unit.T)[np.triu_indices(len(x), k=1)].mean()


def test_values_and_p_values_are_those_of_efaar(shared):
    folder = shared("reference/efaar")
    expected = pd.read_csv(folder / "consistency.csv", index_col="pert", keep_default_na=False)
    values, labels = align_reference(folder)
    genes = labels != "NTC"
    null = sorted({*labels[genes]} - {*expected.index})
    assert len(null) == 100
    found = replicate_consistency(values[genes], labels[genes], null=null).loc[expected.index]
    np.testing.assert_allclose(found.p_value, expected.pval, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.value, expected.avgcossim, atol=1e-6)  # theirs is float32


def test_each_value_is_the_mean_over_pairs_of_replicates():
    labels, values, *_ = draw_screen()
    table = replicate_consistency(values, labels, null=["G39"])
    for name, row in table.iterrows():
        assert row.value == pytest.approx(mean_cosine(values[np.array(labels) == name]))
    assert (table.n == 5).all()


def test_one_replicate_is_not_judged():
    table = replicate_consistency(np.eye(4), ["a", "b", "b", "c"], null=["c"])
    assert np.isnan(table.loc["a", ["value", "p_value", "fdr"]].astype(float)).all()


def test_groups_of_controls_have_the_mean_of_their_pairs():
    rng = np.random.default_rng(0)
    controls = rng.normal(size=(30, 4)) + 0.5
    drawn = control_means(controls, np.array([2, 7, 90]), n=3000, seed=1)
    assert sorted(drawn) == [2, 7, 90]
    for size, means in drawn.items():
        # Every pair is as likely in a group of any size; all 30 are one group.
        assert means.mean() == pytest.approx(mean_cosine(controls), abs=4 / np.sqrt(3000 * size))
    np.testing.assert_allclose(drawn[90], mean_cosine(controls))
    assert drawn[7].std() < drawn[2].std()


def test_effects_are_hits_against_unexpressed_genes(make_data):
    labels, values, effects, silent = draw_screen()
    data = make_data(labels, values, silent=silent)
    mean, hits = Consistency().score(data, FAST)
    assert (mean.aspect, hits.aspect) == ("", "hits")
    assert {mean.source, hits.source} == {"unexpressed genes"}
    expected = replicate_consistency(values.astype(np.float32), labels, null=silent)
    assert mean.value == pytest.approx(expected.value.mean())
    assert (mean.n, mean.parameters["n_null"]) == (10, 30)
    assert mean.low < mean.value < mean.high
    assert mean.null == pytest.approx(0, abs=0.1)
    assert sorted(hits.units.index) == effects
    assert hits.value >= 0.8


def test_groups_of_controls_are_the_null_where_no_gene_is_unexpressed(make_data):
    labels, values, effects, silent = draw_screen(silent=40, controls=200)
    data = make_data(labels, values)
    mean, hits = Consistency().score(data, FAST)
    assert (mean.source, mean.n) == ("controls", 50)
    assert hits.units[effects].mean() >= 0.8
    assert hits.units[silent].mean() <= 0.1


def test_p_values_of_what_does_nothing_are_uniform(make_data):
    labels, values, _, silent = draw_screen(effects=0, silent=200, controls=400, replicates=4)
    data = make_data(labels, values)
    table = _pairwise_means(each_plate(data, "none"), n=200)
    table.index = pd.Index(data.labels)
    compared, _ = _compare_with_controls(table, data, FAST)
    assert kstest(compared.loc[silent, "p_value"], "uniform").pvalue > 0.01


def test_the_arms_correction_shifts_the_wells_of_a_perturbation(make_data):
    labels, values, _, silent = draw_screen()
    values = values + 2  # what all genes share
    data = make_data(labels, values, silent=silent, shift=np.full((40, 6), 2.0))
    none, _, arms, _ = Consistency().score(data, FAST)
    assert (none.correction, arms.correction) == ("none", "arms")
    shifted = replicate_consistency((values - 2).astype(np.float32), labels, null=silent)
    assert arms.value == pytest.approx(shifted.value.mean(), abs=1e-5)
    assert arms.null < 0.1
    assert none.null > 0.5


def test_plates_read_one_by_one_give_what_one_plate_gives(make_data):
    labels, values, _, silent = draw_screen()
    many = Consistency().score(make_data(labels, values, silent=silent, plates=7), FAST)
    one = Consistency().score(make_data(labels, values, silent=silent, plates=1), FAST)
    assert [s.value for s in many] == pytest.approx([s.value for s in one], rel=1e-9)


def test_a_map_without_wells_has_no_scores(make_data):
    data = make_data(["a", "a"], np.eye(2))
    bare = type(data)(**{**vars(data), "wells": None})
    assert Consistency().score(bare, FAST) == []
