"""Proximity bias of single genes, along an arm, and by random draws (Lazar et al. 2024)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import false_discovery_control, spearmanr

from phenopipe.errors import InputError
from phenopipe.stats import Floats, Indices, brunner_munzel, compare_rows, labelled_rows

Labels = Sequence[object] | NDArray[Any]


def proximity_by_gene(embeddings: ArrayLike | pd.DataFrame, arms: Labels) -> pd.DataFrame:
    """Test of each gene whether it is more like its arm's genes than like those of other arms.

    Brunner-Munzel test of the gene's cosines to the other genes of its arm against those to the
    genes of all other arms. The cosines of a gene share that gene, so p-values are too small:
    read the probability first.

    Parameters
    ----------
    embeddings
        One row a gene, shape (n, d); the index of a DataFrame is kept.
    arms
        Each gene's chromosome arm; genes with an empty or missing arm get NaN.

    Returns
    -------
    DataFrame
        One row a gene, in order: ``arm``, ``statistic``, ``probability`` (within > between, half
        the ties), one-sided ``p_value``, ``fdr`` (Benjamini & Hochberg 1995, over the genes
        tested), ``n_within``, ``n_between``.

    Raises
    ------
    InputError
        If there is not one arm a row, or a value is not finite.

    Examples
    --------
    >>> x = np.array([[1, 0.1], [1, 0], [0.9, 0.1], [0.1, 1], [0, 1], [-1, 0.5]])
    >>> proximity_by_gene(x, ["1p", "1p", "1p", "2q", "2q", ""]).probability.tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, nan]
    """
    table = compare_rows(embeddings, arms).rename(columns={"group": "arm"})
    tested = table.p_value.notna()
    fdr = np.full(len(table), np.nan)
    if tested.any():
        fdr[tested] = false_discovery_control(table.p_value[tested])
    table.insert(table.columns.tolist().index("p_value") + 1, "fdr", fdr)
    return table.set_index(embeddings.index) if isinstance(embeddings, pd.DataFrame) else table


def proximity_along_arm(
    probability: ArrayLike, arms: Labels, position: ArrayLike, *, min_genes: int = 20
) -> pd.DataFrame:
    r"""Correlate genes' proximity bias with their rank from centromere to telomere, per arm.

    A cut loses what lies beyond it, up to the telomere: the nearer it is to the centromere, the
    more of the arm is lost, so where arms are truncated the correlation is negative. Spearman's
    rank correlation, with the interval of Bonett & Wright (2000): :math:`\tanh(\operatorname
    {artanh} r \pm 1.96 \sqrt{(1 + r^2/2)/(n - 3)})`.

    Parameters
    ----------
    probability
        Each gene's P(within > between) of :func:`proximity_by_gene`, shape (n,).
    arms
        Each gene's arm, ending with ``p`` or ``q``.
    position
        Each gene's position on its chromosome in base pairs, counted from the end of the short
        arm; genes without one (NaN) are left out.
    min_genes
        Arms with fewer genes get NaN (20 in Lazar et al. 2024).

    Returns
    -------
    DataFrame
        Indexed by arm: ``correlation`` (negative: the bias falls towards the telomere), ``low``
        and ``high`` (95%), two-sided ``p_value``, ``p_bonferroni`` over the arms tested, and
        ``n_genes``.

    Raises
    ------
    InputError
        If lengths differ, or an arm ends with neither p nor q.

    Examples
    --------
    >>> falling = np.linspace(0.9, 0.4, 30)
    >>> proximity_along_arm(falling, ["17q"] * 30, np.arange(30)).correlation.round(6)["17q"]
    np.float64(-1.0)
    >>> proximity_along_arm(falling, ["17p"] * 30, np.arange(30)).correlation.round(6)["17p"]
    np.float64(1.0)
    """
    genes = _located(probability, arms, position)
    rows = {}
    for arm, of_arm in genes.groupby("arm"):
        n, found = len(of_arm), (np.nan, np.nan)
        if n >= max(min_genes, 4):
            # p arms are counted towards the centromere.
            outward = of_arm.position * (1 if str(arm).endswith("q") else -1)
            found = spearmanr(outward, of_arm.probability)
        rows[arm] = (found[0], *_bonett_wright(found[0], n), found[1], n)
    columns = ["correlation", "low", "high", "p_value", "n_genes"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("arm")
    corrected = (table.p_value * table.p_value.notna().sum()).clip(upper=1)
    table.insert(4, "p_bonferroni", corrected)
    return table


def _located(probability: ArrayLike, arms: Labels, position: ArrayLike) -> pd.DataFrame:
    given = [
        np.asarray(values) for values in (probability, pd.array(list(arms), dtype=object), position)
    ]
    if len({values.shape for values in given}) > 1:
        raise InputError(
            "expected one probability, arm and position a gene, found "
            f"{', '.join(str(len(values)) for values in given)}"
        )
    genes = pd.DataFrame(dict(zip(("probability", "arm", "position"), given, strict=True)))
    known = genes[genes.arm.notna() & (genes.arm != "")].dropna()
    wrong = known.arm[~known.arm.astype(str).str.endswith(("p", "q"))]
    if len(wrong):
        raise InputError(f"expected arms that end with p or q, found {wrong.iloc[0]!r}")
    return known.astype({"probability": np.float64, "position": np.float64})


def _bonett_wright(correlation: float, n: int) -> tuple[float, float]:
    if np.isnan(correlation):
        return np.nan, np.nan
    reach = ndtri(0.975) * np.sqrt((1 + correlation**2 / 2) / (n - 3))
    with np.errstate(divide="ignore"):
        centre = np.arctanh(correlation)
    return float(np.tanh(centre - reach)), float(np.tanh(centre + reach))


class SampledBias(NamedTuple):
    """P(within > between) by random draws: the mean over trials, its interval, and their spread."""

    probability: float
    low: float
    high: float
    spread: float
    n_genes: int


def sample_proximity(
    embeddings: ArrayLike | pd.DataFrame,
    arms: Labels,
    *,
    n_trials: int = 200,
    n_samples: int = 500,
    min_genes: int = 6,
    seed: int = 0,
) -> SampledBias:
    """Score proximity bias by Monte Carlo, each gene weighing the same (as proxbias does).

    A trial draws genes with replacement and with each another gene of its arm; then genes and
    with each a gene of another arm; and compares the cosines of both. Over all pairs
    (:func:`phenopipe.maps.proximity_bias`) a large arm weighs by the square of its genes; here it
    weighs by its genes, so the two differ where large arms are more biased than small ones.

    Parameters
    ----------
    embeddings
        One row a gene, shape (n, d).
    arms
        Each gene's chromosome arm; genes with an empty or missing arm are left out.
    n_trials, n_samples
        Trials, and pairs of each kind in a trial.
    min_genes
        Arms with fewer genes are left out.
    seed
        Of the draws.

    Returns
    -------
    SampledBias
        ``probability``: mean over the trials; ``low``, ``high``: its 95% interval, which says how
        far the draws leave it uncertain, not the genes; ``spread``: standard deviation of a
        trial; ``n_genes`` drawn from. There is no p-value: one combined over trials would shrink
        as trials are added to the same genes.

    Raises
    ------
    InputError
        If fewer than two arms have enough genes.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(60, 5))
    >>> x[:20] += 1
    >>> found = sample_proximity(x, np.repeat(["1p", "1q", "2p"], 20), seed=1)
    >>> round(found.probability, 2), round(found.high - found.low, 3)
    (0.63, 0.005)
    """
    unit, codes, _ = labelled_rows(embeddings, arms)
    sizes = np.bincount(codes[codes >= 0], minlength=codes.max(initial=0) + 1)
    kept = (codes >= 0) & (sizes[codes] >= min_genes)
    if len(np.unique(codes[kept])) < 2:
        raise InputError(
            f"expected two arms or more with at least {min_genes} genes, found "
            f"{len(np.unique(codes[kept]))} of {np.count_nonzero(sizes)} arms"
        )
    order = np.flatnonzero(kept)[np.argsort(codes[kept], kind="stable")]
    unit, codes = unit[order], codes[order]
    rng = np.random.default_rng(seed)
    found = np.array([_trial(unit, codes, n_samples, rng) for _ in range(n_trials)])
    mean, spread = float(found.mean()), float(found.std(ddof=1))
    reach = float(ndtri(0.975) * spread / np.sqrt(n_trials))
    return SampledBias(mean, mean - reach, mean + reach, spread, len(unit))


def _trial(unit: Floats, codes: Indices, n_samples: int, rng: np.random.Generator) -> float:
    """Draw both kinds of pairs and compare them; rows stand arm after arm."""
    first, other = rng.integers(len(codes), size=(2, n_samples))
    start, stop = (
        np.searchsorted(codes, codes[first]),
        np.searchsorted(codes, codes[first], "right"),
    )
    second = start + rng.integers(stop - start - 1)
    second += second >= first  # over the gene itself
    start, stop = (
        np.searchsorted(codes, codes[other]),
        np.searchsorted(codes, codes[other], "right"),
    )
    elsewhere = rng.integers(len(codes) - (stop - start))
    elsewhere += np.where(elsewhere >= start, stop - start, 0)  # over its arm
    within = np.einsum("ij,ij->i", unit[first], unit[second])
    between = np.einsum("ij,ij->i", unit[other], unit[elsewhere])
    return brunner_munzel(within, between).probability
