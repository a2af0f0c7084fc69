"""`phenopipe benchmark` and `phenopipe leaderboard`: how good a map is, and which is the best."""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phenopipe.console import (
    AsJson,
    MapName,
    Root,
    SettingsFile,
    choose_settings,
    run_each,
    show_rows,
)
from phenopipe.lake import Lake, MapRef

if TYPE_CHECKING:
    import pandas as pd


def benchmark(
    root: Root,
    name: MapName,
    annotations: Annotated[Path, typer.Option(help="A folder of known relationships.")],
    against: Annotated[
        str | None, typer.Option(help="Another map, to compare with on the same perturbations.")
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Score a map against what is known, and write its report; or compare it with another map."""
    from phenopipe.benchmark import benchmark_map, compare_maps, read_comparison
    from phenopipe.report import summarise_map, write_report

    lake, config = Lake(root), choose_settings(settings).benchmark
    given: dict[str, Any] = {"name": name, "annotations": annotations, "config": config}
    stages: dict[str, Callable[..., MapRef]] = {
        "scores": partial(benchmark_map, lake, **given),
        "report": partial(write_report, lake, name),
    }
    if against is not None:
        stages[f"against {against}"] = partial(compare_maps, lake, against=against, **given)
    run_each("benchmark", stages)
    for line in summarise_map(lake, name):
        print(line)
    if against is not None:
        compared = read_comparison(lake, name, against)
        # Forty arms would bury the rest: the published table has them.
        arms = compared["metric"].eq("proximity_bias") & compared["source"].ne("genome")
        for metric, table in compared[~arms].groupby("metric", sort=False):
            rows = [_tell_difference(row) for row in _records(table)]
            show_rows(rows, title=f"{_spell(metric)}: {name} less {against}")


def leaderboard(
    root: Root,
    picture: Annotated[
        Path | None, typer.Option(help="Draw it too, into an .svg, .png or .pdf file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rank the lake's scored maps on each metric, the best first."""
    from phenopipe.benchmark import draw_leaderboard, rank_maps

    table = rank_maps(Lake(root))
    if picture is not None:
        draw_leaderboard(table, picture)
    if as_json:
        print(json.dumps(_records(table.astype(object).where(table.notna(), None)), indent=1))
        return
    for (metric, source), ranked in table.groupby(["metric", "source"], sort=False):
        rows = [_tell_rank(row) for row in _records(ranked)]
        show_rows(rows, title=f"{_spell(metric)} on {source}")


def _records(table: "pd.DataFrame") -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _spell(metric: object) -> str:
    return str(metric).replace("_", " ")


def _tell_difference(row: dict[str, Any]) -> dict[str, Any]:
    told = {name: row[name] for name in ("source", "correction")}
    return told | {
        "value": _decimals(row["value"]),
        "other": _decimals(row["other"]),
        "difference [95%]": _interval(row["difference"], row),
        "p": _p_value(row["p_value"]),
        "p, signs": _p_value(row["p_signs"]),
        "n": row["n"],
    }


def _tell_rank(score: dict[str, Any]) -> dict[str, Any]:
    told = {name: score[name] for name in ("rank", "map", "model", "align", "correction")}
    return told | {
        "value [95%]": _interval(score["value"], score),
        "chance": _decimals(score["null"]),
        "n": f"{score['n']:,}",
    }


def _interval(value: float, row: dict[str, Any]) -> str:
    if math.isnan(row["low"]):
        return _decimals(value)
    return f"{_decimals(value)} [{_decimals(row['low'])}, {_decimals(row['high'])}]"


def _decimals(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _p_value(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2g}"
