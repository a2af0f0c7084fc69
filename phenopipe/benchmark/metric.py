"""What a metric is: it takes a map's data and gives rows of the benchmark."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from phenopipe.benchmark.annotations import Annotation
from phenopipe.config import BenchmarkConfig
from phenopipe.errors import InputError

ENTRY_POINTS = "phenopipe.metrics"


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
        Known relationships, one a source.
    """

    embeddings: Mapping[str, NDArray[np.floating[Any]]]
    labels: NDArray[Any]
    arms: NDArray[Any]
    unexpressed: NDArray[np.bool_]
    annotations: Sequence[Annotation]


@dataclass(frozen=True)
class Score:
    """One row of the benchmark; :data:`phenopipe.schema.BENCHMARK` tells the columns.

    ``low`` and ``high`` bound the 95% interval; ``null`` is the value to expect by chance, with
    a 95% band where labels were shuffled. What is unknown is NaN.
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

    def row(self, metric: str) -> dict[str, Any]:
        """Give the score as a row of the metric's table; parameters become JSON."""
        parameters = json.dumps(dict(self.parameters), sort_keys=True)
        return {"metric": metric, **vars(self), "parameters": parameters}


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
