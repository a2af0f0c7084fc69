"""Where genes lie, and whether a cell expresses them."""

import csv
import gzip
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import gaussian_kde

from phenopipe.errors import InputError

# A gene below this is not expressed (Hart et al. 2013).
UNEXPRESSED_BELOW = -3.0

# A peak of the density counts from this share of the highest on; lower ones are ripples.
_LEAST_PEAK = 0.2
_GRID = 1024


@cache
def chromosome_arms() -> Mapping[str, str]:
    """Read the chromosome arm of each gene, by its approved symbol.

    Returns
    -------
    Mapping of str to str
        19,140 genes of HGNC (CC0); ``phenopipe/data/README.md`` says which.

    Examples
    --------
    >>> chromosome_arms()["TP53"]
    '17p'
    """
    text = gzip.decompress((files("phenopipe") / "data" / "gene_arms.tsv.gz").read_bytes())
    lines = (line for line in text.decode().splitlines() if not line.startswith("#"))
    rows = csv.DictReader(lines, delimiter="\t")
    return MappingProxyType({row["gene"]: row["arm"] for row in rows})


def find_arm(gene: str) -> str:
    """Find the chromosome arm of a gene; an empty string where it is not known.

    Examples
    --------
    >>> find_arm("OR4D5"), find_arm("not a gene")
    ('11q', '')
    """
    return chromosome_arms().get(gene, "")


def zfpkm(fpkm: ArrayLike) -> NDArray[np.float64]:
    """Standardise expression so that 0 is the peak of the expressed genes.

    With ``x = log2(FPKM)``, per sample: ``mu`` is the mode of the kernel density of x, that of
    the right-hand (expressed) peak; ``U`` is the mean of x above mu; ``sigma = (U - mu) *
    sqrt(pi / 2)``; ``zFPKM = (x - mu) / sigma``. A gene with FPKM 0 gets minus infinity.

    Parameters
    ----------
    fpkm
        Fragments per kilobase and million, ``(genes,)`` or ``(genes, samples)``.

    Returns
    -------
    ndarray
        float64, in the same shape.

    Raises
    ------
    InputError
        If a value is negative or not finite, or a sample has fewer than 3 distinct values
        above 0.

    References
    ----------
    Hart et al. (2013), Finding the active genes in deep RNA-seq gene expression studies,
    BMC Genomics 14:778.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> fpkm = 2 ** rng.normal(4, 2, size=5000)
    >>> bool(abs(zfpkm(fpkm).mean()) < 0.3)
    True
    """
    values = np.asarray(fpkm, dtype=np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise InputError(
            "expected FPKM of 0 or more, found negative or missing values: drop these genes"
        )
    with np.errstate(divide="ignore"):
        x = np.log2(values)
    if x.ndim == 1:
        return _standardise(x)
    return np.column_stack([_standardise(sample) for sample in x.T])


def _standardise(x: NDArray[np.float64]) -> NDArray[np.float64]:
    detected = x[np.isfinite(x)]
    if len(np.unique(detected)) < 3:
        raise InputError(
            f"expected a sample with at least 3 distinct FPKM above 0, found "
            f"{len(np.unique(detected))}: give all genes of a sample, not a few"
        )
    mu = _expressed_mode(detected)
    sigma = (detected[detected > mu].mean() - mu) * np.sqrt(np.pi / 2)
    standardised: NDArray[np.float64] = (x - mu) / sigma
    return standardised


def _expressed_mode(x: NDArray[np.float64]) -> float:
    """Find the right-most peak of the density: silent genes peak to its left."""
    grid = np.linspace(x.min(), x.max(), _GRID)
    density = gaussian_kde(x)(grid)
    inner = density[1:-1]
    is_peak = (inner > density[:-2]) & (inner >= density[2:])
    is_peak &= inner >= _LEAST_PEAK * density.max()
    return float(grid[1:-1][is_peak][-1]) if is_peak.any() else float(grid[density.argmax()])


def unexpressed(zfpkm_mean: ArrayLike) -> NDArray[np.bool_]:
    """Tell which genes are silent: mean zFPKM over samples below -3; unknown (nan) is not silent.

    Examples
    --------
    >>> unexpressed([-4.2, -3.0, 0.3, float("nan")])
    array([ True, False, False, False])
    """
    silent: NDArray[np.bool_] = np.asarray(zfpkm_mean, dtype=np.float64) < UNEXPRESSED_BELOW
    return silent
