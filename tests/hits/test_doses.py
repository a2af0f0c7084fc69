import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phenopipe.errors import InputError
from phenopipe.hits.doses import add_curves, fit_dose_curve, logistic

DOSES = 10.0 ** np.arange(-2, 3, 0.5)


@settings(max_examples=25, deadline=None)
@given(
    place=st.floats(-1.2, 1.2),
    hill=st.floats(0.6, 3.0),
    bottom=st.floats(-2, 2),
    rise=st.one_of(st.floats(0.5, 3), st.floats(-3, -0.5)),
)
def test_a_curve_without_noise_is_found_again(place, hill, bottom, rise):
    truth = (10.0**place, hill, bottom, bottom + rise)
    found = fit_dose_curve(DOSES, logistic(DOSES, *truth), np.full(len(DOSES), 0.01))
    assert found.why == ""
    np.testing.assert_allclose(
        (found.ec50_um, found.hill, found.bottom, found.top), truth, rtol=1e-4, atol=1e-4
    )


def test_the_logistic_is_the_closed_form():
    doses, ec50, hill, bottom, top = DOSES, 0.7, 1.4, -0.2, 0.9
    wanted = bottom + (top - bottom) / (1 + (ec50 / doses) ** hill)
    np.testing.assert_allclose(logistic(doses, ec50, hill, bottom, top), wanted, rtol=1e-12)
    np.testing.assert_allclose(logistic([ec50], ec50, hill, bottom, top), [(top + bottom) / 2])


def test_the_ec50s_interval_covers_it():
    random, covered = np.random.default_rng(0), []
    truth = logistic(DOSES, 1.7, 1.2, 0.0, 1.0)
    for _ in range(120):
        found = fit_dose_curve(DOSES, truth + 0.06 * random.normal(size=10), np.full(10, 0.06))
        if not found.why:
            covered.append(found.ec50_low <= 1.7 <= found.ec50_high)
    assert len(covered) > 108
    assert 0.9 < np.mean(covered) <= 1


def test_flat_responses_have_no_curve_but_for_one_in_twenty():
    random = np.random.default_rng(1)
    curves = [fit_dose_curve(DOSES, random.normal(size=10), np.ones(10)) for _ in range(200)]
    assert sum(curve.why == "" for curve in curves) <= 20
    assert {"responses do not differ between doses"} <= {curve.why for curve in curves}


@pytest.mark.parametrize(
    ("doses", "responses", "why"),
    [
        ([1, 3, 10], [0, 0.5, 1], "3 doses, fewer than 4"),
        ([0.1, 1, 10, 100, 1000], [0, 0.5, 1, 0.5, 0], "neither only rise nor only fall"),
        ([0.1, 1, 10, 100, 1000], [0, 0, 0, 0.3, 1.0], "not between|do not settle"),
        ([0.1, 1, 10, 100], [0.5, 0.5, 0.51, 0.5], "do not differ"),
    ],
)
def test_no_curve_says_why(doses, responses, why):
    found = fit_dose_curve(doses, responses, np.full(len(doses), 0.02))
    assert np.isnan(found.ec50_um)
    assert any(part in found.why for part in why.split("|"))


def test_the_order_of_doses_does_not_matter():
    responses, order = logistic(DOSES, 1.0, 1.0, 0.0, 1.0), np.random.default_rng(2).permutation(10)
    errors = np.linspace(0.01, 0.05, 10)
    one = fit_dose_curve(DOSES, responses, errors)
    assert fit_dose_curve(DOSES[order], responses[order], errors[order]) == one


def test_doses_that_are_none_are_refused():
    with pytest.raises(InputError, match="above 0"):
        fit_dose_curve([0, 1, 2, 3], [0, 1, 2, 3], [1, 1, 1, 1])
    with pytest.raises(InputError, match="one response and one error a dose"):
        fit_dose_curve([1, 2], [0, 1, 2], [1, 1, 1])


def test_each_row_of_a_compound_has_its_curve_and_each_row_without_one_the_reason():
    rows = [
        {"gene": "", "compound": "a", "concentration_um": float(dose), "n_wells": 4,
         "effect": float(effect), "variance": 0.001}
        for dose, effect in zip(DOSES, logistic(DOSES, 1.0, 1.0, 0.0, 2.0), strict=True)
    ]  # fmt: skip
    odd = [
        rows[0] | {"compound": "b"},
        rows[0] | {"compound": "c", "concentration_um": None},
        rows[0] | {"gene": "TP53", "compound": "", "concentration_um": None},
    ]
    everything = [dict(row) for row in [*rows, *odd]]
    add_curves(everything, response="effect")
    np.testing.assert_allclose([row["ec50_um"] for row in everything[:10]], 1.0, rtol=1e-3)
    assert [(row["ec50_um"], row["curve_why"]) for row in everything[10:]] == [
        (None, "1 dose, fewer than 4"), (None, "0 doses, fewer than 4"), (None, ""),
    ]  # fmt: skip
