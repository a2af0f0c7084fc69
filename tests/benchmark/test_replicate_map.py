"""Against copairs 0.5.5: the table holds what it answers on the screen that is drawn here."""

import io

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from phenopipe.benchmark import replicate_precision
from phenopipe.benchmark.replicate_map import ReplicateMAP
from tests.benchmark.screens import FAST, draw_screen

# draw_screen(effects=3, silent=5, controls=25); average_precision(pos_sameby=["label"],
# neg_diffby=["label", "control"]), then mean_average_precision(null_size=10_000, seed=0).
COPAIRS = """\
label,mean_average_precision,p_value
G00,0.8424999999999999,0.0005999400059994001
G01,0.7919047619047619,0.0014998500149985001
G02,1.0,9.999000099990002e-05
G03,0.2043198964953088,0.4560543945605439
G04,0.16371568827559213,0.6406359364063594
G05,0.2160454206974432,0.41535846415358463
G06,0.18923660603400647,0.5196480351964804
G07,0.13511728657562724,0.8108189181081892
"""


def cosines(x, y):
    return (x @ y.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(y, axis=1)


def split(labels, values):
    labels = np.array(labels)
    return labels[labels != ""], values[labels != ""], values[labels == ""]


def test_each_value_is_the_mean_of_sklearns_average_precisions():
    labels, wells, controls = split(*draw_screen(effects=4, silent=4, controls=30)[:2])
    table = replicate_precision(wells, labels, controls, n_null=100)
    for name, row in table.iterrows():
        own = wells[labels == name]
        found = []
        for query in range(len(own)):
            fellows = np.delete(own, query, axis=0)
            alike = cosines(own[[query]], np.vstack([fellows, controls]))[0]
            relevant = np.repeat([1, 0], [len(fellows), len(controls)])
            found.append(average_precision_score(relevant, alike))
        assert row.value == pytest.approx(np.mean(found))


def test_values_and_p_values_are_those_of_copairs():
    expected = pd.read_csv(io.StringIO(COPAIRS), index_col="label")
    labels, wells, controls = split(*draw_screen(effects=3, silent=5, controls=25)[:2])
    table = replicate_precision(wells, labels, controls)
    np.testing.assert_allclose(table.value, expected.mean_average_precision, atol=1e-6)
    # Both count 10,000 random rankings: four standard errors of that.
    p = expected.p_value
    error = 4 * np.sqrt(2 * p * (1 - p) / 10_000) + 1e-4
    assert (np.abs(table.p_value - p) <= error).all()


def test_one_replicate_has_no_fellow():
    table = replicate_precision(np.eye(3), ["a", "b", "b"], np.eye(3), n_null=100)
    assert table.index.tolist() == ["b"]


def test_effects_are_hits_against_controls_and_against_other_perturbations(make_data):
    labels, values, effects, silent = draw_screen(controls=200)
    data = make_data(labels, values)
    scores = {(s.source, s.aspect): s for s in ReplicateMAP().score(data, FAST)}
    sources = ("controls", "other perturbations")
    assert set(scores) == {(source, aspect) for source in sources for aspect in ("", "hits")}
    kept, wells, controls = split(labels, values.astype(np.float32))
    expected = replicate_precision(wells, kept, controls, n_null=100)
    mean, hits = scores["controls", ""], scores["controls", "hits"]
    assert mean.value == pytest.approx(expected.value.mean(), abs=1e-6)
    assert mean.null == pytest.approx(expected.expected.mean())
    for source in sources:
        hits = scores[source, "hits"]
        assert hits.units[effects].mean() >= 0.8
        assert hits.units[silent].mean() <= 0.1


def test_a_perturbations_own_wells_are_no_negatives(make_data):
    # Three copies of each direction: were its own wells among the others, none came first.
    labels = [f"G{i}" for i in range(20) for _ in range(3)]
    values = np.repeat(np.random.default_rng(0).normal(size=(20, 5)), 3, axis=0)
    scores = ReplicateMAP().score(make_data(labels, values), FAST)
    assert {score.source for score in scores} == {"other perturbations"}
    assert scores[0].value == 1
