"""Whether the guides of a gene agree: a phenotype that only one of them has may be off target."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from phenopipe.maps.aggregate import Profiles
from phenopipe.stats import Floats, Indices

_DRAWS = 10_000
_SEED = 0
_BLOCK_ROWS = 4096
# Guides agree at this false discovery rate.
_FDR = 0.05


@dataclass(frozen=True)
class Agreement:
    """How well the guides of each label agree, and which guide does not.

    Attributes
    ----------
    mean_cosine
        By label, those with two named guides or more: the mean cosine of all pairs of guides.
    p_value
        By label: the share of draws of as many guides, each of another label, that agree as well.
    disagreeing
        True for guides that stand apart, shape (guides,).
    """

    mean_cosine: pd.Series
    p_value: pd.Series
    disagreeing: NDArray[np.bool_]


def check_guides(guides: Profiles) -> Agreement:
    """Compare the guides of each perturbation with one another and with random guides.

    The agreement of a gene is the mean cosine of all pairs of its guides, its null that of as
    many guides drawn from different genes (10,000 seeded draws). A guide disagrees where its
    gene has three guides or more, the others agree better than each draw does, and its mean cosine
    to them is no more than the median of random pairs: it is no more like its gene than any guide
    is. A gene without a phenotype has guides that agree no more than random ones; of its guides
    one in 20,000 is told to disagree.

    Parameters
    ----------
    guides
        Sorted by ``label`` and ``guide``; those without a guide's name are not compared.
    """
    named = (guides.rows["guide"] != "").to_numpy()
    labels, codes = np.unique(guides.rows["label"].to_numpy(dtype=str)[named], return_inverse=True)
    unit = _unit(guides.values[named])
    sizes = np.bincount(codes, minlength=len(labels))
    sums = np.zeros((len(labels), unit.shape[1]))
    np.add.at(sums, codes, unit)
    nulls = {size: _draw_null(unit, codes, size) for size in _sizes_asked(sizes)}
    several = sizes >= 2
    means = _mean_pairs(sums[several], sizes[several])
    index = pd.Index(labels[several], dtype=object)
    p_values = _p_values(means, sizes[several], nulls)
    disagreeing = np.zeros(len(named), dtype=bool)
    disagreeing[named] = _find_outliers(unit, codes, sums, sizes, nulls)
    return Agreement(pd.Series(means, index), pd.Series(p_values, index), disagreeing)


def describe_agreement(agreement: Agreement) -> str:
    """Say in one line what was compared, how much of it agrees, and which guides do not.

    Examples
    --------
    >>> one = pd.Series([0.5], ["TP53"])
    >>> describe_agreement(Agreement(one, one / 1000, np.array([False, True])))
    'the guides of 1 of 1 perturbations agree (FDR 5%); 1 guides disagree with the others'
    """
    known = agreement.p_value.dropna().to_numpy()
    if not len(known):
        return ""
    agreeing = int((false_discovery_control(known) <= _FDR).sum())
    return (
        f"the guides of {agreeing:,} of {len(known):,} perturbations agree (FDR {_FDR:.0%}); "
        f"{int(agreement.disagreeing.sum()):,} guides disagree with the others"
    )


def _unit(values: NDArray[np.floating[Any]]) -> Floats:
    """Scale rows to length 1 in place; zero rows stay zero."""
    rows = values.astype(np.float64, copy=False)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(lengths > 0, lengths, 1)
    return rows


def _sizes_asked(sizes: Indices) -> list[int]:
    """List the numbers of guides that a null is needed for: with all guides, and without one."""
    found = {int(size) for size in np.unique(sizes) if size >= 2}
    return sorted({2, *found, *(size - 1 for size in found if size > 2)}) if found else []


def _mean_pairs(sums: Floats, sizes: Indices) -> Floats:
    """Give the mean cosine of all pairs of unit rows from their sum: its square less n, over pairs.

    ``|sum|^2 = n + 2 * (sum of cosines of pairs)``.
    """
    squares = (sums**2).sum(axis=1)
    means: Floats = (squares - sizes) / (sizes * (sizes - 1))
    return means


def _draw_null(unit: Floats, codes: Indices, size: int) -> Floats:
    """Draw guides of different labels and give their mean cosines, sorted; none if too few."""
    n_labels = int(codes.max(initial=-1)) + 1
    if n_labels < size:
        return np.empty(0)
    random = np.random.default_rng([_SEED, size])
    starts = np.searchsorted(codes, np.arange(n_labels + 1))
    sums = np.zeros((_DRAWS, unit.shape[1]))
    for labels in _draw_labels(random, n_labels, size).T:
        within = random.random(_DRAWS) * np.diff(starts)[labels]
        sums += unit[starts[labels] + within.astype(np.int64)]
    return np.sort(_mean_pairs(sums, np.full(_DRAWS, size)))


def _draw_labels(random: np.random.Generator, n_labels: int, size: int) -> Indices:
    """Draw sets of different labels, shape (draws, size), all sets equally likely.

    Floyd's algorithm for all draws at once (Bentley & Floyd 1987, A sample of brilliance, Commun.
    ACM 30:754): a label that the set has already is replaced by the largest that it may have.
    """
    drawn = np.empty((_DRAWS, size), dtype=np.int64)
    for place, largest in enumerate(range(n_labels - size, n_labels)):
        label = random.integers(0, largest + 1, _DRAWS)
        taken = (drawn[:, :place] == label[:, None]).any(axis=1)
        drawn[:, place] = np.where(taken, largest, label)
    return drawn


def _p_values(means: Floats, sizes: Indices, nulls: dict[int, Floats]) -> Floats:
    """Give the share of draws that agree as well or better, the gene itself counted among them."""
    p_values = np.full(len(means), np.nan)
    for size in np.unique(sizes).tolist():
        null, of_size = nulls[size], sizes == size
        if len(null):
            better = len(null) - np.searchsorted(null, means[of_size], side="left")
            p_values[of_size] = (better + 1) / (len(null) + 1)
    return p_values


def _find_outliers(
    unit: Floats, codes: Indices, sums: Floats, sizes: Indices, nulls: dict[int, Floats]
) -> NDArray[np.bool_]:
    """Tell which guides stand apart from others of their label that agree."""
    outlier = np.zeros(len(codes), dtype=bool)
    asked = np.flatnonzero(sizes[codes] >= 3)
    if not len(asked) or not len(nulls[2]):
        return outlier
    label = codes[asked]
    n_others = sizes[label] - 1
    # Of the label's sum s and a guide u: |s - u|^2 and u (s - u), without s - u for each guide.
    to_all = _row_products(unit, sums, asked, label)
    squares = (sums**2).sum(axis=1)[label] - 2 * to_all + 1
    agreement = (squares - n_others) / (n_others * (n_others - 1))
    # A rate over all guides asked would not do: those that stand apart from others which agree by
    # chance are half of these, and guides that truly stand apart are few.
    sure = _p_values(agreement, n_others, nulls) <= 1 / _DRAWS
    outlier[asked] = sure & ((to_all - 1) / n_others <= np.median(nulls[2]))
    return outlier


def _row_products(first: Floats, second: Floats, rows: Indices, others: Indices) -> Floats:
    """Multiply rows of one with rows of the other, a block of them at a time."""
    products = np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        products[part] = (first[rows[part]] * second[others[part]]).sum(axis=1)
    return products
