"""From aligned wells to perturbations: means or robust centres, level by level, out of core.

A guide is the centre of its wells, a perturbation the centre of its guides: a guide with many
wells weighs no more than one with few. Sums run in the order of rows, so that the same wells give
the same bytes.
"""

import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phenopipe.config import VEHICLES, Aggregate
from phenopipe.profiles import WellProfiles, blank_vehicles, perturbed_gene
from phenopipe.stats import Floats, Indices

# Wells that a robust centre holds at a time, if no group has more: 50 MB at 384 values.
_BLOCK_WELLS = 32_768
# Beyond this many median absolute deviations a value counts for nothing.
_TUKEY_REACH = 6.0


@dataclass(frozen=True)
class Profiles:
    """Profiles of guides or perturbations: what each row is, and its values.

    Attributes
    ----------
    rows
        One row a profile.
    values
        Shape (n, k).
    """

    rows: pd.DataFrame
    values: NDArray[np.floating[Any]]

    def select(self, mask: NDArray[np.bool_]) -> "Profiles":
        """Keep the rows where the mask is true."""
        return Profiles(self.rows[mask].reset_index(drop=True), self.values[mask])


def added_compound(rows: pd.DataFrame, *, vehicles: Collection[str] = VEHICLES) -> pd.Series:
    """Give the compound that was added where a gene was perturbed, in each well.

    Examples
    --------
    >>> rows = pd.DataFrame({"perturbation_type": ["crispr", "crispr", "compound"], "gene": "A",
    ...                      "compound": ["aspirin", "dmso", "aspirin"]})
    >>> added_compound(rows).tolist()
    ['aspirin', '', '']
    """
    compound = blank_vehicles(rows["compound"].astype(object), vehicles)
    return compound.where(perturbed_gene(rows) != "", "")


def name_perturbations(rows: pd.DataFrame, *, vehicles: Collection[str] = VEHICLES) -> pd.Series:
    """Say which perturbation of the map each well is, or each treatment.

    The label is the gene's symbol for a gene that was perturbed, otherwise the platemap's name.
    Where one name stands for several types or doses these stay apart: ``TP53 (orf)``,
    ``aspirin (10 uM)``. A gene with a compound on top is neither of both: ``TP53 + nutlin``.

    Parameters
    ----------
    rows
        Columns ``perturbation``, ``perturbation_type``, ``gene``, ``compound``,
        ``concentration_um``; text is never null.
    vehicles
        What is named as a compound and is none.
    """
    kind, gene = rows["perturbation_type"].astype(object), perturbed_gene(rows)
    added = added_compound(rows, vehicles=vehicles)
    doses = rows["concentration_um"].tolist()
    texts = ["" if pd.isna(value) else f"{value:g} uM" for value in doses]
    dose = pd.Series(texts, index=rows.index, dtype=object)
    # A control with a gene is no type of its own: it joins the screen's guides of that gene.
    detail = dose.where(gene == "", kind.where(kind != "control", None))
    alone = _tell_apart(gene.where(gene != "", rows["perturbation"].astype(object)), detail)
    return alone.where(added == "", _tell_apart(alone + " + " + added, dose))


def _tell_apart(names: pd.Series, details: pd.Series) -> pd.Series:
    """Add the detail to names that stand for several."""
    several = details.groupby(names).transform("nunique") > 1
    plain = ~several | details.isna() | (details == "")
    return names.where(plain, names + " (" + details.fillna("") + ")")


def aggregate_guides(
    wells: WellProfiles, how: Aggregate, *, vehicles: Collection[str] = VEHICLES
) -> Profiles:
    """Bring the perturbed wells together into guides, out of the file.

    Wells without a guide count as one guide of their perturbation.

    Parameters
    ----------
    how
        ``mean``; ``median``; ``tukey``, see :func:`biweight`.
    vehicles
        What is named as a compound and is none.

    Returns
    -------
    Profiles
        One row a guide, sorted by ``label`` and ``guide``: the columns of its first well,
        ``gene`` as it was perturbed, ``added``, the compound on top of it, and ``n_wells``.
        Memory grows with guides, not wells.
    """
    rows = wells.rows
    perturbed = (rows["label"] != "").to_numpy()
    keys = rows.loc[perturbed, ["label", "guide"]]
    codes = np.full(len(rows), -1, dtype=np.int64)
    codes[perturbed] = keys.groupby(["label", "guide"], observed=True, sort=True).ngroup()
    _, first, n_wells = np.unique(codes[perturbed], return_index=True, return_counts=True)
    guides = rows.iloc[np.flatnonzero(perturbed)[first]].reset_index(drop=True)
    added = added_compound(guides, vehicles=vehicles)
    guides = guides.assign(gene=perturbed_gene(guides), added=added, n_wells=n_wells)
    if how == "mean":
        return Profiles(guides, _mean_groups(wells, codes, n_wells))
    return Profiles(guides, _centre_groups(wells, codes, n_wells, CENTRES[how]))


def aggregate_perturbations(guides: Profiles, how: Aggregate) -> Profiles:
    """Bring guides together into perturbations, sorted by label; add up wells, count guides.

    Returns
    -------
    Profiles
        Columns ``label``, ``gene``, ``kind`` (``gene``, ``compound``, ``gene + compound``, or
        else the type of perturbation), ``compound``, ``concentration_um``, ``n_wells`` and
        ``n_guides``, which is 0 where a perturbation has no guides' names. A gene with a compound
        on top has no ``gene``: what is known of the gene alone does not hold for both.
    """
    by_label = guides.rows.assign(named=guides.rows["guide"] != "").groupby(
        "label", sort=True, observed=True
    )
    starts = np.flatnonzero(np.diff(by_label.ngroup().to_numpy(), prepend=-1))
    ends = np.append(starts[1:], len(guides.rows))
    values = np.array([CENTRES[how](guides.values[a:b]) for a, b in zip(starts, ends, strict=True)])
    first = guides.rows.iloc[starts].reset_index(drop=True)
    added = first["added"].astype(object)
    kind = name_kinds(first).where(added == "", "gene + compound")
    name = first["compound"].astype(object)
    compound = name.where(name != "", first["perturbation"].astype(object))
    rows = pd.DataFrame(
        {
            "label": first["label"].astype(object),
            "gene": first["gene"].where(added == "", ""),
            "kind": kind,
            "compound": compound.where(kind == "compound", added),
            "concentration_um": by_label["concentration_um"].first().to_numpy(),
            "n_wells": by_label["n_wells"].sum().to_numpy(),
            "n_guides": by_label["named"].sum().to_numpy(),
        }
    )
    return Profiles(rows, values.reshape(len(rows), -1))


def name_kinds(rows: pd.DataFrame) -> pd.Series:
    """Say of what kind perturbations are: what relations are told apart by.

    Examples
    --------
    >>> rows = pd.DataFrame({"gene": ["TP53", "", ""], "compound": ["", "aspirin", ""]})
    >>> name_kinds(rows.assign(perturbation_type=["orf", "", "sirna"])).tolist()
    ['gene', 'compound', 'sirna']
    """
    kind: pd.Series = rows["perturbation_type"].astype(object)
    kind = kind.where(kind != "", "other")
    kind = kind.where((rows["compound"] == "") | (kind != "other"), "compound")
    return kind.where(rows["gene"] == "", "gene")


def biweight(x: ArrayLike) -> Floats:
    r"""Find Tukey's biweight centre of each column: one step from the median.

    With the median :math:`M` and :math:`u_i = (x_i - M) / (6\,\mathrm{MAD})`, it is
    :math:`M + \sum (x_i - M)(1 - u_i^2)^2 / \sum (1 - u_i^2)^2` over :math:`|u_i| < 1`. Where the
    median absolute deviation is 0 it is the median.

    Parameters
    ----------
    x
        Shape (n, k), n at least 1.

    References
    ----------
    Mosteller & Tukey (1977), Data Analysis and Regression, section 10; Beers, Flynn & Gebhardt
    (1990), Measures of location and scale for velocities in clusters of galaxies, Astron. J.
    100:32, equation 5.

    Examples
    --------
    >>> biweight([[1.0], [2.0], [3.0], [100.0]]).round(2)
    array([2.04])
    """
    values = np.asarray(x, dtype=np.float64)
    middle = np.median(values, axis=0)
    away = values - middle
    reach = _TUKEY_REACH * np.median(np.abs(away), axis=0)
    u = np.divide(away, reach, out=np.ones_like(away), where=np.abs(away) < reach)
    weights = (1 - u**2) ** 2
    total = weights.sum(axis=0)
    step: Floats = np.divide(
        (away * weights).sum(axis=0), total, out=np.zeros_like(total), where=total > 0
    )
    return middle + step


def _mean(x: NDArray[np.floating[Any]]) -> Floats:
    centre: Floats = x.mean(axis=0, dtype=np.float64)
    return centre


def _median(x: NDArray[np.floating[Any]]) -> Floats:
    centre: Floats = np.median(x.astype(np.float64), axis=0)
    return centre


CENTRES: dict[Aggregate, Callable[[NDArray[np.floating[Any]]], Floats]] = {
    "mean": _mean,
    "median": _median,
    "tukey": biweight,
}


def _mean_groups(wells: WellProfiles, codes: Indices, n_wells: Indices) -> Floats:
    """Average the wells of each group, plate by plate; those of a negative code are in none."""
    sums = np.zeros((len(n_wells), wells.width))
    for index, x in _read_grouped(wells, codes):
        order = np.argsort(codes[index], kind="stable")
        groups, starts = np.unique(codes[index][order], return_index=True)
        sums[groups] += np.add.reduceat(x[order], starts, axis=0, dtype=np.float64)
    sums /= n_wells[:, None]
    return sums


def _centre_groups(
    wells: WellProfiles,
    codes: Indices,
    n_wells: Indices,
    centre: Callable[[NDArray[np.floating[Any]]], Floats],
) -> Floats:
    """Find the centre of the wells of each group, which needs them all at once.

    Each well's vector is written to its group's place in a file, so that one pass over plates
    brings together what lies on many; then whole groups are read, a block at a time.
    """
    centres = np.empty((len(n_wells), wells.width))
    with tempfile.TemporaryDirectory(prefix="phenopipe-") as folder:
        path = Path(folder, "groups")
        _write_groups(wells, codes, path)
        with path.open("rb") as file:
            for start, stop in _blocks(n_wells):
                counts = n_wells[start:stop]
                size = int(counts.sum())
                x = np.fromfile(file, dtype=np.float32, count=size * wells.width)
                parts = np.split(x.reshape(size, wells.width), np.cumsum(counts)[:-1])
                centres[start:stop] = [centre(part) for part in parts]
    return centres


def _write_groups(wells: WellProfiles, codes: Indices, path: Path) -> None:
    grouped = np.flatnonzero(codes >= 0)
    place = np.empty(len(codes), dtype=np.int64)
    place[grouped[np.argsort(codes[grouped], kind="stable")]] = np.arange(len(grouped))
    size = wells.width * np.dtype(np.float32).itemsize
    with path.open("wb") as file:
        # Not mapped into memory: the system may write it out, and it is not ours to hold.
        for index, x in _read_grouped(wells, codes):
            for where, row in zip(place[index].tolist(), x, strict=True):
                os.pwrite(file.fileno(), row.tobytes(), where * size)


def _read_grouped(
    wells: WellProfiles, codes: Indices
) -> Iterator[tuple[Indices, NDArray[np.float32]]]:
    """Read plate by plate the wells that are in a group: their numbers and their vectors."""
    for rows, x in wells.plates():
        index = rows.index.to_numpy()
        grouped = codes[index] >= 0
        if grouped.any():
            yield index[grouped], x[grouped]


def _blocks(n_wells: Indices) -> Iterator[tuple[int, int]]:
    """Cut groups into runs of a bounded number of wells; a larger group is a run of its own."""
    start, held = 0, 0
    for group, count in enumerate(n_wells.tolist()):
        if held and held + count > _BLOCK_WELLS:
            yield start, group
            start, held = group, 0
        held += count
    if held:
        yield start, len(n_wells)
