"""Sphering: whiten every batch by its own controls, with as much shrinkage as these call for."""

from functools import reduce
from operator import add
from typing import Any, Literal, get_args

import numpy as np

from phenopipe.errors import InputError
from phenopipe.maps.components import ComponentAlignment, Components
from phenopipe.maps.whitening import (
    inverse_root,
    oas_shrinkage,
    principal_components,
    reciprocal,
)
from phenopipe.stats import Floats, Moments

Method = Literal["zca-cor", "zca", "pca-cor", "pca"]


class Sphering(ComponentAlignment):
    r"""Whiten features by the controls, per batch or over all (Kessy et al. 2018).

    Each batch is centred on its controls and multiplied by :math:`(C + r I)^{-1/2}`, C the
    covariance (ddof 1) of its controls. A direction in which the controls vary much says little
    of a perturbation, and is shrunk; one in which they vary little is stretched. With few controls
    the least of these are guesses, so the covariance is shrunk first.

    Parameters
    ----------
    n_components
        How many principal components, of all batches' controls, are whitened; the rest is dropped.
        ``"auto"``, None or a number as in :class:`~phenopipe.maps.align.TVN`; with a fixed
        regularisation always fewer than the smallest batch has controls.
    method
        ``"zca"`` stays as close to the features as whitening can, and keeps their number.
        ``"pca"`` turns these onto the principal components that all batches share, largest first.
        With all components both have the same cosines. ``"-cor"``: features are scaled first by
        the standard deviation (ddof 0) of the batch's controls.
    regularisation
        ``"oas"``: the covariance becomes :math:`(1 - \rho) C + \rho\,\mathrm{tr}(C)/d\,I` with
        the share that Gaussian rows of that number call for (:func:`oas_shrinkage`). A number is
        r, in units of a variance: 1e-6 on many controls is pycytominer's Spherize.

    References
    ----------
    Kessy, Lewin & Strimmer (2018), Optimal whitening and decorrelation, Am. Stat. 72:309-314.
    Chen et al. (2010): see :func:`oas_shrinkage`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(500, 2)) @ [[3.0, 1.0], [0.0, 1.0]]
    >>> sphering = Sphering(None, regularisation=1e-9).fit(x, control=np.ones(500, bool))
    >>> bool(np.allclose(np.cov(sphering.transform(x), rowvar=False), np.eye(2)))
    True
    """

    name = "sphering"

    def __init__(
        self,
        n_components: Components = "auto",
        *,
        method: Method = "zca-cor",
        regularisation: float | Literal["oas"] = "oas",
    ) -> None:
        super().__init__(n_components)
        if method not in get_args(Method):
            raise InputError(
                f"expected method to be one of {', '.join(get_args(Method))}, found {method!r}"
            )
        if regularisation != "oas" and not (
            isinstance(regularisation, int | float) and 0 < regularisation < np.inf
        ):
            raise InputError(
                f'expected regularisation to be a number above 0 or "oas", found {regularisation!r}'
            )
        self.method = method
        self.regularisation = regularisation

    def _options(self) -> dict[str, Any]:
        options = {"method": self.method, "regularisation": self.regularisation}
        return super()._options() | options

    def _fit_shared(self, batches: list[Moments]) -> dict[str, Floats]:
        count = sum(controls.count for controls in batches)
        pooled = reduce(
            add, (self._scaled(controls, ddof=0) * controls.count for controls in batches)
        )
        variances, loadings = principal_components(pooled / count)
        return {"basis": loadings[:, : self._count(variances, batches)]}

    def _limit(self, counts: list[int]) -> int:
        if self.regularisation == "oas":
            return super()._limit(counts)
        # With no more rows than components a covariance has empty directions, and next to no
        # regularisation stretches them without end; what "oas" does not know becomes a sphere.
        return min(super()._limit(counts), min(counts) - 1)

    def _fit_batch(self, controls: Moments) -> tuple[Floats, Floats]:
        basis, scale = self._shared["basis"], self._scale(controls)
        covariance = basis.T @ self._scaled(controls, ddof=1) @ basis
        turned = basis @ self._whitening(covariance, controls.count)
        whitened = turned if self.method.startswith("pca") else turned @ basis.T
        return controls.mean, scale[:, None] * whitened

    def _whitening(self, covariance: Floats, count: int) -> Floats:
        if self.regularisation != "oas":
            return inverse_root(covariance, ridge=float(self.regularisation))
        share = oas_shrinkage(covariance, count)
        ridge = share * float(np.trace(covariance)) / len(covariance)
        if not ridge:
            raise InputError(
                f"expected controls that differ in each batch, found a batch of {count} that are "
                "all alike: check control_type, or leave the batch out"
            )
        return inverse_root((1 - share) * covariance, ridge=ridge)

    def _scale(self, controls: Moments) -> Floats:
        if self.method.endswith("-cor"):
            return reciprocal(controls.deviations())
        return np.ones(controls.mean.size)

    def _scaled(self, controls: Moments, *, ddof: int) -> Floats:
        scale = self._scale(controls)
        return controls.covariance(ddof=ddof) * np.outer(scale, scale)
