"""The strongest pairs, and each perturbation's neighbours for the page's search box."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from phenopipe.report.sources import read_texts
from phenopipe.report.words import decimals, small

# Neighbours of each perturbation that the page holds; the lake's table may hold more.
N_NEAREST = 10
N_STRONGEST = 30
MAX_FDR = 0.05


@dataclass(frozen=True)
class Link:
    """Two perturbations that are alike."""

    first: str
    second: str
    arms: tuple[str, str]
    cosine: str
    fdr: str

    @property
    def same_arm(self) -> bool:
        """Whether both stand on one arm: then proximity may be why they are alike."""
        return self.arms[0] != "" and self.arms[0] == self.arms[1]


def strongest_links(neighbours: pd.DataFrame, arms: dict[str, str]) -> list[Link]:
    """List the pairs with the highest cosines, each pair once."""
    pairs = _undirected(neighbours)
    ranked = pairs.sort_values(["cosine", "first", "second"], ascending=[False, True, True])
    return [
        Link(
            row["first"],
            row["second"],
            (arms.get(row["first"], ""), arms.get(row["second"], "")),
            decimals(row["cosine"], 3),
            small(row["fdr"]),
        )
        for row in ranked.head(N_STRONGEST).to_dict("records")
    ]


def count_links(neighbours: pd.DataFrame) -> int:
    """Count the listed pairs, each once, whose false discovery rate is at most 5%."""
    return int(_undirected(neighbours)["fdr"].le(MAX_FDR).sum())


def _undirected(neighbours: pd.DataFrame) -> pd.DataFrame:
    alike = neighbours[neighbours["side"] == "alike"]
    ends = np.sort(alike[["perturbation", "neighbour"]].to_numpy(dtype=str), axis=1)
    pairs = alike.assign(first=ends[:, 0].tolist(), second=ends[:, 1].tolist())
    return pairs.sort_values("fdr", kind="stable").drop_duplicates(["first", "second"])


def arms_by_name(dataset: xr.Dataset) -> dict[str, str]:
    """Give each perturbation's arm by its name; empty where unknown."""
    names = read_texts(dataset, "perturbation").tolist()
    return dict(zip(names, read_texts(dataset, "arm").tolist(), strict=True))


def index_neighbours(neighbours: pd.DataFrame, arms: dict[str, str]) -> dict[str, Any]:
    """Pack the nearest neighbours of any kind for the search box: names once, then numbers.

    Returns
    -------
    dict
        ``names`` and ``arms``, sorted by name; ``near``, for each name a list of
        ``[index of the neighbour, cosine, fdr]``, nearest first.
    """
    names = sorted({*neighbours["perturbation"], *neighbours["neighbour"]})
    place = {name: index for index, name in enumerate(names)}
    near: list[list[list[Any]]] = [[] for _ in names]
    alike = neighbours[neighbours["side"] == "alike"]
    ranked = alike.sort_values(["cosine", "neighbour"], ascending=[False, True])
    for row in ranked.groupby("perturbation").head(N_NEAREST).to_dict("records"):
        entry = [place[row["neighbour"]], decimals(row["cosine"], 3), small(row["fdr"])]
        near[place[row["perturbation"]]].append(entry)
    return {"names": names, "arms": [arms.get(name, "") for name in names], "near": near}
