import numpy as np
import pandas as pd
import pytest

from phenopipe.benchmark import replicate_magnitude
from phenopipe.benchmark.magnitude import Magnitude, control_distances
from phenopipe.stats import energy_distance
from tests.benchmark.screens import FAST, align_reference, draw_screen


def test_energy_distances_and_p_values_are_those_of_efaar(shared):
    folder = shared("reference/efaar")
    path = folder / "magnitude.csv"
    expected = pd.read_csv(path, index_col="pert", keep_default_na=False, na_values=[""])
    values, labels = align_reference(folder)
    null = [f"G{number}" for number in range(140, 200)]
    kept = np.isin(labels, [*expected.index, *null])
    found = replicate_magnitude(values[kept], labels[kept], values[labels == "NTC"], null=null)
    found = found.loc[expected.index]
    np.testing.assert_allclose(found.value, expected.edist, rtol=1e-5, atol=1e-6)  # from float32
    # Theirs counts the null's genes with too few replicates among those that lie farther than
    # anything, so that no p-value falls below 7 in 60; ours leaves them out.
    few = np.array([(labels == gene).sum() < 5 for gene in null]).sum()
    assert few == 7
    theirs = (found.p_value * (60 - few) + few) / 60
    np.testing.assert_allclose(theirs, expected.pval, rtol=0, atol=1e-9)


def test_each_value_is_the_energy_distance_to_the_controls():
    labels, values, *_ = draw_screen()
    labels = np.array(labels)
    controls = values[labels == ""]
    table = replicate_magnitude(values[labels != ""], labels[labels != ""], controls, null=["G39"])
    for name, row in table.iterrows():
        assert row.value == pytest.approx(energy_distance(values[labels == name], controls))


def test_four_replicates_are_too_few():
    table = replicate_magnitude(np.eye(9), ["a"] * 4 + ["b"] * 5, np.eye(9), null=["b"])
    assert np.isnan(table.loc["a", "value"])


def test_groups_of_controls_are_measured_against_the_others():
    x = np.random.default_rng(0).normal(size=(20, 3))
    drawn = control_distances(x, np.array([3, 6, 99]), n=50, seed=4)
    rng = np.random.default_rng(4)
    for draw in range(50):
        order = rng.permutation(20)[:10]
        for size in (3, 6, 99):
            group = order[: min(size, 10)]
            rest = np.delete(x, group, axis=0)
            assert drawn[size][draw] == pytest.approx(energy_distance(x[group], rest))


@pytest.mark.parametrize("known", [True, False])
def test_effects_are_hits(make_data, known):
    labels, values, effects, silent = draw_screen(replicates=6, controls=200)
    data = make_data(labels, values, silent=silent if known else ())
    mean, hits = Magnitude().score(data, FAST)
    assert mean.source == ("unexpressed genes" if known else "controls")
    assert hits.units[effects].mean() >= 0.8
    assert mean.n == (10 if known else 40)
    assert mean.value > mean.null
    assert mean.parameters["n_controls"] == 200
    if not known:
        assert hits.units[silent].mean() <= 0.1


def test_a_map_without_controls_has_no_magnitude(make_data, caplog):
    data = make_data(["a"] * 5 + ["b"] * 5, np.eye(10))
    assert Magnitude().score(data, FAST) == []
    assert "fewer than two control wells" in caplog.text
