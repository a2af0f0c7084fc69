"""A published map's neighbours of one perturbation."""

import difflib
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from phenopipe.errors import InputError
from phenopipe.lake import Lake, map_part
from phenopipe.schema import NEIGHBOURS, check_table

Side = Literal["alike", "opposite"]


def query_map(
    lake: Lake,
    name: str,
    perturbation: str,
    *,
    top: int = 10,
    relation: str | None = None,
    side: Side = "alike",
) -> pa.Table:
    """List a perturbation's nearest neighbours in a published map, or its most opposite.

    Parameters
    ----------
    lake, name
        The lake and the map in it.
    perturbation
        As the map spells it, in upper or lower case.
    top
        Rows at most, and no more than the map keeps.
    relation
        Only neighbours of this relation, such as ``gene-compound``; of any if None.
    side
        The highest cosines, or the lowest.

    Returns
    -------
    Table
        schema.NEIGHBOURS. Ranks are among the rows that were asked for: of one relation, or all
        together.

    Raises
    ------
    InputError
        If the map is not published, or does not hold the perturbation or the relation: with the
        closest names.
    """
    thing = map_part(name, "neighbours.parquet")
    lake.require(thing, remedy=f"run `phenopipe map --root {lake.root} --name {name}`")
    with lake.fetched(thing) as path:
        table = check_table(pq.read_table(path), NEIGHBOURS, where=thing.path)
    found = _find_name(perturbation, pc.unique(table["perturbation"]).to_pylist(), where=name)
    # A list shorter than the longest holds all there are, so ranks up to there are whole.
    longest = pc.max(table["rank"]).as_py()
    rows = table.filter((pc.field("perturbation") == found) & (pc.field("side") == side))
    if relation is not None:
        rows = rows.filter(pc.field("relation") == _find_relation(relation, rows, where=found))
    order = "descending" if side == "alike" else "ascending"
    nearest = rows.sort_by([("cosine", order), ("neighbour", "ascending")])
    shown = nearest.slice(0, min(top, longest))
    ranks = pa.array(np.arange(1, len(shown) + 1), pa.int32())
    return shown.set_column(shown.column_names.index("rank"), "rank", ranks)


def _find_name(perturbation: str, names: list[str], *, where: str) -> str:
    if perturbation in names:
        return perturbation
    folded: dict[str, list[str]] = {}
    for name in sorted(names):
        folded.setdefault(name.casefold(), []).append(name)
    same = folded.get(perturbation.casefold(), [])
    if len(same) == 1:
        return same[0]
    close = difflib.get_close_matches(perturbation.casefold(), folded, n=3)
    hint = ", ".join(name for key in close for name in folded[key]) or "none that is close"
    raise InputError(
        f"expected a perturbation of the map {where}, found {perturbation!r}: "
        f"the closest names are {hint}"
    )


def _find_relation(relation: str, rows: pa.Table, *, where: str) -> str:
    known = sorted(pc.unique(rows["relation"]).to_pylist())
    turned = "-".join(reversed(relation.split("-")))
    for spelled in (relation, turned):
        if spelled in known:
            return spelled
    raise InputError(
        f"expected a relation that {where} has in the map, {' or '.join(known)}, "
        f"found {relation!r}: choose one of these"
    )
