"""Magnitude: how far a perturbation's replicates lie from the controls."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist, squareform

from phenopipe.benchmark.metric import MapData, Score
from phenopipe.benchmark.replicates import (
    CONTROLS,
    MAX_GROUP,
    UNEXPRESSED,
    compare_by_size,
    compare_with_null,
    each_group,
    in_groups,
    null_perturbations,
    read_controls,
    runs,
    score_table,
)
from phenopipe.config import BenchmarkConfig
from phenopipe.stats import Floats, Indices, finite_rows, group_codes
from phenopipe.stats.energy import mean_distance, mean_distances

# Fewer replicates make the distance between them too unsure (EFAAR_benchmarking).
MIN_REPLICATES = 5

_log = logging.getLogger(__name__)


def replicate_magnitude(
    values: ArrayLike,
    labels: Sequence[str] | NDArray[Any],
    controls: ArrayLike,
    *,
    null: Sequence[str],
) -> pd.DataFrame:
    """Measure each perturbation's energy distance to the controls, and compare with a null.

    As EFAAR_benchmarking (Celik et al. 2024): the p-value is the share of the null's
    perturbations that lie farther from the controls, ``fdr`` is Benjamini & Hochberg's.

    Parameters
    ----------
    values
        One row a replicate, shape (n, d).
    labels
        Its perturbation, shape (n,).
    controls
        Control replicates, shape (m, d).
    null
        Perturbations without an effect, such as unexpressed genes.

    Returns
    -------
    DataFrame
        Indexed by the other perturbations: ``value`` (see
        :func:`phenopipe.stats.energy.energy_distance`), ``n`` replicates, ``p_value``, ``fdr``;
        NaN below five replicates.

    Examples
    --------
    >>> x = np.repeat([[3.0], [1.0], [0.0]], 5, axis=0)
    >>> replicate_magnitude(x, np.repeat(list("abc"), 5), np.zeros((4, 1)), null=["b", "c"])
       value  n  p_value       fdr
    a    6.0  5      0.0  0.333333
    """
    codes, names = group_codes(labels)
    groups = in_groups(codes[codes >= 0], finite_rows(values)[codes >= 0])
    table = _energy_distances(groups, finite_rows(controls), n=len(names))
    table.index = pd.Index(names)
    drawn = table.index.isin(null)
    return compare_with_null(table[~drawn], table.loc[drawn, "value"].to_numpy(), ties="below")


def _energy_distances(
    groups: Iterable[tuple[Indices, Floats]], controls: Floats, *, n: int
) -> pd.DataFrame:
    spread = mean_distance(controls, controls)
    values, counts = np.full(n, np.nan), np.zeros(n, dtype=np.int64)
    for codes, rows in groups:
        to_controls = mean_distances(rows, controls)
        for code, part in runs(codes):
            counts[code] = part.stop - part.start
            if counts[code] >= MIN_REPLICATES:
                own = mean_distance(rows[part], rows[part])
                values[code] = 2 * to_controls[part].mean() - own - spread
    return pd.DataFrame({"value": values, "n": counts})


def control_distances(
    controls: ArrayLike, sizes: Indices, *, n: int, seed: int
) -> dict[int, Floats]:
    """Measure random groups of controls against the other controls, n groups of each size.

    At most half of the controls are taken as a group, and at most 128.

    Examples
    --------
    >>> drawn = control_distances(np.zeros((8, 2)), np.array([2]), n=3, seed=0)
    >>> drawn[2].tolist()
    [0.0, 0.0, 0.0]
    """
    rows, rng = finite_rows(controls), np.random.default_rng(seed)
    distances, m = squareform(pdist(rows)), len(rows)
    to_all, total = distances.sum(axis=1), distances.sum()
    wanted = np.unique(sizes)
    k = np.clip(wanted, 1, min(m // 2, MAX_GROUP))
    found = np.empty((n, len(wanted)))
    for draw in range(n):
        # A random order's first rows are a random group, of any size at once.
        order = rng.permutation(m)[: k.max(initial=1)]
        inside = 2 * np.cumsum(np.tril(distances[np.ix_(order, order)]).sum(axis=1))[k - 1]
        across = np.cumsum(to_all[order])[k - 1] - inside
        outside = total - inside - 2 * across
        found[draw] = 2 * across / (k * (m - k)) - inside / k**2 - outside / (m - k) ** 2
    return {int(size): found[:, number] for number, size in enumerate(wanted)}


class Magnitude:
    """The metric ``magnitude``: mean energy distance to controls; ``magnitude_hits`` at FDR 5%.

    The null is the unexpressed genes where 20 or more are known; otherwise groups of as many
    control wells as the perturbation has replicates, against the other controls.
    """

    name = "magnitude"
    version = 1

    def score(self, data: MapData, config: BenchmarkConfig) -> list[Score]:
        """Score the map's replicates under each correction."""
        if data.wells is None:
            return []
        controls = read_controls(data, seed=config.seed)
        if len(controls) < 2:
            _log.warning("magnitude: fewer than two control wells, nothing to measure from")
            return []
        return [
            score
            for side in data.embeddings
            for score in _score_side(data, side, config, controls=controls)
        ]


def _score_side(
    data: MapData, correction: str, config: BenchmarkConfig, *, controls: Floats
) -> list[Score]:
    replicates = each_group(data, correction, least=MIN_REPLICATES)
    table = _energy_distances(replicates, controls, n=len(data.labels))
    table.index = pd.Index(data.labels)
    drawn = null_perturbations(data, table["value"].notna().to_numpy())
    if drawn.any():
        null = table.loc[drawn, "value"].to_numpy()
        compared = compare_with_null(table[~drawn], null, ties="below")
        mean = float(null.mean())
    else:
        known = table[table["value"].notna()]
        sizes = known["n"].to_numpy()
        groups = control_distances(controls, sizes, n=config.n_null, seed=config.seed)
        compared, mean = compare_by_size(known, groups, ties="below")
    return score_table(
        compared,
        data,
        config,
        source=UNEXPRESSED if drawn.any() else CONTROLS,
        correction=correction,
        null=mean,
        parameters={
            "n_null": int(drawn.sum()) if drawn.any() else config.n_null,
            "n_controls": len(controls),
            "min_replicates": MIN_REPLICATES,
        },
    )
