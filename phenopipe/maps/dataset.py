"""The map as one dataset: each perturbation's profile, corrected by arm, and what is known."""

import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from phenopipe.config import MapConfig
from phenopipe.genome import Symbols, locate_genes, shipped_symbols, unexpressed
from phenopipe.maps.aggregate import Profiles
from phenopipe.maps.guides import Agreement
from phenopipe.maps.proximity import arm_report, correct_arms

_log = logging.getLogger(__name__)


def make_dataset(
    profiles: Profiles,
    agreement: Agreement,
    levels: Mapping[str, float],
    config: MapConfig,
    *,
    symbols: Symbols | None = None,
) -> xr.Dataset:
    """Correct the profiles by chromosome arm, and set them beside what is known of each.

    Parameters
    ----------
    profiles
        Perturbations, sorted by label: :func:`phenopipe.maps.aggregate.aggregate_perturbations`.
    agreement
        Of their guides.
    levels
        zFPKM by gene; empty where none is known, and then no arm is corrected.
    symbols
        What genes' names mean and where the genes lie; what the package knows if None.

    Returns
    -------
    Dataset
        As :func:`phenopipe.maps.open_map` gives it. Attributes, as JSON: ``arms``, which arms were
        corrected, and why not; ``symbols``, how many genes' names were found how, or lost.
    """
    rows = profiles.rows
    is_gene = (rows["gene"] != "").to_numpy()
    symbols = symbols or shipped_symbols()
    located = locate_genes(rows["gene"].tolist(), symbols=symbols)
    arms = located["arm"].to_numpy(dtype=object)
    silent = unexpressed(_find_levels(located, levels, symbols))
    raw = profiles.values.astype(np.float32)
    corrected, report = raw, []
    if config.correct == "arms":
        corrected = correct_arms(raw, arms, silent, config.min_reference)
        report = _report_arms(arms[is_gene], silent[is_gene], config, known=bool(levels))
    dims = ("perturbation", "feature")
    variables: dict[str, Any] = {
        "embedding": (dims, corrected),
        "embedding_uncorrected": (dims, raw),
        "arm": ("perturbation", arms),
        "unexpressed": ("perturbation", silent),
    }
    for name in ("gene", "kind", "compound"):
        variables[name] = ("perturbation", _texts(rows[name]))
    for name in ("n_wells", "n_guides"):
        variables[name] = ("perturbation", rows[name].to_numpy(dtype=np.int32))
    variables["concentration_um"] = ("perturbation", rows["concentration_um"].to_numpy(np.float64))
    for name, found in (("agreement", agreement.mean_cosine), ("agreement_p", agreement.p_value)):
        variables[name] = ("perturbation", found.reindex(rows["label"]).to_numpy(np.float64))
    return xr.Dataset(
        variables,
        coords={"perturbation": _texts(rows["label"])},
        attrs={
            "arms": json.dumps(report),
            "symbols": json.dumps(located["how"][is_gene].value_counts().sort_index().to_dict()),
        },
    )


def _find_levels(located: pd.DataFrame, levels: Mapping[str, float], symbols: Symbols) -> pd.Series:
    """Look up each gene as the screen calls it, else by its approved symbol."""
    resolved = ((symbols.resolve(gene)[0], level) for gene, level in levels.items())
    by_symbol = {symbol: level for symbol, level in resolved if symbol}
    as_called: pd.Series = located["gene"].map(dict(levels))
    return as_called.fillna(located["symbol"].map(by_symbol))


def _texts(column: pd.Series) -> NDArray[np.object_]:
    return np.array(column.tolist(), dtype=object)


def _report_arms(
    arms: NDArray[np.object_], silent: NDArray[np.bool_], config: MapConfig, *, known: bool
) -> list[dict[str, str | int | bool]]:
    report = arm_report(arms, silent, config.min_reference)
    if not known:
        report = [{**row, "why": "no gene's expression is known"} for row in report]
    left = [row for row in report if not row["corrected"]]
    if left:
        told = "; ".join(f"{row['arm'] or 'no arm'}: {row['why']}" for row in left[:5])
        _log.warning("%d of %d arms left uncorrected: %s", len(left), len(report), told)
    return report
