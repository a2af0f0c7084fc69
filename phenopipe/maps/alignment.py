"""What alignments share: fit on the moments of controls, transform row by row, save, and join.

Each alignment is fitted from the moments of the raw negative controls, batch by batch, in one
pass; moments add up, so memory does not grow with wells. Within a batch it is affine: one product
of matrices moves all its rows.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
from array_api_compat import array_namespace, device
from numpy.typing import ArrayLike, NDArray

from phenopipe.errors import InputError
from phenopipe.maps.controls import (
    add_moments,
    batch_rows,
    check_controls,
    control_moments,
    split_controls,
)
from phenopipe.maps.store import write_zarr
from phenopipe.stats import Floats, Moments, array_like, find_rows, float_rows

# Rows that are moved at a time: what a product needs beside input and output stays small.
_BLOCK_ROWS = 8192


class Alignment(ABC):
    """An alignment of batches on their negative controls; see the kinds of it.

    Attributes
    ----------
    cap
        What was capped because the controls support no more; empty if nothing was.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self.cap = ""
        self._shared: dict[str, Floats] = {}
        self._batches: dict[str, tuple[Floats, Floats]] = {}
        # What partial_fit has gathered; empty in one that was fitted at once, joined or loaded.
        self._gathered: dict[str, Moments] = {}
        self._seen: set[str] = set()
        self._is_stale = False

    @property
    def batches(self) -> tuple[str, ...]:
        """The batches that were fitted, sorted."""
        self.finish()
        return tuple(sorted(self._batches))

    def fit(self, x: ArrayLike, *, batch: ArrayLike | None = None, control: ArrayLike) -> Self:
        """Fit on the control rows of each batch; see :func:`control_moments`."""
        return self.fit_moments(control_moments(x, batch=batch, control=control))

    def fit_moments(self, moments: Mapping[str, Moments]) -> Self:
        """Fit on the moments of each batch's raw controls."""
        self._forget()
        return self._fit(moments)

    def partial_fit(
        self, x: ArrayLike, *, batch: ArrayLike | None = None, control: ArrayLike
    ) -> Self:
        """Add the control rows of one chunk; the fit itself waits for :meth:`finish`.

        Chunks come in any order and cut batches anywhere: moments are added up. Other methods
        finish by themselves; more chunks may follow, and change the fit.

        Raises
        ------
        InputError
            If it was fitted at once, joined or loaded: then its moments are gone.
        """
        if self._batches and not self._seen:
            raise InputError(
                "expected an alignment that was fitted by partial_fit alone, found one that was "
                "fitted at once, joined or loaded: join new batches, or begin a new alignment"
            )
        found, without = split_controls(x, batch=batch, control=control)
        self._gathered = add_moments(self._gathered, found)
        self._seen |= {*found, *without}
        self._is_stale = True
        return self

    def finish(self) -> Self:
        """Fit on what :meth:`partial_fit` has gathered, if that has changed.

        Raises
        ------
        InputError
            If a batch had no controls in any chunk.
        """
        if self._is_stale:
            check_controls(self._gathered, sorted(self._seen - set(self._gathered)))
            self._fit(self._gathered)
            self._is_stale = False
        return self

    def join(self, moments: Mapping[str, Moments]) -> Self:
        """Add batches to a fitted alignment: what all batches share stays as it is.

        Raises
        ------
        InputError
            If nothing was fitted yet, a batch has fewer than 2 controls, or another width.
        """
        self._require_fit("join batches to")
        _check_moments(moments, self._width)
        self._forget()
        return self._add(moments)

    def transform(self, x: ArrayLike, *, batch: ArrayLike | None = None) -> NDArray[Any]:
        """Align rows, each by its own batch.

        Parameters
        ----------
        x
            Embeddings, shape (n, d); of NumPy, torch or CuPy.
        batch
            Each row's batch, shape (n,); None where the fit had none.

        Returns
        -------
        array, shape (n, k)
            Of x's library and on its device; float32 if x is (or narrower), else float64.

        Raises
        ------
        InputError
            If a batch was not fitted, the width is another, or a value is not finite.
        """
        self._require_fit("transform by")
        rows = float_rows(x)
        parts = batch_rows(batch, len(rows))
        if unknown := sorted(set(parts) - set(self.batches)):
            raise InputError(
                f"expected batches that were fitted ({', '.join(self.batches)}), found "
                f"{', '.join(map(repr, unknown))}: fit with these batches, or join them"
            )
        if rows.shape[1] != self._width:
            raise InputError(
                f"expected rows of {self._width} features as fitted, found {rows.shape[1]}"
            )
        shape = (len(rows), self._batches[self.batches[0]][1].shape[-1])
        out = array_namespace(rows).empty(shape, dtype=rows.dtype, device=device(rows))
        for label, index in parts.items():
            for block in np.split(index, range(_BLOCK_ROWS, len(index), _BLOCK_ROWS)):
                found = find_rows(block, rows)
                out[found] = _move(rows[found], *self._batches[label])
        return out  # type: ignore[no-any-return]

    def to_dataset(self) -> xr.Dataset:
        """Give the fitted numbers, with the batches as a coordinate; for ``alignment.zarr``."""
        self._require_fit("save")
        dims = ("feature", "component")
        centres, projections = (
            np.array([self._batches[batch][part] for batch in self.batches]) for part in (0, 1)
        )
        variables: dict[str, Any] = {
            f"shared_{key}": (dims[: array.ndim], array) for key, array in self._shared.items()
        }
        variables["centre"] = (("batch", "feature"), centres)
        variables["projection"] = (("batch", "feature", "aligned")[: projections.ndim], projections)
        options = json.dumps(self._options())
        return xr.Dataset(
            variables,
            coords={"batch": np.array(self.batches, dtype=object)},
            attrs={"align": self.name, "options": options, "cap": self.cap},
        )

    def save(self, path: str | Path) -> None:
        """Write the fitted numbers as Zarr; :func:`load_alignment` reads them.

        The folder appears once it is whole.

        Raises
        ------
        InputError
            If nothing was fitted, or something is at the path already.
        """
        place = Path(path)
        if place.exists():
            raise InputError(
                f"expected nothing yet at {place}, found a file or folder: remove it, or save "
                "elsewhere"
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as folder:
            draft = Path(folder) / place.name
            write_zarr(self.to_dataset(), draft)
            draft.rename(place)

    @classmethod
    def restore(cls, dataset: xr.Dataset) -> Self:
        """Rebuild a fitted alignment of this kind from what :meth:`to_dataset` gave."""
        alignment = cls(**json.loads(dataset.attrs.get("options", "{}")))
        alignment.cap = str(dataset.attrs.get("cap", ""))
        alignment._shared = {
            str(key).removeprefix("shared_"): dataset[key].to_numpy()
            for key in dataset.data_vars
            if str(key).startswith("shared_")
        }
        parts = zip(dataset["centre"].to_numpy(), dataset["projection"].to_numpy(), strict=True)
        labels = map(str, dataset["batch"].to_numpy().tolist())
        alignment._batches = dict(zip(labels, parts, strict=True))
        return alignment

    def _require_fit(self, purpose: str) -> None:
        if not self.batches:
            raise InputError(f"expected a fitted alignment to {purpose}, found none: fit it first")

    def _forget(self) -> None:
        self._gathered, self._seen, self._is_stale = {}, set(), False

    def _fit(self, moments: Mapping[str, Moments]) -> Self:
        ordered = [moments[batch] for batch in sorted(moments)]
        if not ordered:
            raise InputError(
                "expected negative controls to align on, found none: check control_type"
            )
        _check_moments(moments, ordered[0].mean.size)
        self.cap, self._batches = "", {}
        self._shared = self._fit_shared(ordered)
        return self._add(moments)

    def _add(self, moments: Mapping[str, Moments]) -> Self:
        self._batches |= {batch: self._fit_batch(moments[batch]) for batch in moments}
        return self

    @property
    def _width(self) -> int:
        return len(self._batches[self.batches[0]][0])

    def _options(self) -> dict[str, Any]:
        """Give what the constructor takes."""
        return {}

    @abstractmethod
    def _fit_shared(self, batches: list[Moments]) -> dict[str, Floats]:
        """Fit what all batches share, by name; ``basis`` is (feature, component)."""

    @abstractmethod
    def _fit_batch(self, controls: Moments) -> tuple[Floats, Floats]:
        """Fit one batch's centre (d,) and factor (d,) or projection (d, k)."""


def _check_moments(moments: Mapping[str, Moments], width: int) -> None:
    for batch, controls in moments.items():
        if controls.count < 2:
            raise InputError(
                f"expected 2 negative controls or more in batch {batch!r}, found "
                f"{controls.count}: add controls, or leave the batch out"
            )
        if controls.mean.size != width:
            raise InputError(
                f"expected {width} features in batch {batch!r} as in the others, found "
                f"{controls.mean.size}: align batches of one model"
            )


def _move(rows: Any, centre: Floats, projection: Floats) -> Any:
    """Centre rows, and scale or project them, in the rows' own type."""
    near, change = array_like(centre, rows), array_like(projection, rows)
    centred = rows - near
    moved = centred * change if projection.ndim == 1 else centred @ change
    # What float32 rounds off a centre far from zero would shift all rows alike: take it back.
    rest = centre - centre.astype(f"f{rows.dtype.itemsize}")
    if rest.any():
        moved -= array_like(rest * projection if projection.ndim == 1 else rest @ projection, rows)
    return moved
