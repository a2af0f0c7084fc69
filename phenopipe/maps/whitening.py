"""Whitening: principal components, inverse square roots, and shrinkage."""

import numpy as np
from scipy.linalg import lapack

from phenopipe.stats import Floats


def principal_components(covariance: Floats) -> tuple[Floats, Floats]:
    """Give variances, largest first, and loadings as columns, with a sign that is always the same.

    The loading of largest size in each component is positive.

    Examples
    --------
    >>> principal_components(np.array([[1.0, 0.0], [0.0, 4.0]]))
    (array([4., 1.]), array([[0., 1.],
           [1., 0.]]))
    """
    variances, loadings = np.linalg.eigh((covariance + covariance.T) / 2)
    variances, loadings = variances[::-1], loadings[:, ::-1]
    largest = loadings[np.abs(loadings).argmax(axis=0), np.arange(loadings.shape[1])]
    return variances, loadings * np.where(largest < 0, -1.0, 1.0)


def inverse_root(covariance: Floats, *, ridge: float) -> Floats:
    r"""Give the symmetric inverse square root of a covariance plus a multiple of the identity.

    A batch has fewer controls than features as a rule, so its covariance :math:`C = L L^T` has a
    thin factor L (Cholesky with pivots, Higham 1990), and with :math:`L^T L = V \Lambda V^T`

    .. math:: (C + r I)^{-1/2} = r^{-1/2} I + L V g(\Lambda) V^T L^T, \quad
        g(\lambda) = \frac{(\lambda + r)^{-1/2} - r^{-1/2}}{\lambda}

    which needs eigenvalues of as many rows as there are controls, not of d. g is written without
    the difference, so that nothing cancels where an eigenvalue is small.

    Parameters
    ----------
    covariance
        Symmetric and positive semidefinite, shape (d, d).
    ridge
        What is added to the diagonal, above 0.

    Examples
    --------
    >>> inverse_root(np.diag([3.5, 0.0]), ridge=0.5).round(4) + 0
    array([[0.5   , 0.    ],
           [0.    , 1.4142]])
    """
    factor = _thin_factor(covariance)
    values, vectors = np.linalg.eigh(factor.T @ factor)
    low, high = np.sqrt(ridge), np.sqrt(np.maximum(values, 0) + ridge)
    turned = factor @ vectors / np.sqrt(low * high * (low + high))
    root: Floats = -(turned @ turned.T)
    root[np.diag_indices_from(root)] += 1 / low
    return root


def reciprocal(deviations: Floats) -> Floats:
    """Give 1 / x, and 0 where x is 0: what does not vary cannot be scaled, and is left out.

    Examples
    --------
    >>> reciprocal(np.array([4.0, 0.0]))
    array([0.25, 0.  ])
    """
    return np.divide(1.0, deviations, out=np.zeros_like(deviations), where=deviations > 0)


def _thin_factor(matrix: Floats) -> Floats:
    """Factor a positive semidefinite matrix into L L^T, L of shape (d, rank)."""
    lower, pivots, rank, _ = lapack.dpstrf(matrix, lower=1)
    factor = np.zeros((len(matrix), rank))
    factor[pivots - 1] = np.tril(lower)[:, :rank]
    return factor


def oas_shrinkage(covariance: Floats, count: int) -> float:
    r"""Give the share of the covariance to replace by a sphere (Chen et al. 2010).

    Oracle approximating shrinkage: the covariance of least expected squared error among
    :math:`(1 - \rho) C + \rho \mu I` with :math:`\mu = \mathrm{tr}(C) / d`, if rows are Gaussian:

    .. math:: \rho = \min\left(1, \frac{\mathrm{tr}(C^2) + \mathrm{tr}^2(C)}
        {(n + 1) (\mathrm{tr}(C^2) - \mathrm{tr}^2(C) / d)}\right)

    The paper's terms in 2 / d are left out, as in the authors' code and in scikit-learn.

    Parameters
    ----------
    covariance
        Shape (d, d).
    count
        How many rows it is of.

    References
    ----------
    Chen, Wiesel, Eldar & Hero (2010), Shrinkage algorithms for MMSE covariance estimation, IEEE
    Trans. Signal Process. 58:5016-5029.

    Examples
    --------
    >>> oas_shrinkage(np.diag([4.0, 1.0]), 9)
    0.9333333333333333
    """
    trace, squares = np.trace(covariance), np.square(covariance).sum()
    spread = (count + 1) * (squares - trace**2 / len(covariance))
    return float(min(1.0, (squares + trace**2) / spread)) if spread > 0 else 1.0
