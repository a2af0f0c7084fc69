"""Alignment: make the negative controls of every batch look alike, and carry all else along.

Each alignment is fitted from the moments of the raw negative controls, batch by batch, in one
pass; moments add up, so memory does not grow with wells. Within a batch it is affine.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from phenopipe.errors import InputError
from phenopipe.stats import Floats, Moments, finite_rows

Labels = NDArray[np.str_]
Components = int | Literal["auto"] | None

_log = logging.getLogger(__name__)

# Below this share of the largest variance a component is rounding of the others.
_RANK_TOLERANCE = 1e-10


class Alignment(ABC):
    """What the alignments share: fit on controls, transform row by row, save and load."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self._shared: dict[str, Floats] = {}
        self._batches: dict[str, tuple[Floats, Floats]] = {}

    @property
    def batches(self) -> tuple[str, ...]:
        """The batches that were fitted, sorted."""
        return tuple(sorted(self._batches))

    def fit(self, x: ArrayLike, *, batch: ArrayLike | None = None, control: ArrayLike) -> Self:
        """Fit on the control rows of each batch; see :func:`control_moments`."""
        return self.fit_moments(control_moments(x, batch=batch, control=control))

    def fit_moments(self, moments: Mapping[str, Moments]) -> Self:
        """Fit on the moments of each batch's raw controls."""
        ordered = [moments[batch] for batch in sorted(moments)]
        if not ordered:
            raise InputError(
                "expected negative controls to align on, found none: check control_type"
            )
        self._batches = {}
        self._shared = self._fit_shared(sum(ordered[1:], start=ordered[0]), ordered)
        return self.join(moments)

    def join(self, moments: Mapping[str, Moments]) -> Self:
        """Add batches to a fitted alignment: what all batches share stays as it is.

        Raises
        ------
        InputError
            If a batch has fewer than 2 controls.
        """
        for batch, controls in moments.items():
            if controls.count < 2:
                raise InputError(
                    f"expected 2 negative controls or more in batch {batch!r}, found "
                    f"{controls.count}: add controls, or leave the batch out"
                )
            self._batches[batch] = self._fit_batch(controls)
        return self

    def transform(self, x: ArrayLike, *, batch: ArrayLike | None = None) -> Floats:
        """Align rows, each by its own batch.

        Parameters
        ----------
        x
            Embeddings, shape (n, d).
        batch
            Each row's batch, shape (n,); None where the fit had none.

        Returns
        -------
        ndarray of float64, shape (n, k)

        Raises
        ------
        InputError
            If a batch was not fitted, the width is another, or a value is not finite.
        """
        rows = finite_rows(x)
        labels = _batch_labels(batch, len(rows))
        if unknown := sorted(set(labels.tolist()) - set(self._batches)):
            raise InputError(
                f"expected batches that were fitted ({', '.join(self.batches) or 'none'}), found "
                f"{', '.join(map(repr, unknown))}: fit with these batches, or join them"
            )
        width = len(next(iter(self._batches.values()))[0]) if self._batches else rows.shape[1]
        if rows.shape[1] != width:
            raise InputError(f"expected rows of {width} features as fitted, found {rows.shape[1]}")
        return self._transform_batches(rows, labels)

    def _transform_batches(self, rows: Floats, labels: Labels) -> Floats:
        parts = {label: np.flatnonzero(labels == label) for label in np.unique(labels).tolist()}
        out = np.empty((len(rows), self._width(rows)))
        for label, index in parts.items():
            centre, projection = self._batches[label]
            centred = rows[index] - centre
            out[index] = centred * projection if projection.ndim == 1 else centred @ projection
        return out

    def _width(self, rows: Floats) -> int:
        basis = self._shared.get("basis")
        return int((rows if basis is None else basis).shape[1])

    def to_dataset(self) -> xr.Dataset:
        """Give the fitted numbers, with the batches as a coordinate; for ``alignment.zarr``."""
        dims = ("feature", "component")
        projections = np.array([self._batches[batch][1] for batch in self.batches])
        variables: dict[str, Any] = {
            f"shared_{key}": (dims[: array.ndim], array) for key, array in self._shared.items()
        }
        variables["centre"] = (
            ("batch", "feature"), np.array([self._batches[batch][0] for batch in self.batches])
        )  # fmt: skip
        variables["projection"] = (("batch", *dims)[: projections.ndim], projections)
        labels = np.array(self.batches, dtype=object)
        return xr.Dataset(variables, coords={"batch": labels}, attrs={"align": self.name})

    @abstractmethod
    def _fit_shared(self, total: Moments, batches: list[Moments]) -> dict[str, Floats]:
        """Fit what all batches share, by name; ``basis`` is (feature, component)."""

    @abstractmethod
    def _fit_batch(self, controls: Moments) -> tuple[Floats, Floats]:
        """Fit one batch's centre (d,) and factor (d,) or projection (d, k)."""


class CenterScale(Alignment):
    """Centre and scale each feature by the controls, per batch or over all.

    ``(x - mean) / std`` with the mean and standard deviation (ddof 0) of the batch's controls, of
    all controls where no batch is given. A feature that does not vary among these is set to 0:
    they cannot say how much it means.

    Examples
    --------
    >>> x = np.array([[1.0, 5.0], [3.0, 9.0], [4.0, 9.0]])
    >>> CenterScale().fit(x, control=[True, True, False]).transform(x)
    array([[-1., -1.],
           [ 1.,  1.],
           [ 2.,  1.]])
    """

    name = "centerscale"

    def _fit_shared(self, total: Moments, batches: list[Moments]) -> dict[str, Floats]:  # noqa: ARG002
        return {}

    def _fit_batch(self, controls: Moments) -> tuple[Floats, Floats]:
        return controls.mean, _reciprocal(controls.deviations())


class _Rotation(Alignment):
    """What the two with principal components share: these, of all centred and scaled controls."""

    def __init__(self, n_components: Components = None) -> None:
        super().__init__()
        self.n_components = n_components
        self.cap = ""

    @property
    def n_components_(self) -> int:
        """How many components were kept."""
        return int(self._shared["basis"].shape[1])

    def _fit_shared(self, total: Moments, batches: list[Moments]) -> dict[str, Floats]:
        scale = _reciprocal(total.deviations())
        covariance = total.covariance(ddof=0) * np.outer(scale, scale)
        variances, loadings = principal_components(covariance)
        kept = self._count_components(variances, [controls.count for controls in batches])
        basis = scale[:, None] * loadings[:, :kept] / np.sqrt(variances[:kept])
        return {"centre": total.mean, "basis": basis}

    def _count_components(self, variances: Floats, controls: list[int]) -> int:
        rank = int((variances > _RANK_TOLERANCE * variances.max(initial=0)).sum())
        if not rank:
            raise InputError("expected controls that differ, found all alike: check control_type")
        if self.n_components == "auto":
            # Two controls a component: below that a covariance's smallest variances are noise.
            kept = max(1, min(rank, min(controls) // 2))
        else:
            kept = min(rank, self.n_components or rank)
        self.cap = "" if kept == len(variances) else (
            f"{kept} of {len(variances)} components kept: the controls' rank is {rank}, and the "
            f"batch with the fewest controls has {min(controls)}"
        )  # fmt: skip
        if kept < (rank if self.n_components == "auto" else self.n_components or len(variances)):
            _log.warning("%s", self.cap)
        return kept


class PCACenterScale(_Rotation):
    """Principal components of the controls, then centre and scale per batch.

    CenterScale on all controls; principal components of all controls; CenterScale on the
    controls of each batch. For ``n_components`` see :class:`TVN`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(40, 3))
    >>> aligned = PCACenterScale(2).fit(x, control=np.ones(40, bool)).transform(x)
    >>> aligned.shape, bool(np.allclose(aligned.std(axis=0), 1))
    ((40, 2), True)
    """

    name = "pca-centerscale"

    def _fit_batch(self, controls: Moments) -> tuple[Floats, Floats]:
        basis = self._shared["basis"]
        covariance = basis.T @ controls.covariance(ddof=0) @ basis
        deviations = np.sqrt(np.diagonal(covariance))
        return controls.mean, basis * _reciprocal(np.where(deviations > 1e-7, deviations, 0))


class TVN(_Rotation):
    """Typical variation normalisation (Ando et al. 2017), as EFAAR_benchmarking does it.

    CenterScale on all controls; principal components of all controls; CenterScale on all
    controls again; then, per batch, multiply by ``(C + 0.5 I)^(-1/2)``, symmetric, with C the
    covariance (ddof 1) of the batch's controls. Without batches all rows are one.

    Parameters
    ----------
    n_components
        How many principal components to keep. None keeps all in which the controls vary (a
        direction in which they do not cannot be scaled, and is dropped). ``"auto"`` keeps no
        more than half the controls of the smallest batch. A cap is logged, and is told by the
        attributes ``n_components_`` and ``cap``.

    References
    ----------
    Ando, McLean & Berndl (2017), Improving phenotypic measurements in high-content imaging
    screens, bioRxiv 161422. Celik et al. (2024), Building, benchmarking, and exploring
    perturbative maps of transcriptional and morphological data, PLOS Comput. Biol. 20:e1012463.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(60, 3))
    >>> batch = np.repeat(["a", "b"], 30)
    >>> tvn = TVN().fit(x, batch=batch, control=np.arange(60) % 2 == 0)
    >>> tvn.transform(x, batch=batch).shape, tvn.batches
    ((60, 3), ('a', 'b'))
    """

    name = "tvn"

    def _fit_batch(self, controls: Moments) -> tuple[Floats, Floats]:
        basis = self._shared["basis"]
        covariance = basis.T @ controls.covariance(ddof=1) @ basis
        whitening = inverse_root(covariance + 0.5 * np.eye(len(covariance)))
        return self._shared["centre"], basis @ whitening


ALIGNMENTS: dict[str, type[Alignment]] = {
    kind.name: kind for kind in (CenterScale, PCACenterScale, TVN)
}


def from_dataset(dataset: xr.Dataset) -> Alignment:
    """Rebuild a fitted alignment from what :meth:`Alignment.to_dataset` gave.

    Raises
    ------
    InputError
        If the dataset holds no alignment that is known.
    """
    kind = ALIGNMENTS.get(dataset.attrs.get("align", ""))
    if kind is None:
        raise InputError(
            f"expected align to be one of {', '.join(ALIGNMENTS)} in the dataset's attributes, "
            f"found {dataset.attrs.get('align')!r}: give a map's alignment.zarr"
        )
    alignment = kind()
    alignment._shared = {
        str(key).removeprefix("shared_"): dataset[key].to_numpy()
        for key in dataset.data_vars
        if str(key).startswith("shared_")
    }
    parts = zip(dataset["centre"].to_numpy(), dataset["projection"].to_numpy(), strict=True)
    labels = map(str, dataset["batch"].to_numpy().tolist())
    alignment._batches = dict(zip(labels, parts, strict=True))
    return alignment


def control_moments(
    x: ArrayLike, *, batch: ArrayLike | None = None, control: ArrayLike
) -> dict[str, Moments]:
    """Take the moments of each batch's controls.

    Parameters
    ----------
    x
        Embeddings, shape (n, d).
    batch
        Each row's batch, shape (n,); None for one batch.
    control
        True for the negative controls, shape (n,).

    Raises
    ------
    InputError
        If a batch has no controls, a value is not finite, or the lengths differ.

    Examples
    --------
    >>> found = control_moments([[1.0], [3.0], [9.0]], batch=list("aab"), control=[1, 1, 1])
    >>> {batch: (moments.count, float(moments.mean[0])) for batch, moments in found.items()}
    {'a': (2, 2.0), 'b': (1, 9.0)}
    """
    rows = finite_rows(x)
    labels = _batch_labels(batch, len(rows))
    is_control = np.asarray(control, dtype=bool)
    if is_control.shape != labels.shape:
        raise InputError(
            f"expected one control flag a row, found {is_control.shape} for {len(rows)} rows"
        )
    missing = sorted(set(labels.tolist()) - set(labels[is_control].tolist()))
    if missing or not is_control.any():
        raise InputError(
            f"expected negative controls in each batch, found none in "
            f"{', '.join(map(repr, missing)) or 'any'}: set control_type in the platemap, or "
            "leave the batch out"
        )
    return {
        label: Moments.of(rows[is_control & (labels == label)])
        for label in np.unique(labels).tolist()
    }


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


def inverse_root(matrix: Floats) -> Floats:
    """Give the symmetric inverse square root of a symmetric positive definite matrix.

    Examples
    --------
    >>> inverse_root(np.diag([4.0, 0.25]))
    array([[0.5, 0. ],
           [0. , 2. ]])
    """
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    root: Floats = (vectors / np.sqrt(values)) @ vectors.T
    return root


def _reciprocal(deviations: Floats) -> Floats:
    return np.divide(1.0, deviations, out=np.zeros_like(deviations), where=deviations > 0)


def _batch_labels(batch: ArrayLike | None, n: int) -> Labels:
    if batch is None:
        return np.full(n, "", dtype=np.str_)
    labels = np.asarray(batch).astype(np.str_)
    if labels.shape != (n,):
        raise InputError(f"expected one batch label a row, found {labels.shape} for {n} rows")
    return labels
