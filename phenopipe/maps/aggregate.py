"""From crops to perturbations: plain means, level by level, and a count of what was left out.

A well is the mean of its crops, a guide the mean of its wells, a perturbation the mean of its
guides: a guide with many wells weighs no more than one with few. Sums run in the order of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from phenopipe.embeddings import finite_vectors, group_means
from phenopipe.schema import PLATEMAP_COLUMNS

Exclusion = dict[str, str | int]

_WELL = ["experiment", "plate", "well"]
# Types of perturbation whose `gene` is what was perturbed; a compound's gene is its target.
_GENE_TYPES = ("crispr", "sirna", "orf", "control")


@dataclass(frozen=True)
class Profiles:
    """Profiles of wells, guides or perturbations: what each row is, and its values.

    Attributes
    ----------
    rows
        One row a profile.
    values
        Shape (n, d).
    """

    rows: pd.DataFrame
    values: NDArray[np.floating[Any]]

    def select(self, mask: NDArray[np.bool_]) -> "Profiles":
        """Keep the rows where the mask is true."""
        return Profiles(self.rows[mask].reset_index(drop=True), self.values[mask])


def average_groups(profiles: Profiles, by: Sequence[str]) -> Profiles:
    """Average the profiles of each group; groups are sorted, each with its first row's columns.

    Examples
    --------
    >>> rows = pd.DataFrame({"well": ["B01", "A01", "B01"]})
    >>> means = average_groups(Profiles(rows, np.array([[1.0], [7.0], [2.0]])), ["well"])
    >>> means.rows["well"].tolist(), means.values.tolist()
    (['A01', 'B01'], [[7.0], [1.5]])
    """
    codes = profiles.rows.groupby(list(by), sort=True, dropna=False).ngroup().to_numpy()
    if not len(codes):
        return profiles
    means, first = group_means(profiles.values, codes)
    return Profiles(profiles.rows.iloc[first].reset_index(drop=True), means)


def average_wells(table: pa.Table, *, where: str) -> Profiles:
    """Average one plate's crops, or its fields, into wells, in float64.

    Parameters
    ----------
    table
        One row a crop or field (schema.embeddings_schema).
    where
        What the table is, for messages.

    Returns
    -------
    Profiles
        One row a well: experiment, plate, well, the platemap's columns and what it carries.

    Raises
    ------
    InputError
        If an embedding is not finite or null.
    """
    values = finite_vectors(table, where=where)
    left_out = {"embedding", "field", "y", "x"} & {*table.column_names}
    rows = table.drop_columns(sorted(left_out)).to_pandas()
    return average_groups(Profiles(rows, values), _WELL)


def split_wells(wells: Profiles) -> tuple[Profiles, Profiles, list[Exclusion]]:
    """Split wells into negative controls and perturbed wells, and count what is left out.

    Returns
    -------
    controls, perturbed : Profiles
    exclusions : list of dict
        ``what``, ``count`` and ``why`` of wells that are in neither or not in the map.
    """
    text = wells.rows[list(PLATEMAP_COLUMNS)].drop(columns=["concentration_um"]).fillna("")
    negative = (text["control_type"] == "negative").to_numpy()
    unknown = (text.drop(columns=["well"]) == "").all(axis=1).to_numpy() & ~negative
    empty = (text["perturbation_type"] == "empty").to_numpy() & ~negative
    nameless = (text[["perturbation", "gene"]] == "").all(axis=1).to_numpy() & ~negative
    nameless &= ~(unknown | empty)
    reasons = [
        ("wells without a platemap row", unknown, "what was done to them is not known"),
        ("empty wells", empty, "nothing was done to them"),
        ("wells without a perturbation's name", nameless, "perturbation and gene are empty"),
        ("negative control wells", negative, "they are the reference of alignment"),
    ]
    exclusions: list[Exclusion] = [
        {"what": what, "count": int(mask.sum()), "why": why}
        for what, mask, why in reasons
        if mask.any()
    ]
    perturbed = wells.select(~(unknown | empty | nameless | negative))
    return wells.select(negative), perturbed, exclusions


def name_perturbations(wells: Profiles) -> Profiles:
    """Add the columns ``label`` and ``gene`` that say which perturbation of the map a well is.

    The label is the gene's symbol for a gene that was perturbed, otherwise the platemap's name.
    Where one name stands for several types or doses these stay apart: ``TP53 (orf)``,
    ``aspirin (10 uM)``. A compound's target is not its gene.
    """
    rows = wells.rows
    kind, gene = rows["perturbation_type"].fillna(""), rows["gene"].fillna("")
    gene = gene.where(kind.isin(_GENE_TYPES), "")
    label = gene.where(gene != "", rows["perturbation"].fillna(""))
    doses = rows["concentration_um"].tolist()
    dose = pd.Series(["" if pd.isna(value) else f"{value:g} uM" for value in doses], dtype=object)
    # A control with a gene is no type of its own: it joins the screen's guides of that gene.
    detail = dose.where(gene == "", kind.where(kind != "control", None))
    several = detail.groupby(label).transform("nunique") > 1
    plain = ~several | detail.isna() | (detail == "")
    label = label.where(plain, label + " (" + detail.fillna("") + ")")
    return Profiles(rows.assign(label=label, gene=gene), wells.values)


def average_guides(wells: Profiles) -> Profiles:
    """Average wells into guides; adds ``n_wells``. Wells without a guide count as one guide."""
    rows = wells.rows.assign(guide=wells.rows["guide"].fillna(""))
    n_wells = rows.groupby(["label", "guide"], sort=True).size().to_numpy()
    guides = average_groups(Profiles(rows, wells.values), ["label", "guide"])
    return Profiles(guides.rows.assign(n_wells=n_wells), guides.values)


def average_perturbations(guides: Profiles) -> Profiles:
    """Average guides into perturbations, sorted by label; adds up wells and counts guides.

    ``n_guides`` is 0 where a perturbation has no guides' names.
    """
    by = guides.rows.assign(named=guides.rows["guide"] != "").groupby("label", sort=True)
    n_wells, n_guides = by["n_wells"].sum().to_numpy(), by["named"].sum().to_numpy()
    means = average_groups(guides, ["label"])
    return Profiles(means.rows.assign(n_wells=n_wells, n_guides=n_guides), means.values)


def join_profiles(parts: Sequence[Profiles]) -> Profiles:
    """Stack profiles, in the order given; a column that some lack is null there."""
    rows = pd.concat([part.rows for part in parts], ignore_index=True)
    return Profiles(rows, np.concatenate([part.values for part in parts]))
