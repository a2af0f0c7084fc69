"""Which features a map leaves out: missing, nearly constant, or told by another one already.

The rules are those of pycytominer's ``feature_select`` (Serrano et al. 2025, Reproducible
image-based profiling with Pycytominer, Nature Methods 22:677), from sums over wells that add up
plate by plate.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from phenopipe.config import MapConfig
from phenopipe.errors import InputError
from phenopipe.stats import Floats, Indices, Moments

MISSING = "features that are often missing"
CONSTANT = "features that hardly vary"
REDUNDANT = "features that others tell already"

_NAMES_TOLD = 3


def often_missing(n_finite: Indices, n_wells: int, *, max_missing: float) -> NDArray[np.bool_]:
    """Tell which features are not finite in more than a share of wells.

    Parameters
    ----------
    n_finite
        In how many wells each feature is finite, shape (d,).

    Examples
    --------
    >>> often_missing(np.array([100, 95, 94]), 100, max_missing=0.05)
    array([False, False,  True])
    """
    missing: NDArray[np.bool_] = (n_wells - n_finite) / max(n_wells, 1) > max_missing
    return missing


def nearly_constant(moments: Moments, *, min_variance: float) -> NDArray[np.bool_]:
    """Tell which features hardly vary, for how large they are.

    Parameters
    ----------
    moments
        Of all wells.
    min_variance
        Features vary with a variance (ddof 0) above this share of their mean square; so the rule
        does not depend on the unit. pycytominer compares the variance itself.

    Examples
    --------
    >>> x = [[1.0, 1000.0, 0.0], [3.0, 1000.1, 0.0]]
    >>> nearly_constant(Moments.of(x), min_variance=1e-6)
    array([False,  True,  True])
    """
    variance = moments.deviations() ** 2
    return np.asarray(variance <= min_variance * (variance + moments.mean**2))


def redundant(moments: Moments, *, max_correlation: float) -> NDArray[np.bool_]:
    """Tell which features to drop so that no two correlate more strongly than is allowed.

    Of each pair with a larger absolute correlation (Pearson), the one goes whose absolute
    correlations with all features add up to more; of two alike, the latter. pycytominer lets
    strong negative correlations pass, which tell as little new as positive ones.

    Parameters
    ----------
    moments
        Of all wells; features that do not vary correlate with none.

    Examples
    --------
    >>> x = np.array([[1.0, 2.0, 0.0], [2.0, 4.1, 1.0], [3.0, 5.9, 0.0]])
    >>> redundant(Moments.of(x), max_correlation=0.9).sum()
    np.int64(1)
    """
    strength = np.abs(correlations(moments))
    total = strength.sum(axis=0)
    rank = np.empty(len(total), dtype=np.int64)
    rank[np.argsort(total, kind="stable")] = np.arange(len(total))
    strong = (strength > max_correlation) & (rank[:, None] > rank)
    return np.asarray(strong.any(axis=1))


def correlations(moments: Moments) -> Floats:
    """Give Pearson's correlations, shape (d, d); 0 with a feature that does not vary.

    Examples
    --------
    >>> correlations(Moments.of([[1.0, -2.0, 5.0], [2.0, -4.0, 5.0]]))
    array([[ 1., -1.,  0.],
           [-1.,  1.,  0.],
           [ 0.,  0.,  0.]])
    """
    deviations = moments.deviations()
    scale = np.divide(1, deviations, out=np.zeros_like(deviations), where=deviations > 0)
    found: Floats = np.clip(moments.covariance(ddof=0) * np.outer(scale, scale), -1, 1)
    return found


def select_features(
    moments: Moments | None, present: Indices, *, config: MapConfig
) -> tuple[Indices, dict[str, Indices]]:
    """Choose the features of a map by its settings.

    Parameters
    ----------
    moments
        Of all wells, over the features that are present; None where no setting asks for them.
    present
        Numbers of the features that are not often missing, ascending.

    Returns
    -------
    kept
        Numbers of the features that stay, ascending.
    dropped
        Numbers of the others among `present`, by what they are.

    Raises
    ------
    InputError
        If none is left.
    """
    dropped: dict[str, Indices] = {}
    if moments is not None and config.min_variance is not None:
        constant = nearly_constant(moments, min_variance=config.min_variance)
        dropped[CONSTANT], present = present[constant], present[~constant]
        moments = subset_moments(moments, np.flatnonzero(~constant))
    if moments is not None and config.max_correlation is not None:
        told = redundant(moments, max_correlation=config.max_correlation)
        dropped[REDUNDANT], present = present[told], present[~told]
    if not len(present):
        raise InputError(
            "expected features that are left in the map, found all filtered out: loosen "
            "max_missing, min_variance or max_correlation"
        )
    return present, dropped


def needs_moments(config: MapConfig) -> bool:
    """Tell whether the settings ask for the moments of all wells."""
    return config.min_variance is not None or config.max_correlation is not None


def describe_dropped(
    dropped: dict[str, Indices], names: Sequence[str], config: MapConfig
) -> list[dict[str, str | int]]:
    """Say which features were dropped, how many, and why; without what was not."""
    reasons = {
        MISSING: f"not finite in more than {config.max_missing:.3g} of wells",
        CONSTANT: f"a variance of {config.min_variance} of their mean square, or less",
        REDUNDANT: f"an absolute correlation above {config.max_correlation}",
    }
    return [
        {"what": what, "count": len(found), "why": f"{why}: {_list_names(found, names)}"}
        for what, why in reasons.items()
        if len(found := dropped.get(what, np.empty(0, np.int64)))
    ]


def _list_names(features: Indices, names: Sequence[str]) -> str:
    told = [names[feature] for feature in features[:_NAMES_TOLD].tolist()]
    return ", ".join(told + ["…"] * (len(features) > _NAMES_TOLD))


def subset_moments(moments: Moments, features: Indices) -> Moments:
    """Give the moments of some features, by their numbers in ascending order."""
    if len(features) == len(moments.mean):
        return moments
    scatter = moments.scatter[np.ix_(features, features)]
    return Moments(moments.count, moments.mean[features], scatter)
