from itertools import combinations, product

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import false_discovery_control, kstest

from phenopipe.config import HitsConfig
from phenopipe.hits.activity import Beside, energy_test, score_activity
from phenopipe.hits.controls import measure_controls
from phenopipe.hits.groups import describe_wells, list_groups
from phenopipe.stats import energy_distance
from tests.hits.screens import NEGATIVE, draw_wells, knock_out, open_drawn

QUICK = HitsConfig(n_permutations=2000, n_bootstrap=200)
WIDTH = 16


def score(path, rows, values, *, config=QUICK, reverse=False):
    with open_drawn(path / "wells.parquet", rows, values) as wells:
        facts = describe_wells(wells.rows, vehicles=[])
        groups = list_groups(facts)
        controls = measure_controls(wells, facts, min_controls=config.min_controls)
        return score_activity(wells, groups[::-1] if reverse else groups, controls, config=config)


def draw_screen(*, active, silent, length=5.0, seed=0, **options):
    """Twenty controls a plate, and genes of which the first so many have an effect."""
    random = np.random.default_rng([seed, 99])
    effects = random.normal(size=(active, WIDTH))
    effects *= length / np.linalg.norm(effects, axis=1, keepdims=True)
    screen = [(NEGATIVE, 0.0)] * 20
    screen += [(knock_out(f"A{k:03d}"), effect) for k, effect in enumerate(effects)]
    screen += [(knock_out(f"S{k:03d}"), 0.0) for k in range(silent)]
    return draw_wells(screen, width=WIDTH, plate_effect=2.0, seed=seed, **options)


def beside(strata, values):
    return Beside(np.asarray(strata), values, cdist(values, values))


def test_the_statistic_is_the_energy_distance():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(5, 7)), random.normal(size=(30, 7)) + 0.3
    strata = np.array([0, 1, 0, 1, 1])
    found, _ = energy_test(x, strata, beside(np.arange(30) % 2, y), n_permutations=100, seed=0)
    np.testing.assert_allclose(found, energy_distance(x, y), rtol=1e-9)


def test_p_is_that_of_all_exchanges_within_plates():
    random = np.random.default_rng(1)
    x, y = random.normal(size=(3, 2)) + 1.0, random.normal(size=(9, 2))
    strata, others = np.array([0, 0, 1]), np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    pooled, plates = np.concatenate([x, y]), np.concatenate([strata, others])
    reached = []
    for first, second in product(
        combinations(np.flatnonzero(plates == 0), 2), combinations(np.flatnonzero(plates == 1), 1)
    ):
        labelled = np.isin(np.arange(12), [*first, *second])
        reached.append(energy_distance(pooled[labelled], pooled[~labelled]))
    observed = energy_distance(x, y)
    wanted = np.mean(np.array(reached) >= observed - 1e-12)
    _, found = energy_test(x, strata, beside(others, y), n_permutations=40_000, seed=0)
    # Stopped after 25 that reach it: the p-value is known to a fifth.
    assert 0.5 * wanted < found < 2 * wanted


def test_plates_that_differ_are_no_effect(tmp_path):
    rows, values = draw_screen(active=0, silent=150, seed=3)
    p_values = [row["p_value"] for row in score(tmp_path, rows, values)]
    assert kstest(p_values, "uniform").pvalue > 0.001


def test_the_false_discovery_rate_is_held_and_big_effects_are_found(tmp_path):
    false, power = [], []
    for seed in range(10):
        found = score(tmp_path, *draw_screen(active=20, silent=20, seed=seed))
        called = false_discovery_control([row["p_value"] for row in found]) <= 0.1
        silent = np.array([row["perturbation"].startswith("S") for row in found])
        false.append((called & silent).sum() / max(called.sum(), 1))
        power.append(called[~silent].mean())
    assert np.mean(power) > 0.95
    assert np.mean(false) < 0.1


def test_the_effect_is_the_true_shift_in_spreads_of_controls_and_its_interval_covers(tmp_path):
    length, truth = 3.0, 3.0 / np.sqrt(WIDTH)
    found = score(tmp_path, *draw_screen(active=200, silent=0, length=length, plates=6))
    np.testing.assert_allclose(np.mean([row["effect"] for row in found]), truth, rtol=0.03)
    covered = [row["effect_low"] <= truth <= row["effect_high"] for row in found]
    assert np.mean(covered) > 0.9


def test_silent_perturbations_have_no_effect_to_speak_of(tmp_path):
    found = score(tmp_path, *draw_screen(active=0, silent=100, plates=6))
    assert np.mean([row["effect_low"] == 0 for row in found]) > 0.9


@pytest.mark.parametrize("max_wells", [16, 256])
def test_neither_the_order_of_perturbations_nor_the_others_matter(tmp_path, max_wells):
    config = QUICK.model_copy(update={"max_wells": max_wells})
    rows, values = draw_screen(active=4, silent=4, plates=6)
    found = score(tmp_path, rows, values, config=config)
    assert score(tmp_path, rows, values, config=config, reverse=True)[::-1] == found
    fewer = ~rows["label"].isin(["S001", "A002"]).to_numpy()
    kept = [row for row in found if row["perturbation"] not in {"S001", "A002"}]
    assert score(tmp_path, rows[fewer], values[fewer], config=config) == kept


def test_too_few_wells_are_told_and_not_tested(tmp_path):
    rows, values = draw_screen(active=2, silent=1)
    lone = ((rows["label"] == "A000") & (rows["plate"] > "P1")).to_numpy()
    bare = ((rows["experiment"] == "E2") & (rows["control_type"] == "negative")).to_numpy()
    (first, *others) = score(tmp_path, rows[~lone], values[~lone])
    assert (first["why"], first["p_value"]) == ("2 wells, fewer than 3", None)
    assert all(row["why"] == "" and row["p_value"] > 0 for row in others)
    for row in score(tmp_path, rows[~bare], values[~bare]):
        wanted = "2 wells, fewer than 3 (2 more without negative controls beside them)"
        assert row["why"] == wanted
