import numpy as np
import pandas as pd
import pytest

from phenopipe.errors import InputError
from phenopipe.hits.controls import measure_controls
from phenopipe.hits.groups import describe_wells
from tests.hits.screens import NEGATIVE, draw_wells, knock_out, open_drawn

SCREEN = [(NEGATIVE, 0.0)] * 12 + [(knock_out("TP53"), 1.0)] * 2


def measure(path, rows, values, **options):
    with open_drawn(path / "wells.parquet", rows, values) as wells:
        facts = describe_wells(wells.rows, vehicles=[])
        found = measure_controls(wells, facts, **{"min_controls": 8} | options)
        return found, facts, wells.take(np.arange(len(wells))).astype(float)


def test_each_well_is_held_against_its_own_plates_controls(tmp_path):
    found, facts, values = measure(tmp_path, *draw_wells(SCREEN))
    for plate, stratum in zip(sorted(set(facts["plate"])), range(4), strict=True):
        here = (facts["plate"] == plate).to_numpy()
        controls = values[here & facts["negative"].to_numpy()]
        assert set(found.strata[here]) == {stratum}
        np.testing.assert_allclose(found.centres[stratum], controls.mean(axis=0))
        np.testing.assert_allclose(found.noise[stratum], np.cov(controls.T).trace() / 12)
    assert found.describe(np.arange(len(facts))) == "plate"


def test_the_spread_is_the_root_mean_square_within_plates(tmp_path):
    found, facts, values = measure(tmp_path, *draw_wells(SCREEN, plate_effect=9.0))
    negative = facts["negative"].to_numpy()
    controls = pd.DataFrame(values[negative])
    variances = controls.groupby(facts["plate"][negative].to_numpy()).var().sum(axis=1)
    np.testing.assert_allclose(found.spread, np.sqrt(variances.mean()))


def test_an_experiment_with_a_plate_short_of_controls_is_one_stratum(tmp_path):
    rows, values = draw_wells(SCREEN)
    short = (rows["plate"] == "P0") & (rows["control_type"] == "negative")
    kept = ~(short & (rows["well"] > "W0002")).to_numpy()
    found, facts, values = measure(tmp_path, rows[kept], values[kept])
    first = (facts["experiment"] == "E1").to_numpy()
    assert found.describe(np.flatnonzero(first)) == "experiment"
    assert found.describe(np.arange(len(facts))) == "both"
    controls = values[first & facts["negative"].to_numpy()]
    stratum = found.strata[first][0]
    np.testing.assert_allclose(found.centres[stratum], controls.mean(axis=0))
    np.testing.assert_allclose(
        found.noise[stratum], np.cov(controls.T).trace() / len(controls), rtol=1e-9
    )


def test_wells_of_an_experiment_without_controls_have_none(tmp_path):
    rows, values = draw_wells(SCREEN)
    kept = ~((rows["experiment"] == "E2") & (rows["control_type"] == "negative")).to_numpy()
    found, facts, _ = measure(tmp_path, rows[kept], values[kept])
    assert (found.strata[(facts["experiment"] == "E2").to_numpy()] == -1).all()


def test_a_map_without_controls_is_refused(tmp_path):
    rows, values = draw_wells([(knock_out("TP53"), 0.0)] * 3)
    with pytest.raises(InputError, match="expected 8 negative control wells"):
        measure(tmp_path, rows, values)


def test_a_sample_takes_as_many_of_each_stratum_and_the_same_each_time(tmp_path):
    found, _, _ = measure(tmp_path, *draw_wells(SCREEN))
    strata = np.array([0, 2])
    drawn = found.sample(strata, n=10, seed=4)
    assert np.bincount(found.strata[drawn]).tolist() == [5, 0, 5]
    np.testing.assert_array_equal(drawn, found.sample(strata, n=10, seed=4))
    assert len(found.sample(strata, n=1000, seed=4)) == 24
