"""How sure a pair is: the null that all pairs of a relation show, and the FDR under it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from phenopipe.stats import Floats, Indices

# Cosines are counted in this many bins over [-1, 1], so of 2e-6 each.
N_BINS = 1 << 20
# Quartiles of a normal distribution are this many standard deviations apart.
_QUARTILES_APART = 1.3489795003921634


@dataclass(frozen=True)
class PairNull:
    r"""How sure a cosine is among all pairs of a relation.

    The null is the pairs' own (Efron 2004, "Large-scale simultaneous hypothesis testing: the
    choice of a null hypothesis"): most pairs are unrelated, so the centre of all pairs shows how
    unrelated ones vary. With :math:`z = \operatorname{artanh}(\cos)`, which is close to normal,
    its median :math:`m` and :math:`s = (q_{75} - q_{25}) / 1.349` over all pairs, the two-sided
    p-value is :math:`2 \Phi(-|z - m| / s)`. The FDR is Benjamini & Hochberg's (1995) over all
    pairs. (A pair's rank among the same pairs would be a p-value under which no pair stands out.)

    Attributes
    ----------
    middle
        The median of z.
    p_values
        Of each bin, of :data:`N_BINS`; 1 where no pairs vary.
    bins, fdr
        The bins that pairs are in, by rising p-value, and the FDR of each.

    Examples
    --------
    >>> cosines = np.tanh(np.random.default_rng(0).normal(0, 0.1, 100_000))
    >>> cosines[:3] = [0.2, 0.6, -0.6]
    >>> p_values, fdr = PairNull.of(count_cosines(cosines)).look_up(cosines[:3])
    >>> (p_values < 0.05).tolist(), (fdr < 0.05).tolist()
    ([True, True, True], [False, True, True])
    """

    middle: float
    p_values: Floats
    bins: Indices
    fdr: Floats

    @classmethod
    def of(cls, counts: Indices) -> "PairNull":
        """Take the null from all pairs' counts by bin."""
        middle, spread = _measure(counts)
        p_values = (
            2 * ndtr(-np.abs(_z_of(np.arange(N_BINS)) - middle) / spread)
            if spread
            else np.ones(N_BINS)
        )
        bins = np.flatnonzero(counts)
        bins = bins[np.argsort(p_values[bins], kind="stable")]
        # As scipy.stats.false_discovery_control, without the p-values one by one: a genome has
        # 144 million pairs.
        raw = p_values[bins] * counts.sum() / np.cumsum(counts[bins])
        fdr = np.minimum(np.minimum.accumulate(raw[::-1])[::-1], 1)
        return cls(middle, p_values, bins, fdr)

    def look_up(self, cosines: NDArray[np.floating]) -> tuple[Floats, Floats]:
        """Give the p-value and the FDR of each cosine.

        A pair may have been counted a bin beside its own, because products in float32 differ in
        their last digit: so its FDR is looked up from the next bin outwards.
        """
        bins = _bin_of(cosines)
        outer = bins + np.where(_z_of(bins) > self.middle, 1, -1)
        least = self.p_values[np.clip(outer, 0, N_BINS - 1)]
        place = np.searchsorted(self.p_values[self.bins], least)
        return self.p_values[bins], np.append(self.fdr, 1.0)[place]

    def tails(self, max_fdr: float) -> tuple[float, float]:
        """Give the cosines up to which, and from which on, pairs have at most this FDR.

        Infinite where a side has none. They reach a bin further than the FDR says, because
        cosines in float32 differ in their last digit.
        """
        sure = self.bins[self.fdr <= max_fdr]
        low, high = sure[_z_of(sure) <= self.middle], sure[_z_of(sure) > self.middle]
        return (
            float(low.max() + 2) * (2 / N_BINS) - 1 if low.size else -np.inf,
            float(high.min() - 1) * (2 / N_BINS) - 1 if high.size else np.inf,
        )


def count_cosines(cosines: NDArray[np.floating]) -> Indices:
    """Count cosines of any shape by bin.

    Examples
    --------
    >>> counts = count_cosines(np.float32([-1, 0, 1, 1]))
    >>> counts[[0, N_BINS // 2, -1]].tolist()
    [1, 1, 2]
    """
    return np.bincount(_bin_of(cosines.ravel()), minlength=N_BINS)


def count_pairs(cosines: NDArray[np.float32], *, start: int) -> Indices:
    """Count by bin the pairs above the diagonal, of rows `start` and on of a square matrix."""
    stop = start + len(cosines)
    above = np.triu_indices(len(cosines), 1)
    return count_cosines(cosines[:, stop:]) + count_cosines(cosines[:, start:stop][above])


def rank_among(cosines: NDArray[np.float32], counts: Indices) -> Indices:
    """Rank cosines among counted pairs, 1 for the highest; those of one bin share a rank.

    Examples
    --------
    >>> rank_among(np.float32([0.5, -0.5]), count_cosines(np.float32([0.5, 0.1, -0.5])))
    array([1, 3])
    """
    above = counts.sum() - np.cumsum(counts)
    ranks: Indices = above[_bin_of(cosines)] + 1
    return ranks


def _bin_of(cosines: NDArray[np.floating]) -> NDArray[np.int32]:
    # In float32 the sum is exact to a sixteenth of a bin, and this is the scan that costs.
    places = np.asarray(cosines, dtype=np.float32) * np.float32(N_BINS / 2)
    places += np.float32(N_BINS / 2)
    bins = places.astype(np.int32)
    return np.clip(bins, 0, N_BINS - 1, out=bins)


def _measure(counts: Indices) -> tuple[float, float]:
    """Give the median of z over all pairs, and its spread by the quartiles."""
    reached = np.cumsum(counts)
    quarters = np.searchsorted(reached, reached[-1] * np.array([0.25, 0.5, 0.75]))
    low, middle, high = _z_of(quarters).tolist()
    return middle, (high - low) / _QUARTILES_APART if reached[-1] else 0.0


def _z_of(bins: NDArray[np.integer]) -> Floats:
    z: Floats = np.arctanh((bins + 0.5) * (2 / N_BINS) - 1)
    return z
