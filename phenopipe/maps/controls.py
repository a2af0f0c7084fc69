"""What alignments are fitted from: the moments of each batch's negative controls."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phenopipe.errors import InputError
from phenopipe.stats import Indices, Moments, find_rows, float_rows, to_numpy


def control_moments(
    x: ArrayLike, *, batch: ArrayLike | None = None, control: ArrayLike
) -> dict[str, Moments]:
    """Take the moments of each batch's controls.

    Parameters
    ----------
    x
        Embeddings, shape (n, d); of NumPy, torch or CuPy.
    batch
        Each row's batch, shape (n,); None for one batch.
    control
        True for the negative controls, shape (n,).

    Raises
    ------
    InputError
        If a batch has no controls, a value is not finite, a label is missing, or the lengths
        differ.

    Examples
    --------
    >>> found = control_moments([[1.0], [3.0], [9.0]], batch=list("aab"), control=[1, 1, 1])
    >>> {batch: (moments.count, float(moments.mean[0])) for batch, moments in found.items()}
    {'a': (2, 2.0), 'b': (1, 9.0)}
    """
    found, without = split_controls(x, batch=batch, control=control)
    check_controls(found, without)
    return found


def split_controls(
    x: ArrayLike, *, batch: ArrayLike | None, control: ArrayLike
) -> tuple[dict[str, Moments], list[str]]:
    """Take the moments of each batch's controls, and name the batches that have none."""
    rows = float_rows(x)
    parts = batch_rows(batch, len(rows))
    is_control = _control_flags(control, len(rows))
    controls = {label: index[is_control[index]] for label, index in parts.items()}
    moments = {
        label: Moments.of(rows[find_rows(index, rows)])
        for label, index in controls.items()
        if index.size
    }
    return moments, [label for label, index in controls.items() if not index.size]


def check_controls(found: Mapping[str, Moments], without: list[str]) -> None:
    """Raise an InputError if batches are without controls, or if there is no batch."""
    if without or not found:
        raise InputError(
            f"expected negative controls in each batch, found none in "
            f"{', '.join(map(repr, without)) or 'any'}: set control_type in the platemap, or "
            "leave the batch out"
        )


def add_moments(moments: Mapping[str, Moments], more: Mapping[str, Moments]) -> dict[str, Moments]:
    """Add moments batch by batch; a batch that is in one of the two alone stays as it is.

    Examples
    --------
    >>> first = control_moments([[1.0], [3.0]], batch=["a", "a"], control=[1, 1])
    >>> second = control_moments([[8.0], [4.0]], batch=["a", "b"], control=[1, 1])
    >>> both = add_moments(first, second)
    >>> {batch: (moments.count, float(moments.mean[0])) for batch, moments in both.items()}
    {'a': (3, 4.0), 'b': (1, 4.0)}
    """
    added = dict(moments)
    for batch, others in more.items():
        added[batch] = added[batch] + others if batch in added else others
    return added


def batch_rows(batch: ArrayLike | None, n: int) -> dict[str, Indices]:
    """Give the numbers of each batch's rows, in the order of the batches' names.

    Raises
    ------
    InputError
        If there is not one label a row, one is missing, or two read alike.

    Examples
    --------
    >>> batch_rows(["b", "a", "b"], 3)
    {'a': array([1]), 'b': array([0, 2])}
    """
    if batch is None:
        return {"": np.arange(n)}
    # NumPy would turn a list of text with a hole in it into text.
    is_list = isinstance(batch, list | tuple)
    labels = np.asarray(batch, dtype=object) if is_list else to_numpy(batch)
    if labels.shape != (n,):
        raise InputError(f"expected one batch label a row, found {labels.shape} for {n} rows")
    codes, values = pd.factorize(labels.astype(object))
    if (codes < 0).any():
        raise InputError(
            f"expected a batch label for each row, found none for {(codes < 0).sum()} of {n} "
            f"rows, the first at row {np.argmax(codes < 0)}: name the batch, or leave these out"
        )
    names = [str(value) for value in values]
    _check_distinct(names)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(names)))
    parts = np.split(order, ends[:-1])
    return dict(sorted(zip(names, parts, strict=False)))  # no rows: no names, one empty part


def _check_distinct(names: list[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InputError(
            f"expected batch labels of one type, found {', '.join(map(repr, twice))} as text and "
            "as something else: give all labels as text"
        )


def _control_flags(control: ArrayLike, n: int) -> NDArray[np.bool_]:
    flags = to_numpy(control)
    if flags.shape != (n,):
        raise InputError(f"expected one control flag a row, found {flags.shape} for {n} rows")
    if flags.dtype != bool:
        # Truth would take any text, and NaN, for a control.
        odd = flags[~pd.Series(flags).isin([0, 1]).to_numpy()].tolist()
        if odd:
            raise InputError(
                f"expected True or False (1 or 0) as control flags, found {odd[0]!r}: compare "
                'control_type with "negative"'
            )
    return flags.astype(bool)
