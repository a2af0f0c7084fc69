"""Whether a cell expresses a gene: zFPKM of a table of expression, computed or given."""

import re
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import gaussian_kde

from phenopipe.config import ExpressionUnit
from phenopipe.errors import InputError
from phenopipe.genome.tables import read_table

# A gene below this is not expressed (Hart et al. 2013).
UNEXPRESSED_BELOW = -3.0

# A peak of the density counts from this share of the highest on; lower ones are ripples.
_LEAST_PEAK = 0.2
_GRID = 1024

_UNITS: tuple[ExpressionUnit, ...] = get_args(ExpressionUnit)
# In this order, since "fpkm" is a part of "zfpkm".
_UNIT_IN_NAME = re.compile("|".join(_UNITS), re.IGNORECASE)


def read_expression(path: Path | str, *, unit: ExpressionUnit | None = None) -> dict[str, float]:
    """Read a table of expression and give each gene's mean zFPKM over samples.

    The table is a CSV or TSV (also .gz) with a column ``gene`` and one column a sample; or the
    columns ``gene``, ``sample`` and one of values. The unit is that in the names of the columns
    (``zfpkm``, ``fpkm``, ``tpm``, also as in ``tpm_rep1``), or the one asked for; a table that
    does not tell is refused. A column of exactly that name is taken, whatever else there is.

    zFPKM is taken as it is. FPKM and TPM become zFPKM sample by sample, see
    :func:`zfpkm`, so give all genes of a sample; TPM gives the same as FPKM,
    since the two differ by one factor a sample. A gene that a sample did not see (FPKM 0) counts
    in the mean as the lowest that the sample saw: one zero among many samples silences no gene.

    Parameters
    ----------
    path
        The table.
    unit
        What the values are, where the columns' names do not say.

    Returns
    -------
    dict of str to float
        Mean zFPKM by gene, also over the rows of a gene; without genes of which nothing is known.

    Raises
    ------
    InputError
        If the file is not there, the unit is unknown or contradicted, or a value is not a number
        or, as FPKM or TPM, negative.

    References
    ----------
    Hart et al. (2013), BMC Genomics 14:778. Wagner et al. (2012), Theory Biosci. 131:281 (TPM).
    """
    where = str(path)
    if unit is not None and unit not in _UNITS:
        raise InputError(f"expected one of {', '.join(_UNITS)} as unit, found {unit!r}")
    samples = _by_sample(_read(Path(path)), unit, where=where)
    told = _tell_unit([str(name) for name in samples], unit, where=where)
    if told == "zfpkm":
        return _mean_by_gene(samples, where=where)
    levels = {name: _standardise_sample(samples[name], told, where=where) for name in samples}
    return _mean_by_gene(pd.DataFrame(levels, index=samples.index), where=where)


def _read(path: Path) -> pd.DataFrame:
    table = read_table(path, what="a table of expression", texts=("gene",))
    if "gene" not in table or table.shape[1] < 2:
        raise InputError(
            f"expected a column gene and columns of values in {path}, found "
            f"{', '.join(map(str, table.columns))}: name the columns so; .csv is read with commas, "
            "anything else with tabs"
        )
    return table[table["gene"].notna()]


def _by_sample(table: pd.DataFrame, unit: str | None, *, where: str) -> pd.DataFrame:
    """Give a column of values a sample, by gene; a gene may have several rows."""
    values = [name for name in table if name not in {"gene", "sample"}]
    exact = [name for name in values if str(name).lower() in ([unit] if unit else _UNITS)]
    values = exact if len(exact) == 1 else values
    if "sample" not in table:
        return table.set_index("gene")[values]
    if len(values) != 1:
        raise InputError(
            f"expected one column of values beside gene and sample in {where}, found "
            f"{', '.join(map(str, values))}: keep one, or say which unit to take"
        )
    doubled = table[table.duplicated(["gene", "sample"])]
    if len(doubled):
        raise InputError(
            f"expected one row a gene and sample in {where}, found {doubled['gene'].iloc[0]} "
            f"twice in {doubled['sample'].iloc[0]}: keep one"
        )
    wide = table.pivot(index="gene", columns="sample", values=values[0])
    return wide.add_prefix(f"{values[0]} ")


def _tell_unit(columns: list[str], asked: ExpressionUnit | None, *, where: str) -> ExpressionUnit:
    found = (_UNIT_IN_NAME.search(column) for column in columns)
    named = {match[0].lower() if match else "" for match in found}
    shown = ", ".join(columns[:5])
    if asked:
        if named - {"", asked}:
            raise InputError(f"expected {asked} in {where}, found columns named {shown}")
        return asked
    for unit in _UNITS:
        if named == {unit}:
            return unit
    raise InputError(
        f"expected {', '.join(_UNITS)} in the name of each column of values in {where}, and one of "
        f"these, found {shown}: name the columns so, or say which unit it is"
    )


def _standardise_sample(
    values: pd.Series, unit: ExpressionUnit, *, where: str
) -> NDArray[np.float64]:
    levels = parse_levels(values, what=unit, where=where)
    bad = np.flatnonzero((levels < 0) | np.isinf(levels))
    if bad.size:
        raise InputError(
            f"expected {unit} of 0 or more in {where}, found {levels[bad[0]]:g} for "
            f"{values.index[bad[0]]} in {values.name}: give {unit} itself, not its logarithm"
        )
    known = ~np.isnan(levels)
    levels[known] = zfpkm(levels[known])
    levels[np.isneginf(levels)] = levels[np.isfinite(levels)].min()
    return levels


def _mean_by_gene(levels: pd.DataFrame, *, where: str) -> dict[str, float]:
    samples = [parse_levels(levels[name], what="zfpkm", where=where) for name in levels]
    genes = np.tile(levels.index.to_numpy(dtype=object), len(samples))
    means = pd.Series(np.concatenate(samples)).groupby(genes).mean().dropna()
    return {str(gene): float(level) for gene, level in means.items()}


def parse_levels(values: pd.Series, *, what: str, where: str) -> NDArray[np.float64]:
    """Read values as numbers; empty and missing ones become NaN.

    Parameters
    ----------
    what, where
        What the numbers are and where they stand, for messages.

    Raises
    ------
    InputError
        If something else stands there.

    Examples
    --------
    >>> parse_levels(pd.Series(["-3.5", "", None]), what="zfpkm", where="here")
    array([-3.5,  nan,  nan])
    """
    texts = values.astype(object).where(values.notna() & (values != ""), None)
    numbers = pd.to_numeric(texts, errors="coerce")
    bad = texts[numbers.isna() & texts.notna()]
    if len(bad):
        raise InputError(f"expected numbers as {what} in {where}, found {bad.iloc[0]!r}")
    return numbers.to_numpy(dtype=np.float64, copy=True)


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
