"""Which wells belong together: those of one perturbation, at one dose, on one background."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

from phenopipe.profiles import WellProfiles, blank_vehicles, perturbed_gene
from phenopipe.stats import Floats, Indices

_KEYS = ["label", "kind", "gene", "compound", "concentration_um"]
# Wells whose vectors are read at a time: 50 MB of 384 values in float32.
_WELLS_AT_A_TIME = 32_768


@dataclass(frozen=True)
class Group:
    """Wells to which the same was done.

    Attributes
    ----------
    label
        The map's perturbation.
    kind
        ``gene``, ``compound``, ``gene + compound``, or the platemap's type.
    gene
        What was perturbed; empty for a compound, whose gene is its target.
    compound, concentration_um
        Empty and NaN where there is none, or only a vehicle.
    wells
        Numbers of rows in the map's wells, rising.
    """

    label: str
    kind: str
    gene: str
    compound: str
    concentration_um: float
    wells: Indices

    def describe(self) -> dict[str, Any]:
        """Give what the group is as columns of a table; a dose that is not known is None."""
        dose = None if np.isnan(self.concentration_um) else self.concentration_um
        return {
            "perturbation": self.label,
            "kind": self.kind,
            "gene": self.gene,
            "compound": self.compound,
            "concentration_um": dose,
        }

    def seed(self, seed: int) -> list[int]:
        """Seed the group's own resamples: the same whatever other groups there are."""
        key = "\t".join(str(value) for value in self.describe().values())
        return [seed, crc32(key.encode())]

    def keep(self, wells: Indices, *, most: int, seed: int) -> "Group":
        """Keep some of its wells; of more than so many, as many at random, the same each time."""
        if len(wells) > most:
            wells = np.sort(np.random.default_rng(self.seed(seed)).choice(wells, most, False))
        return replace(self, wells=wells)


def describe_wells(rows: pd.DataFrame, *, vehicles: Collection[str]) -> pd.DataFrame:
    """Tell what was done to each well in words that leave nothing open.

    Parameters
    ----------
    rows
        A map's wells (schema.wells_schema without the vectors).
    vehicles
        What compounds are dissolved in: a well with nothing else has no compound.

    Returns
    -------
    DataFrame
        One row a well: ``experiment``, ``plate`` (with its experiment), ``negative``, ``label``,
        ``kind``, ``gene``, ``compound``, ``concentration_um``, ``target`` (a compound's gene).

    Examples
    --------
    >>> rows = pd.DataFrame({
    ...     "experiment": "E", "plate": "P", "label": ["TP53", "TP53", "nutlin"],
    ...     "control_type": "", "perturbation_type": ["crispr", "crispr", "compound"],
    ...     "gene": ["TP53", "TP53", "MDM2"], "compound": ["DMSO", "nutlin", ""],
    ...     "perturbation": ["TP53_g1", "TP53_g1", "nutlin"], "concentration_um": 1.0})
    >>> facts = describe_wells(rows, vehicles=["DMSO"])
    >>> facts[["kind", "gene", "compound"]].values.tolist()
    [['gene', 'TP53', ''], ['gene + compound', 'TP53', 'nutlin'], ['compound', '', 'nutlin']]
    """
    texts = ["control_type", "perturbation_type", "gene", "compound", "perturbation", "label"]
    text = rows[["experiment", "plate", *texts]].astype(object)
    kind, gene = text["perturbation_type"], perturbed_gene(text)
    compound = text["compound"].where(
        (kind != "compound") | (text["compound"] != ""), text["perturbation"]
    )
    compound = blank_vehicles(compound, vehicles)
    kind = kind.where(gene == "", "gene").where(compound == "", "compound")
    return pd.DataFrame(
        {
            "experiment": text["experiment"],
            "plate": text["experiment"] + "/" + text["plate"],
            "negative": text["control_type"] == "negative",
            "label": text["label"],
            "kind": kind.where((gene == "") | (compound == ""), "gene + compound"),
            "gene": gene,
            "compound": compound,
            "concentration_um": rows["concentration_um"].where(compound != ""),
            "target": text["gene"].where(gene == "", ""),
        }
    ).reset_index(drop=True)


def list_groups(facts: pd.DataFrame) -> list[Group]:
    """Group the wells that are not negative controls, in the order of labels and doses."""
    perturbed = facts[~facts["negative"] & (facts["label"] != "")]
    if perturbed.empty:
        return []
    codes = perturbed.groupby(_KEYS, sort=True, dropna=False).ngroup().to_numpy()
    order = np.argsort(codes, kind="stable")
    rows = perturbed.index.to_numpy(dtype=np.int64)[order]
    _, starts = np.unique(codes[order], return_index=True)
    keys = facts.loc[rows[starts], _KEYS].itertuples(index=False, name=None)
    wells = np.split(rows, starts[1:])
    return [
        Group(label, kind, gene, compound, float(dose), members)
        for (label, kind, gene, compound, dose), members in zip(keys, wells, strict=True)
    ]


def read_groups(
    wells: WellProfiles, groups: Sequence[Group], *, limit: int = _WELLS_AT_A_TIME
) -> Iterator[tuple[Group, Floats]]:
    """Read the vectors of groups in turn, shape (n, k); some thousand wells at a time.

    Parameters
    ----------
    limit
        Wells in memory; a larger group is read alone.
    """
    block: list[Group] = []
    for group in groups:
        if block and sum(len(one.wells) for one in [*block, group]) > limit:
            yield from _read_block(wells, block)
            block = []
        block.append(group)
    yield from _read_block(wells, block)


def _read_block(wells: WellProfiles, block: Sequence[Group]) -> Iterator[tuple[Group, Floats]]:
    if not block:
        return
    values = wells.take(np.concatenate([group.wells for group in block]))
    ends = np.cumsum([len(group.wells) for group in block])
    for group, part in zip(block, np.split(values, ends[:-1]), strict=True):
        yield group, part.astype(np.float64)
