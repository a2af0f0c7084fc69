"""How strongly genes are expressed, as the platemaps carry it."""

import numpy as np
import pandas as pd


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
