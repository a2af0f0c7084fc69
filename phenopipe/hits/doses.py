"""Dose curves: the four-parameter logistic, or in words why there is none."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import curve_fit, isotonic_regression
from scipy.special import expit
from scipy.stats import chi2, norm

from phenopipe.errors import InputError
from phenopipe.stats import Floats

MIN_DOSES = 4
# Hill slopes outside these bounds are not told from a line, or from a step, by any usual series.
HILL_BOUNDS = (0.3, 5.0)
# Below this p-value a flat line, or any curve that only rises or only falls, is refused.
_LEVEL = 0.05
# An EC50 that may be a thousand times as high, or as low, is not known.
_MOST_DECADES = 3


class DoseCurve(NamedTuple):
    """A fitted curve, or NaN and in ``why`` the reason that there is none."""

    ec50_um: float = np.nan
    ec50_low: float = np.nan
    ec50_high: float = np.nan
    hill: float = np.nan
    bottom: float = np.nan
    top: float = np.nan
    why: str = ""


def logistic(dose_um: ArrayLike, ec50_um: float, hill: float, bottom: float, top: float) -> Floats:
    r"""Give the four-parameter logistic: :math:`b + (t - b) / (1 + (c_{50} / c)^h)`.

    Parameters
    ----------
    dose_um
        Concentrations above 0, in micromolar.
    ec50_um
        The concentration half-way between `bottom` and `top`.
    bottom, top
        The responses at no dose and at endless dose; `top` may be the lower of the two.

    Examples
    --------
    >>> logistic([1.0, 10.0], ec50_um=1.0, hill=1.0, bottom=0.0, top=1.1)
    array([0.55, 1.  ])
    """
    steps = hill * np.log(np.asarray(dose_um, dtype=np.float64) / ec50_um)
    response: Floats = bottom + (top - bottom) * expit(steps)
    return response


def fit_dose_curve(dose_um: ArrayLike, response: ArrayLike, error: ArrayLike) -> DoseCurve:
    """Fit a dose curve to the mean responses at several doses.

    Parameters
    ----------
    dose_um
        Concentrations above 0, shape (n,), each once, in any order.
    response, error
        Mean response and its standard error at each, shape (n,).

    Returns
    -------
    DoseCurve
        The interval of the EC50 is Wald's on its logarithm, 95%. ``why`` says why there is no
        curve: fewer than 4 doses, no difference between doses, responses that neither only rise
        nor only fall, a fit that failed or that is off, or an EC50 outside the doses tested.

    Raises
    ------
    InputError
        If doses or errors are not positive, or numbers differ.

    Examples
    --------
    >>> doses = np.array([0.01, 0.1, 1.0, 10.0, 100.0])
    >>> curve = fit_dose_curve(doses, logistic(doses, 2.0, 1.0, 0.0, 1.0), np.full(5, 0.02))
    >>> round(curve.ec50_um, 3), round(curve.hill, 3), curve.why
    (2.0, 1.0, '')
    >>> fit_dose_curve([1, 10, 100], [0, 0.5, 1], [0.1, 0.1, 0.1]).why
    '3 doses, fewer than 4'
    """
    doses, responses, errors = _check(dose_um, response, error)
    if len(doses) < MIN_DOSES:
        return DoseCurve(why=_too_few(len(doses)))
    if why := _why_no_curve(responses, errors):
        return DoseCurve(why=why)
    best = _fit(doses, responses, errors)
    if best is None:
        return DoseCurve(why="the fit of the curve failed")
    return _judge(best, doses, responses, errors)


def _too_few(n: int) -> str:
    return f"{n} dose{'s' * (n != 1)}, fewer than {MIN_DOSES}"


def _check(
    dose_um: ArrayLike, response: ArrayLike, error: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    doses, responses, errors = (
        np.asarray(values, dtype=np.float64) for values in (dose_um, response, error)
    )
    if not doses.shape == responses.shape == errors.shape:
        raise InputError(
            f"expected one response and one error a dose, found {doses.shape}, {responses.shape} "
            f"and {errors.shape}"
        )
    if not ((doses > 0).all() and (errors > 0).all() and np.isfinite(responses).all()):
        raise InputError(
            "expected concentrations and standard errors above 0 and finite responses, found "
            f"others among {doses.tolist()}, {errors.tolist()}, {responses.tolist()}"
        )
    order = np.argsort(doses, kind="stable")
    return doses[order], responses[order], errors[order]


def _why_no_curve(responses: Floats, errors: Floats) -> str:
    weights = errors**-2.0
    flat = np.average(responses, weights=weights)
    if chi2.sf(_misfit(responses - flat, errors), len(responses) - 1) >= _LEVEL:
        return "responses do not differ between doses"
    bent = min(
        _misfit(
            responses - isotonic_regression(responses, weights=weights, increasing=up).x, errors
        )
        for up in (True, False)
    )
    # Of n - 1 steps at most n - 2 can be held back: no more is free.
    if chi2.sf(bent, len(responses) - 2) < _LEVEL:
        return "responses neither only rise nor only fall with the dose"
    return ""


def _misfit(residuals: Floats, errors: Floats) -> float:
    return float(((residuals / errors) ** 2).sum())


def _fit(doses: Floats, responses: Floats, errors: Floats) -> tuple[Floats, Floats] | None:
    """Fit from the best start; the best parameters, log10 EC50 first, and their covariance."""
    span = responses.max() - responses.min()
    reach = (responses.min() - span, responses.max() + span)
    places = np.log10(doses)
    low = [places[0] - 1, HILL_BOUNDS[0], reach[0], reach[0]]
    high = [places[-1] + 1, HILL_BOUNDS[1], reach[1], reach[1]]
    try:
        parameters, covariance = curve_fit(
            _log_logistic,
            doses,
            responses,
            p0=np.clip(_best_start(doses, responses, errors), low, high),
            sigma=errors,
            absolute_sigma=True,
            bounds=(low, high),
            jac=_slopes,
        )
    except RuntimeError:
        return None
    return parameters, covariance


def _best_start(doses: Floats, responses: Floats, errors: Floats) -> Floats:
    """Find a start among EC50s at each dose, Hill slope 1: bottom and top are then linear."""
    starts = []
    for dose in doses:
        rise = logistic(doses, dose, 1.0, 0.0, 1.0)
        design = np.column_stack([1 - rise, rise]) / errors[:, None]
        ends, *_ = np.linalg.lstsq(design, responses / errors)
        misfit = _misfit(responses / errors - design @ ends, np.ones(len(doses)))
        starts.append((misfit, [np.log10(dose), 1.0, *ends]))
    return np.array(min(starts)[1])


def _log_logistic(doses: Floats, log_ec50: float, hill: float, bottom: float, top: float) -> Floats:
    return logistic(doses, 10.0**log_ec50, hill, bottom, top)


def _slopes(doses: Floats, log_ec50: float, hill: float, bottom: float, top: float) -> Floats:
    """Differentiate the curve by each of its parameters, shape (n, 4)."""
    rise = logistic(doses, 10.0**log_ec50, hill, 0.0, 1.0)
    steep = (top - bottom) * rise * (1 - rise)
    decades = np.log(doses) - log_ec50 * np.log(10)
    return np.column_stack([-steep * hill * np.log(10), steep * decades, 1 - rise, rise])


def _judge(
    fitted: tuple[Floats, Floats], doses: Floats, responses: Floats, errors: Floats
) -> DoseCurve:
    (place, hill, bottom, top), covariance = fitted
    ec50 = 10.0**place
    if not doses[0] <= ec50 <= doses[-1]:
        return DoseCurve(
            why=f"half of the response is not between {doses[0]:g} and {doses[-1]:g} uM"
        )
    misfit = _misfit(responses - logistic(doses, ec50, hill, bottom, top), errors)
    free = len(doses) - 4
    if free > 0 and chi2.sf(misfit, free) < _LEVEL / 50:
        return DoseCurve(why="responses lie off any logistic curve")
    step = norm.ppf(0.975) * np.sqrt(covariance[0, 0])
    if not step < _MOST_DECADES:
        return DoseCurve(why="the doses do not settle where half of the response is")
    low, high = 10.0 ** (place - step), 10.0 ** (place + step)
    return DoseCurve(float(ec50), float(low), float(high), float(hill), float(bottom), float(top))


def add_curves(
    rows: Sequence[dict[str, Any]], *, response: str, same: Sequence[str] = ("gene", "compound")
) -> None:
    """Fit a curve to the doses of each compound, and add it to each of its rows.

    Parameters
    ----------
    rows
        With ``compound``, ``concentration_um``, ``n_wells``, the response, and its ``variance``:
        n_wells times the squared standard error. Where the response is None there is none. Gains
        ``ec50_um``, ``ec50_low``, ``ec50_high``, ``hill`` and ``curve_why``.
    same
        Columns that are alike in all rows of one curve.
    """
    curves: dict[tuple[Any, ...], DoseCurve] = {}
    frame = pd.DataFrame(rows, columns=[*same, "concentration_um", "n_wells", response, "variance"])
    dosed = frame[(frame["compound"] != "") & (frame["concentration_um"] > 0)].dropna()
    for key, found in dosed.groupby(list(same), sort=False):
        curves[tuple(key)] = _fit_rows(found, response)
    for row in rows:
        none = DoseCurve(why=_too_few(0) if row["compound"] else "")
        curve = curves.get(tuple(row[name] for name in same), none)
        names = ("ec50_um", "ec50_low", "ec50_high", "hill")
        row |= {
            name: None if np.isnan(getattr(curve, name)) else getattr(curve, name) for name in names
        }
        row["curve_why"] = curve.why


def _fit_rows(found: pd.DataFrame, response: str) -> DoseCurve:
    """Fit one compound's rows; the spread of wells is taken for the same at each dose."""
    freedom = found["n_wells"] - 1
    variance = float((found["variance"] * freedom).sum() / max(freedom.sum(), 1))
    if not variance > 0:
        return DoseCurve(why="the spread between wells of one dose is not known")
    weighted = found.assign(total=found[response].astype(float) * found["n_wells"])
    doses = weighted.groupby("concentration_um")[["total", "n_wells"]].sum()
    n = doses["n_wells"].to_numpy(dtype=np.float64)
    return fit_dose_curve(doses.index.to_numpy(), doses["total"] / n, np.sqrt(variance / n))
