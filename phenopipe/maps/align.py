"""The alignments: make the negative controls of every batch look alike, and carry all else along.

:class:`~phenopipe.maps.alignment.Alignment` says what they share, :data:`ALIGNMENTS` names them.
"""

from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import xarray as xr

from phenopipe.errors import InputError
from phenopipe.maps.alignment import Alignment
from phenopipe.maps.components import ComponentAlignment
from phenopipe.maps.controls import add_moments, control_moments
from phenopipe.maps.sphering import Sphering
from phenopipe.maps.whitening import inverse_root, principal_components, reciprocal
from phenopipe.stats import Floats, Moments

__all__ = [
    "ALIGNMENTS",
    "TVN",
    "Alignment",
    "CenterScale",
    "PCACenterScale",
    "Sphering",
    "add_moments",
    "control_moments",
    "from_dataset",
    "load_alignment",
]


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

    def _fit_shared(self, batches: list[Moments]) -> dict[str, Floats]:  # noqa: ARG002
        return {}

    def _fit_batch(self, controls: Moments) -> tuple[Floats, Floats]:
        return controls.mean, reciprocal(controls.deviations())


class _Rotation(ComponentAlignment):
    """What the two share: the principal components of all centred and scaled controls."""

    def _fit_shared(self, batches: list[Moments]) -> dict[str, Floats]:
        total = reduce(add, batches)
        scale = reciprocal(total.deviations())
        covariance = total.covariance(ddof=0) * np.outer(scale, scale)
        variances, loadings = principal_components(covariance)
        kept = self._count(variances, batches)
        basis = scale[:, None] * loadings[:, :kept] / np.sqrt(variances[:kept])
        return {"centre": total.mean, "basis": basis}


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
        variances = np.einsum("ij,ij->j", controls.covariance(ddof=0) @ basis, basis)
        deviations = np.sqrt(np.maximum(variances, 0))
        # Over all controls each component has deviation 1: this is rounding of one that does not.
        return controls.mean, basis * reciprocal(np.where(deviations > 1e-7, deviations, 0))


class TVN(_Rotation):
    """Typical variation normalisation (Ando et al. 2017), as EFAAR_benchmarking does it.

    CenterScale on all controls; principal components of all controls; CenterScale on all
    controls again; then, per batch, multiply by ``(C + 0.5 I)^(-1/2)``, symmetric, with C the
    covariance (ddof 1) of the batch's controls. Without batches all rows are one.

    Parameters
    ----------
    n_components
        How many principal components to keep. None keeps all in which the controls vary, as
        EFAAR_benchmarking does (a direction in which they do not cannot be scaled, and is
        dropped). ``"auto"`` keeps as many as the controls support: one for 8 of all controls and
        for 2 of the smallest batch's. A number is capped at half of all controls. A cap is logged,
        and is told by the attributes ``n_components_`` and ``cap``.

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
        return self._shared["centre"], basis @ inverse_root(covariance, ridge=0.5)


ALIGNMENTS: dict[str, type[Alignment]] = {
    kind.name: kind for kind in (CenterScale, PCACenterScale, TVN, Sphering)
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
    return kind.restore(dataset)


def load_alignment(path: str | Path) -> Alignment:
    """Read an alignment that :meth:`Alignment.save` wrote, or a map's ``alignment.zarr``.

    Raises
    ------
    InputError
        If there is no alignment at the path.
    """
    if not (Path(path) / "zarr.json").is_file():
        raise InputError(
            f"expected an alignment at {path}, found no zarr.json there: give the folder that "
            "save wrote, or a map's alignment.zarr"
        )
    with xr.open_zarr(path, consolidated=False, chunks=None) as dataset:
        return from_dataset(dataset)
