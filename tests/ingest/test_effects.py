import numpy as np
import pytest
from scipy import stats

from phenopipe.config import QCConfig
from phenopipe.ingest.effects import TESTED, compare_edge, compare_lines, find_effects, list_reasons
from phenopipe.ingest.qc import MEASURES
from phenopipe.plates import FieldKey, PlateKey, Well
from phenopipe.schema import PLATE_EFFECTS

KEY = PlateKey("E", "P")
SHAPE = (16, 24)
PLACES = ("edge", "row", "column")


def draw_measures(rng, shape=SHAPE, channels=2):
    """Measures without any effect: ``(rows, columns, c, 8)``, cells in the first channel."""
    measures = rng.normal(1000, 100, (*shape, channels, len(MEASURES)))
    measures[:, :, 1:, MEASURES.index("cells")] = np.nan
    return measures


def find(measures, **thresholds):
    shape = measures.shape[:2]
    measured = {FieldKey(Well(*place), 1): measures[place] for place in np.ndindex(shape)}
    channels = [f"w{number}" for number in range(measures.shape[2])]
    config = QCConfig(**thresholds)
    return find_effects(measured, channels=channels, key=KEY, shape=shape, config=config)


def told(table):
    return {
        (row["channel"], row["measure"]): row["reason"]
        for row in table.to_pylist()
        if row["verdict"] == "warn"
    }


def test_edge_is_compared_as_statsmodels_does():
    reference = pytest.importorskip("statsmodels.stats.nonparametric").rank_compare_2indep
    rng = np.random.default_rng(0)
    outer, inner = rng.normal(0.4, 1, 76), rng.normal(0, 1, 308)
    wanted = reference(outer, inner, use_t=False)
    found = compare_edge(outer, inner)
    assert found.size == pytest.approx(2 * wanted.prob1 - 1)
    assert found.p_value == pytest.approx(wanted.pvalue)


def test_lines_explain_of_the_ranks_variance_what_an_adjusted_anova_says():
    """(H - k + 1) / (n - k), with H = (n - 1) SS_between / SS_total of the ranks."""
    rng = np.random.default_rng(0)
    lines = np.repeat(np.arange(16), 24)
    values = rng.normal(size=384) + 0.1 * lines
    ranks = stats.rankdata(values).reshape(16, 24)
    h = 383 * ranks.mean(axis=1).var() / ranks.var()
    found = compare_lines(values, lines)
    assert found.size == pytest.approx((h - 15) / (384 - 16))
    assert found.p_value == pytest.approx(stats.chi2.sf(h, 15))


def test_a_tests_p_values_are_uniform_by_chance():
    rng = np.random.default_rng(0)
    tables = [find(draw_measures(rng)).to_pylist() for _ in range(20)]
    for place in PLACES:
        p_values = [row[f"{place}_p_value"] for table in tables for row in table]
        assert stats.kstest(p_values, "uniform").pvalue > 0.001


def test_shuffled_wells_show_no_effect():
    """At an FDR of 5% at most 5% of the plates without any effect have a finding."""
    rng = np.random.default_rng(1)
    plate = draw_measures(rng)
    plate[..., MEASURES.index("mean")] += 500 * rng.exponential(size=(*SHAPE, 2))
    found = 0
    for _ in range(60):
        shuffled = rng.permutation(plate.reshape(-1, *plate.shape[2:])).reshape(plate.shape)
        table = find(shuffled, effect_fdr=0.05, max_edge_effect=0, max_line_effect=0)
        found += bool(told(table))
    assert found <= stats.binom.ppf(0.999, 60, 0.05)


@pytest.mark.parametrize("measure", TESTED)
def test_a_planted_edge_is_found_where_it_is(measure):
    measures = draw_measures(np.random.default_rng(2))
    edge = np.ones(SHAPE, bool)
    edge[1:-1, 1:-1] = False
    measures[edge, 0, MEASURES.index(measure)] -= 150
    table = find(measures)
    assert told(table) == {("w0", measure): "edge_effect"}
    (row,) = [r for r in table.to_pylist() if (r["channel"], r["measure"]) == ("w0", measure)]
    assert row["edge_effect"] < -0.6


def test_a_bad_row_at_the_edge_is_a_row_effect():
    measures = draw_measures(np.random.default_rng(2))
    measures[0, :, 0, MEASURES.index("mean")] -= 500
    assert "row_effect" in told(find(measures))["w0", "mean"]


@pytest.mark.parametrize(("axis", "name"), [(0, "row_effect"), (1, "column_effect")])
@pytest.mark.parametrize("shape", [(8, 12), (16, 24), (32, 48)])
def test_a_planted_gradient_is_found(axis, name, shape):
    measures = draw_measures(np.random.default_rng(3), shape)
    lines = np.linspace(-200, 200, shape[axis])
    measures[:, :, 1, MEASURES.index("background")] += np.expand_dims(lines, 1 - axis)
    assert told(find(measures)) == {("w1", "background"): name}
    assert list_reasons(find(measures)) == [name]


def test_one_bad_nozzle_is_a_column_effect():
    measures = draw_measures(np.random.default_rng(4))
    measures[:, [5, 11, 17], 0, MEASURES.index("cells")] -= 400
    assert told(find(measures)) == {("w0", "cells"): "column_effect"}


def test_a_small_effect_does_not_warn_however_certain():
    measures = draw_measures(np.random.default_rng(5), (32, 48))
    measures[:, :, 0, MEASURES.index("mean")] += np.linspace(-50, 50, 48)
    table = find(measures)
    row = next(row for row in table.to_pylist() if row["measure"] == "mean")
    assert row["column_fdr"] < 0.001
    assert told(table) == {}
    assert told(find(measures, max_line_effect=0.01)) == {("w0", "mean"): "column_effect"}


def test_a_table_is_of_the_schema_and_cells_are_tested_in_their_channel():
    table = find(draw_measures(np.random.default_rng(6)))
    assert table.schema == PLATE_EFFECTS
    rows = [(row["channel"], row["measure"]) for row in table.to_pylist()]
    assert rows == [("w0", measure) for measure in TESTED] + [("w1", m) for m in TESTED[:3]]


def test_a_few_wells_are_not_tested():
    rng = np.random.default_rng(7)
    measured = {FieldKey(Well(1, c), f): rng.random((1, 8)) for c in range(4) for f in (1, 2)}
    table = find_effects(measured, channels=["a"], key=KEY, shape=(8, 12), config=QCConfig())
    assert table["wells"].to_pylist() == [4] * 4
    assert {row[f"{place}_p_value"] for row in table.to_pylist() for place in PLACES} == {None}
    assert told(table) == {}


def test_wells_that_are_all_the_same_differ_in_nothing():
    measures = np.full((8, 12, 1, 8), 7.0)
    table = find(measures)
    assert {row[f"{place}_effect"] for row in table.to_pylist() for place in PLACES} == {0.0}
    assert told(table) == {}


def test_a_well_is_its_fields_median():
    rng = np.random.default_rng(8)
    measures = draw_measures(rng)
    measured = {}
    for place in np.ndindex(SHAPE):
        for number, shift in enumerate((-300, 0, 1e6)):
            measured[FieldKey(Well(*place), number)] = measures[place] + shift
    once = find(measures).to_pylist()
    fields = find_effects(
        measured, channels=["w0", "w1"], key=KEY, shape=SHAPE, config=QCConfig()
    ).to_pylist()
    assert fields == once


def test_wells_without_contrast_are_left_out():
    measures = draw_measures(np.random.default_rng(9))
    measures[0, 0, :, MEASURES.index("focus")] = np.nan
    wells = {row["measure"]: row["wells"] for row in find(measures).to_pylist()}
    assert (wells["focus"], wells["mean"]) == (383, 384)
