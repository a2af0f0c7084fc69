import numpy as np
import pytest

from phenopipe.config import HitsConfig
from phenopipe.hits.controls import measure_controls
from phenopipe.hits.groups import describe_wells
from phenopipe.hits.signature import find_disease, measure_signature
from tests.hits.screens import NEGATIVE, compound, draw_wells, knock_out, open_drawn

WIDTH = 64
AXIS = np.where(np.arange(WIDTH) < 4, 4.0, 0.0)  # of length 8


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Two plates with few controls each, and many healthy wells that are no controls."""
    screen = [(NEGATIVE, 0.0)] * 8 + [(knock_out("TP53"), AXIS)] * 6 + [(compound("a"), 0.0)] * 400
    path = tmp_path_factory.mktemp("signature") / "wells.parquet"
    config = HitsConfig(n_permutations=500, n_bootstrap=100)
    with open_drawn(path, *draw_wells(screen, width=WIDTH, plates=2)) as wells:
        facts = describe_wells(wells.rows, vehicles=[])
        controls = measure_controls(wells, facts, min_controls=8)
        disease = find_disease(facts, ["TP53"])
        genes = facts["gene"].tolist()
        signature = measure_signature(
            wells, disease, controls, genes=genes, shifts={}, config=config
        )
        healthy = np.flatnonzero(facts["compound"] == "a")
        centred = controls.centre(wells.take(healthy).astype(float), healthy)
    return signature, controls, signature.place(centred, controls.strata[healthy])


def test_the_diseases_own_wells_lie_at_1_and_the_controls_at_0(measured):
    signature, controls, _ = measured
    np.testing.assert_allclose(signature.scores[signature.wells].mean(), 1)
    for stratum in controls.wells:
        np.testing.assert_allclose(signature.scores[stratum].mean(), 0, atol=1e-12)


def test_healthy_wells_lie_at_0_though_they_share_few_controls_with_the_axis(measured):
    signature, controls, placed = measured
    shared = controls.noise.mean() / 2 / signature.squared.value
    assert shared > 0.05  # where they would lie otherwise
    assert abs(placed.mean()) < 0.03


def test_the_squared_length_is_the_diseases_and_the_spread_the_controls(measured):
    signature, _, _ = measured
    assert signature.squared.value == pytest.approx(64, rel=0.15)
    assert signature.off_spread == pytest.approx(np.sqrt(WIDTH - 1), rel=0.1)


def test_z_factor_is_of_single_wells_along_the_axis(measured):
    signature, controls, _ = measured
    disease = signature.scores[signature.wells]
    healthy = signature.scores[np.concatenate(controls.wells)]
    spread = 3 * (disease.std(ddof=1) + healthy.std(ddof=1))
    assert signature.z_factor() == pytest.approx(1 - spread / abs(disease.mean() - healthy.mean()))
    assert 0 < signature.z_factor() < 0.6
