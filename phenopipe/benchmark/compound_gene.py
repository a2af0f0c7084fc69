"""Compounds and genes: whether a compound's profile looks like its targets' knock-outs."""

import logging
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phenopipe.benchmark.annotations import Annotation
from phenopipe.benchmark.metric import MapData, Score
from phenopipe.benchmark.precision import (
    average_precision,
    expected_average_precision,
    random_average_precisions,
)
from phenopipe.config import BenchmarkConfig
from phenopipe.stats import Floats, Indices, placements, unit_rows
from phenopipe.stats.resample import bootstrap_means, null_p_values, percentile_interval

# A gene is a target of a compound up to this activity in µM; one up to the second is neither a
# target nor a negative (RxRx3-core: Kraus et al. 2025).
ACTIVE_UM = 1.0
INACTIVE_UM = 10.0
MIN_NEGATIVES = 20

# All doses together: the largest |cosine| of any.
MAX = "max"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Doses:
    """One compound of the map: its targets and negatives, and |cosine| to each, dose by dose.

    Attributes
    ----------
    positive, negative
        Shapes (doses, k) and (doses, m).
    doses
        In µM, rising, shape (doses,).
    """

    positive: Floats
    negative: Floats
    doses: Floats

    def rankings(self) -> dict[str, tuple[Floats, Floats]]:
        """Give |cosine| to targets and negatives, at each dose and as the largest of all."""
        of_doses = {
            f"{dose:g} uM": (self.positive[row], self.negative[row])
            for row, dose in enumerate(self.doses.tolist())
        }
        return {MAX: (self.positive.max(axis=0), self.negative.max(axis=0)), **of_doses}


def score_compounds(
    embeddings: ArrayLike,
    compounds: NDArray[Any],
    concentrations: NDArray[Any],
    genes: NDArray[Any],
    activities: pd.DataFrame,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how well |cosine| tells each compound's targets from other genes.

    By the protocol of RxRx3-core (Kraus et al. 2025, "RxRx3-core: Benchmarking drug-target
    interactions in high-content microscopy"): targets are genes with an activity of at most 1 µM;
    genes of more than 1 and at most 10 µM are left out; max(2 x targets, 20) negatives are drawn
    from the other annotated genes of the map. A compound with fewer of these is left out.

    Parameters
    ----------
    embeddings
        One row a perturbation, shape (n, d).
    compounds, concentrations, genes
        What each row is: a compound and its µM, or a gene; ``""`` and NaN otherwise, shape (n,).
    activities
        Columns ``compound``, ``gene``, ``activity_um``; the lowest counts where a pair stands
        several times.
    seed
        Of the negatives, which are drawn for each compound by its name.

    Returns
    -------
    DataFrame
        One row a compound and dose, and one with the dose ``max``: ``compound``, ``dose``,
        ``average_precision``, ``auc``, ``n_targets``, ``n_negatives``.

    Examples
    --------
    >>> x = np.vstack([[5.0, 0.0], np.eye(2)[[0] + [1] * 20]])
    >>> names = np.array([""] + [f"G{i}" for i in range(21)], dtype=object)
    >>> known = pd.DataFrame({"compound": "drug", "gene": names[1:], "activity_um": 50.0})
    >>> known.loc[0, "activity_um"] = 0.1
    >>> compounds, doses = np.where(names == "", "drug", ""), np.where(names == "", 0.5, np.nan)
    >>> table = score_compounds(x, compounds, doses, names, known)
    >>> table[["dose", "average_precision", "auc"]].to_numpy().tolist()
    [['max', 1.0, 1.0], ['0.5 uM', 1.0, 1.0]]
    """
    unit = unit_rows(embeddings)
    found = _rank_genes(unit, compounds, concentrations, genes, activities, seed=seed)
    rows = [
        (compound, dose, *_measure(positive, negative), len(positive), len(negative))
        for compound, doses in found.items()
        for dose, (positive, negative) in doses.rankings().items()
    ]
    measured = ["average_precision", "auc", "n_targets", "n_negatives"]
    return pd.DataFrame(rows, columns=["compound", "dose", *measured])


def _rank_genes(
    unit: Floats,
    compounds: NDArray[Any],
    concentrations: NDArray[Any],
    genes: NDArray[Any],
    activities: pd.DataFrame,
    *,
    seed: int,
) -> dict[str, Doses]:
    wanted = {*activities["gene"]}
    rows_of = {gene: np.flatnonzero(genes == gene) for gene in {*genes} & wanted if gene}
    pool = sorted(rows_of)
    lowest = activities[activities["gene"].isin(pool)].groupby(["compound", "gene"])["activity_um"]
    known = lowest.min().reset_index()
    found = {}
    for compound, table in known.groupby("compound", sort=True):
        rows = np.flatnonzero(compounds == compound)
        chosen = choose_genes(str(compound), table, pool, seed=seed) if len(rows) else None
        if chosen is None:
            continue
        order = rows[np.argsort(concentrations[rows].astype(np.float64), kind="stable")]
        positive, negative = (
            _cosines(unit, order, [rows_of[gene] for gene in side]) for side in chosen
        )
        doses = concentrations[order].astype(np.float64)
        found[str(compound)] = Doses(positive, negative, doses)
    return found


def choose_genes(
    compound: str, activities: pd.DataFrame, pool: list[str], *, seed: int
) -> tuple[list[str], list[str]] | None:
    """Choose a compound's targets, and draw its negatives; None where it has too few of either.

    Parameters
    ----------
    activities
        The compound's rows: ``gene``, each once, and ``activity_um``.
    pool
        Genes that may be chosen, sorted.
    """
    level = activities["activity_um"]
    targets = sorted(activities.loc[level <= ACTIVE_UM, "gene"])
    unclear = {*activities.loc[(level > ACTIVE_UM) & (level <= INACTIVE_UM), "gene"]}
    others = [gene for gene in pool if gene not in unclear and gene not in set(targets)]
    wanted = max(2 * len(targets), MIN_NEGATIVES)
    if not targets or len(others) < wanted:
        return None
    rng = np.random.default_rng([seed, zlib.crc32(compound.encode())])
    drawn = rng.choice(len(others), wanted, replace=False)
    return targets, [others[place] for place in np.sort(drawn)]


def _cosines(unit: Floats, rows: Indices, genes: list[Indices]) -> Floats:
    """Give |cosine| of rows to genes; the largest where a gene has several rows."""
    return np.stack([np.abs(unit[rows] @ unit[gene].T).max(axis=1) for gene in genes], axis=1)


def _measure(positive: Floats, negative: Floats) -> tuple[float, float]:
    precision = float(average_precision(positive[None], negative[None])[0])
    return precision, float(placements(positive, np.sort(negative)).mean())


class CompoundGene:
    """The metric ``compound_gene``: mean average precision and AUC over compounds.

    Rows ``compound_gene_ap`` and ``compound_gene_auc``; the source ``NAME`` takes the largest
    |cosine| of a compound's doses, ``NAME at 1 uM`` one dose.
    """

    name = "compound_gene"
    version = 1

    def score(self, data: MapData, config: BenchmarkConfig) -> list[Score]:
        """Score the map under each correction against each source of compounds' targets."""
        scores: list[Score] = []
        for annotation in data.sources("compound_genes"):
            for correction in data.embeddings:
                table = _score_map(data, annotation, correction, config)
                if table.empty:
                    _log.warning("%s: no compound of the map has targets there", annotation.source)
                    break
                for dose, rows in table.groupby("dose", sort=False):
                    scores += _score_dose(
                        annotation, correction, str(dose), rows.set_index("compound"), data, config
                    )
        return scores


def _score_map(
    data: MapData, annotation: Annotation, correction: str, config: BenchmarkConfig
) -> pd.DataFrame:
    if not len(data.kinds):
        return pd.DataFrame()
    is_compound = data.kinds == "compound"
    return score_compounds(
        data.embeddings[correction],
        np.where(is_compound, data.compounds, ""),
        data.concentrations,
        np.where(is_compound, "", data.genes),
        annotation.table,
        seed=config.seed,
    )


def _score_dose(
    annotation: Annotation,
    correction: str,
    dose: str,
    rows: pd.DataFrame,
    data: MapData,
    config: BenchmarkConfig,
) -> list[Score]:
    every = pd.Index(sorted({*data.compounds} - {""}))
    shared: dict[str, Any] = {
        "source": annotation.source if dose == MAX else f"{annotation.source} at {dose}",
        "correction": correction,
        "n": len(rows),
        "annotation_digest": annotation.digest,
        "parameters": {
            "dose": dose,
            "active_um": ACTIVE_UM,
            "inactive_um": INACTIVE_UM,
            "n_bootstrap": config.n_bootstrap,
            "n_shuffles": config.n_shuffles,
            "seed": config.seed,
        },
    }
    precisions = _summarise(rows["average_precision"], every, config)
    areas = _summarise(rows["auc"], every, config)
    return [
        Score(**shared, **precisions, **_precision_null(rows, config), aspect="ap"),
        Score(**shared, **areas, null=0.5, aspect="auc"),
    ]


def _summarise(values: pd.Series, every: pd.Index, config: BenchmarkConfig) -> dict[str, Any]:
    """Give the mean over compounds; these are resampled with all their doses."""
    resamples = bootstrap_means(
        values.to_numpy(),
        every.get_indexer(values.index)[:, None],
        n=len(every),
        n_bootstrap=config.n_bootstrap,
        seed=config.seed,
    )
    low, high = percentile_interval(resamples)
    mean = float(values.mean())
    return {"value": mean, "low": low, "high": high, "resamples": resamples, "units": values}


def _precision_null(rows: pd.DataFrame, config: BenchmarkConfig) -> dict[str, Any]:
    expected, drawn = np.empty(len(rows)), np.zeros(config.n_shuffles)
    for number, (k, m) in enumerate(zip(rows["n_targets"], rows["n_negatives"], strict=True)):
        expected[number] = expected_average_precision(k, m)
        # A seed a compound: equal ones would give all compounds the same luck.
        drawn += random_average_precisions(k, m, n=config.n_shuffles, seed=config.seed + number)
    means = drawn / len(rows)
    low, high = percentile_interval(means)
    value = rows["average_precision"].mean()
    p_value = float(null_p_values(value, means))
    return {
        "null": float(expected.mean()),
        "null_low": low,
        "null_high": high,
        "p_value": p_value,
    }
