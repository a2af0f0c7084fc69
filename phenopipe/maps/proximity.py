"""Proximity bias: genes on one chromosome arm look alike. Measured, and corrected.

A CRISPR cut can take the rest of its chromosome arm with it, so knock-outs of neighbouring genes
share a phenotype that says nothing of the genes themselves (Lazar et al. 2024, "High-resolution
genome-wide mapping of chromosome-arm-scale truncations induced by CRISPR-Cas9 editing").
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phenopipe.errors import InputError
from phenopipe.stats import compare_groups, group_codes

Embeddings = TypeVar("Embeddings", NDArray[Any], pd.DataFrame)
Labels = Sequence[object] | NDArray[Any]


def proximity_bias(embeddings: ArrayLike | pd.DataFrame, arms: Labels) -> pd.DataFrame:
    """Test whether genes are more alike within a chromosome arm than between arms.

    Brunner-Munzel test of the cosines within an arm against those of its genes to genes of other
    arms, per arm and over the genome (Lazar et al. 2024). Pairs share genes, so the p-values of
    large maps are far too small: read the probability first.

    Parameters
    ----------
    embeddings
        One row a gene, shape (n, d).
    arms
        Each gene's chromosome arm, such as ``17p``; genes with an empty or missing arm are left
        out.

    Returns
    -------
    DataFrame
        Indexed by arm, plus ``genome``, where each pair counts once: ``statistic``,
        ``probability`` (within > between, half the ties; 0.5 without bias), one-sided
        ``p_value``, ``n_within``, ``n_between`` and ``p_bonferroni``, over the arms tested.
        An arm with one gene has no pairs and NaN; with two, a probability only.

    Raises
    ------
    InputError
        If there is not one arm a row, or a value is not finite.

    Examples
    --------
    >>> x = np.array([[1, 0.1], [1, 0], [0.9, 0.1], [0.1, 1], [0, 1], [-1, 0.5]])
    >>> proximity_bias(x, ["1p", "1p", "1p", "2q", "2q", ""]).loc["1p", ["probability", "n_within"]]
    probability    1.0
    n_within       3.0
    Name: 1p, dtype: float64
    """
    table = compare_groups(embeddings, arms)
    tested = int(table.p_value.drop("genome").notna().sum())
    corrected = (table.p_value * tested).clip(upper=1)
    corrected["genome"] = table.p_value["genome"]
    return table.assign(p_bonferroni=corrected)


def correct_arms(
    embeddings: Embeddings, arms: Labels, reference: ArrayLike, min_reference: int = 20
) -> Embeddings:
    """Subtract from each gene the mean of its arm's unexpressed genes (Lazar et al. 2024).

    A gene that is not expressed has no phenotype of its own: what the unexpressed genes of an
    arm share is the arm's.

    Parameters
    ----------
    embeddings
        One row a gene, shape (n, d).
    arms
        Each gene's chromosome arm; genes with an empty or missing arm are left as they are.
    reference
        True for the unexpressed genes, shape (n,).
    min_reference
        An arm is corrected where it has more unexpressed genes than this.

    Returns
    -------
    ndarray or DataFrame
        A corrected copy, as what was given. :func:`arm_report` says which arms were corrected.

    Raises
    ------
    InputError
        If there is not one arm and one reference flag a row.

    Examples
    --------
    >>> x = np.array([[1.0, 5.0], [3.0, 5.0], [4.0, 4.0]])
    >>> correct_arms(x, ["1p", "1p", "2q"], reference=[True, True, False], min_reference=1)
    array([[-1.,  0.],
           [ 1.,  0.],
           [ 4.,  4.]])
    """
    corrected = np.array(embeddings, copy=True)
    if not np.issubdtype(corrected.dtype, np.floating):
        corrected = corrected.astype(np.float64)
    codes, names = group_codes(arms)
    unexpressed = _check_reference(reference, n_arms=len(codes), n_rows=len(corrected))
    for code in range(len(names)):
        members = codes == code
        shared = members & unexpressed
        if shared.sum() > min_reference:
            corrected[members] -= corrected[shared].mean(axis=0, dtype=np.float64)
    if isinstance(embeddings, pd.DataFrame):
        return pd.DataFrame(corrected, index=embeddings.index, columns=embeddings.columns)
    return corrected


def arm_report(
    arms: Labels, reference: ArrayLike, min_reference: int = 20
) -> list[dict[str, str | int | bool]]:
    """Say of each arm whether :func:`correct_arms` corrects it, and why not.

    Returns
    -------
    list of dict
        One an arm, by name: ``arm``, ``n_genes``, ``n_reference``, ``corrected`` and ``why``,
        empty where it is corrected. Genes without an arm are the last, as arm ``""``.

    Examples
    --------
    >>> arm_report(["1p", "1p", "2q"], [True, True, False], min_reference=1)[1]
    {'arm': '2q', 'n_genes': 1, 'n_reference': 0, 'corrected': False, 'why': '0 unexpressed \
genes, needs more than 1'}
    """
    codes, names = group_codes(arms)
    unexpressed = _check_reference(reference, n_arms=len(codes), n_rows=len(codes))
    report: list[dict[str, str | int | bool]] = []
    for code, name in [*enumerate(names), (-1, "")]:
        n_genes = int((codes == code).sum())
        n_reference = int(((codes == code) & unexpressed).sum())
        enough = code >= 0 and n_reference > min_reference
        why = f"{n_reference} unexpressed genes, needs more than {min_reference}"
        if code < 0:
            why = "no arm is known"
        if n_genes:
            report.append(
                {
                    "arm": name,
                    "n_genes": n_genes,
                    "n_reference": n_reference,
                    "corrected": enough,
                    "why": "" if enough else why,
                }
            )
    return report


def _check_reference(reference: ArrayLike, *, n_arms: int, n_rows: int) -> NDArray[np.bool_]:
    flags = np.asarray(reference)
    if flags.dtype != np.bool_ or not n_arms == len(flags) == n_rows:
        raise InputError(
            f"expected one arm and one true-or-false reference flag a row, found {n_arms} arms "
            f"and {len(flags)} flags ({flags.dtype}) for {n_rows} rows"
        )
    return flags
