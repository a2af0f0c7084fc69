"""How strongly genes are expressed, as the platemaps carry it; of a table that is given, which."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phenopipe.digests import digest_file
from phenopipe.errors import InputError


def expression_inputs(path: Path | None) -> dict[str, str]:
    """Give the digest of the table of expression, as an input of the map.

    Raises
    ------
    InputError
        If there is no such file.
    """
    if path is None:
        return {}
    if not path.is_file():
        raise InputError(f"expected a table of expression at {path}, found no file")
    return {"source:expression": digest_file(path)}


def parse_levels(levels: pd.Series, *, where: str) -> NDArray[np.float64]:
    """Read numbers out of a column of expression; NaN where nothing stands.

    Raises
    ------
    InputError
        If something else stands there.

    Examples
    --------
    >>> parse_levels(pd.Series(["-3.5", "", None]), where="here")
    array([-3.5,  nan,  nan])
    """
    texts = levels.astype(object).where(levels.notna() & (levels != ""), None)
    numbers = pd.to_numeric(texts, errors="coerce")
    bad = texts[numbers.isna() & texts.notna()]
    if len(bad):
        raise InputError(f"expected numbers as zfpkm in {where}, found {bad.iloc[0]!r}")
    return np.asarray(numbers, dtype=np.float64)


class CarriedLevels:
    """The mean of what wells say of their genes' expression, plate after plate.

    Examples
    --------
    >>> carried = CarriedLevels()
    >>> carried.add(pd.Series(["TP53", "TP53", ""]), pd.Series([1.0, -4.0, 2.0]))
    >>> carried.means()
    {'TP53': -1.5}
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, genes: pd.Series, levels: pd.Series) -> None:
        """Take in wells: the gene that was perturbed in each, and its level."""
        values = levels.to_numpy(dtype=np.float64)
        known = ~np.isnan(values) & (genes != "").to_numpy()
        codes, names = pd.factorize(genes[known], sort=True)
        sums, counts = np.bincount(codes, values[known]), np.bincount(codes)
        for gene, more, wells in zip(names.tolist(), sums.tolist(), counts.tolist(), strict=True):
            total, before = self._sums.get(gene, (0.0, 0))
            self._sums[gene] = total + more, before + wells

    def means(self) -> dict[str, float]:
        """Give the mean level by gene."""
        return {gene: total / wells for gene, (total, wells) in sorted(self._sums.items())}
