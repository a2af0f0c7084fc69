"""What a metric is: it takes a map's data and gives rows of the benchmark."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phenopipe.benchmark.annotations import Annotation, Kind
from phenopipe.config import BenchmarkConfig
from phenopipe.errors import InputError
from phenopipe.profiles import WellProfiles
from phenopipe.schema import BENCHMARK
from phenopipe.stats import Floats

ENTRY_POINTS = "phenopipe.metrics"


def _not_known() -> NDArray[Any]:
    return np.empty(0, dtype=object)


@dataclass(frozen=True)
class MapData:
    """A map as metrics see it, n perturbations in one order.

    Attributes
    ----------
    embeddings
        By correction, ``none`` and, where the map is corrected, ``arms``: shape (n, d).
    labels
        Perturbations' names, shape (n,).
    arms
        Their chromosome arms, ``""`` where unknown, shape (n,).
    unexpressed
        Whether the gene is not expressed, so a reference of the arm correction, shape (n,).
    annotations
        Known relationships, clusters and compounds' targets, one a source.
    kinds
        ``gene``, ``compound`` or what else the perturbation is; empty if not known, like what
        follows.
    genes, compounds
        What was perturbed, or with what; ``""`` where there is none.
    concentrations
        In µM, NaN where there is none.
    wells
        The aligned wells, not corrected; None where the map was published without them.
    """

    embeddings: Mapping[str, NDArray[np.floating[Any]]]
    labels: NDArray[Any]
    arms: NDArray[Any]
    unexpressed: NDArray[np.bool_]
    annotations: Sequence[Annotation]
    kinds: NDArray[Any] = field(default_factory=_not_known)
    genes: NDArray[Any] = field(default_factory=_not_known)
    compounds: NDArray[Any] = field(default_factory=_not_known)
    concentrations: NDArray[Any] = field(default_factory=_not_known)
    wells: WellProfiles | None = None

    def sources(self, kind: Kind) -> list[Annotation]:
        """Give the annotations of a kind."""
        return [annotation for annotation in self.annotations if annotation.kind == kind]

    def shift(self, correction: str) -> Floats:
        """Give what a correction takes from each perturbation, wells and all, shape (n, d)."""
        before = np.asarray(self.embeddings["none"], dtype=np.float64)
        return before - np.asarray(self.embeddings[correction], dtype=np.float64)

    def select(self, rows: NDArray[Any]) -> "MapData":
        """Keep some perturbations, by their numbers or a mask, in that order."""
        names = ("labels", "arms", "unexpressed", "kinds", "genes", "compounds", "concentrations")
        values = {name: getattr(self, name) for name in names}
        kept = {name: value[rows] for name, value in values.items() if len(value)}
        embeddings = {side: values[rows] for side, values in self.embeddings.items()}
        return replace(self, embeddings=embeddings, **kept)


@dataclass(frozen=True)
class Score:
    """One row of the benchmark; :data:`phenopipe.schema.BENCHMARK` tells the columns.

    ``low`` and ``high`` bound the 95% interval; ``null`` is the value to expect by chance, with
    a 95% band where labels were shuffled. What is unknown is NaN.

    Attributes
    ----------
    aspect
        Tells a metric's several scores apart: the row's metric is ``<metric>_<aspect>``.
    resamples
        The value in each resample of perturbations, drawn from ``config.seed``: by these two maps
        are compared with an interval and a p-value. Not published.
    units
        What the value is the mean of, by perturbation, where it is a mean of these: for the sign
        test of two maps. Not published.
    """

    source: str
    correction: str
    value: float
    low: float = np.nan
    high: float = np.nan
    null: float = np.nan
    null_low: float = np.nan
    null_high: float = np.nan
    p_value: float = np.nan
    n: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    annotation_digest: str = ""
    aspect: str = ""
    resamples: Floats | None = field(default=None, compare=False, repr=False)
    units: pd.Series | None = field(default=None, compare=False, repr=False)

    def row(self, metric: str) -> dict[str, Any]:
        """Give the score as a row of the metric's table; parameters become JSON."""
        columns = {name: value for name, value in vars(self).items() if name in BENCHMARK.names}
        parameters = json.dumps(dict(self.parameters), sort_keys=True)
        return {"metric": self.name_of(metric), **columns, "parameters": parameters}

    def name_of(self, metric: str) -> str:
        """Give the metric's name with the aspect.

        Examples
        --------
        >>> Score("controls", "none", 0.5, aspect="hits").name_of("consistency")
        'consistency_hits'
        """
        return f"{metric}_{self.aspect}" if self.aspect else metric


class Metric(Protocol):
    """Scores maps. A user's own is an entry point of the group ``phenopipe.metrics``.

    The entry point names a class without arguments, or a function that gives the metric. Scores
    must be the same for the same data and config: draw from ``config.seed``.
    """

    name: str
    version: int

    def score(self, data: MapData, config: BenchmarkConfig) -> list[Score]:
        """Score the map under each of its corrections."""
        ...


def add_entry_points(metrics: Sequence[Metric]) -> list[Metric]:
    """Give the metrics and those that installed packages add, by name.

    Raises
    ------
    InputError
        If two metrics have one name, or one cannot be loaded.
    """
    found = {metric.name: metric for metric in metrics}
    for point in entry_points(group=ENTRY_POINTS):
        try:
            added: Metric = point.load()()
            name, _ = added.name, added.version
        except Exception as error:  # the user's own code: anything may come
            raise InputError(
                f"expected entry point {point.name} = {point.value} ({ENTRY_POINTS}) to give a "
                f"metric with a name and a version, found {error!r}: mend or uninstall its package"
            ) from error
        if name in found:
            raise InputError(f"expected one metric called {name}, found another in {point.value}")
        found[name] = added
    return [found[name] for name in sorted(found)]
