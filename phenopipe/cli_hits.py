"""`phenopipe hits` and `phenopipe rescue`: which perturbations act, which compounds reverse."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import typer

from phenopipe.console import (
    AsJson,
    MapName,
    Root,
    SettingsFile,
    choose_settings,
    show_progress,
    show_rows,
)
from phenopipe.lake import Lake

_Fdr = Annotated[
    float, typer.Option("--fdr", min=0, max=1, help="False discovery rate of what is listed.")
]
_Top = Annotated[int, typer.Option("--top", min=1, help="How many rows, at most.")]

_Rows = list[dict[str, Any]]


def hits(
    root: Root,
    name: MapName,
    fdr: _Fdr = 0.05,
    top: _Top = 20,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """List the perturbations that differ from their negative controls, the strongest first."""
    from phenopipe.hits import call_hits, read_hits

    lake = Lake(root)
    with show_progress(f"hits {name}") as on_progress:
        call_hits(lake, name=name, config=choose_settings(settings).hits, on_progress=on_progress)
    rows: _Rows = read_hits(lake, name).to_pylist()
    for row in rows:
        row["active"] = row["fdr"] is not None and row["fdr"] <= fdr
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    active = sorted((row for row in rows if row["active"]), key=lambda row: -row["effect"])
    show_rows(_without_blank([_tell_hit(row) for row in active[:top]]), title=f"Active in {name}")
    print(
        f"{len(active):,} of {len(rows):,} perturbations and doses differ from their negative "
        f"controls at FDR {fdr:g}"
    )
    _tell_untested(rows)


def rescue(
    root: Root,
    name: MapName,
    disease: Annotated[
        list[str], typer.Option(help="A gene or perturbation of the map; may be given again.")
    ],
    design: Annotated[
        Literal["auto", "on-disease", "alone"],
        typer.Option(help="Compounds on the disease's background, or alone; auto: as platemaps."),
    ] = "auto",
    fdr: _Fdr = 0.05,
    top: _Top = 20,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Rank compounds by how near to health they bring a disease's cells."""
    from phenopipe.hits import rank_rescue, read_rescue

    lake = Lake(root)
    with show_progress(f"rescue {name}") as on_progress:
        rank = partial(rank_rescue, lake, name=name, disease=disease, design=design)
        rank(config=choose_settings(settings).hits, on_progress=on_progress)
    table = read_rescue(lake, name, disease)
    rows: _Rows = sorted(table.to_pylist(), key=_by_design_and_rank)
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    told = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    print(
        f"Disease: {told['disease']}, {told['disease_wells']} wells, Z' {told['z_factor']} between "
        "them and the negative controls along the disease's axis"
    )
    for kind, title in (("on-disease", "Rescue"), ("alone", "Predicted from compounds alone")):
        _show_design([row for row in rows if row["design"] == kind], title, fdr=fdr, top=top)


def _show_design(rows: Sequence[Mapping[str, Any]], title: str, *, fdr: float, top: int) -> None:
    if not rows:
        return
    ranked = [row for row in rows if row["rank"] is not None]
    show_rows(_without_blank([_tell_rescue(row) for row in ranked[:top]]), title=title)
    nearer = sum(row["fdr"] <= fdr for row in ranked)
    print(
        f"{nearer:,} of {len(rows):,} compounds and doses move cells towards health at FDR {fdr:g} "
        "(reversal: 0 diseased, 1 healthy; side effect: 1 is as far off the axis as single "
        "controls lie; distance left: 1 is the disease's own)"
    )
    _tell_untested(rows)


def _tell_hit(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "perturbation": row["perturbation"],
        "compound": row["compound"],
        "dose uM": _blank(row["concentration_um"]),
        "wells": row["n_wells"],
        "effect (95%)": _with_interval(row, "effect"),
        "FDR": row["fdr"],
        "EC50 uM": _tell_curve(row),
    }


def _tell_rescue(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "rank": row["rank"],
        "compound": row["compound"],
        "dose uM": _blank(row["concentration_um"]),
        "wells": row["n_wells"],
        "reversal (95%)": _with_interval(row, "reversal"),
        "side effect": _with_interval(row, "side_effect"),
        "distance left": _with_interval(row, "distance"),
        "FDR": row["fdr"],
        "EC50 uM": _tell_curve(row),
    }


def _without_blank(rows: _Rows) -> _Rows:
    """Leave out columns that say nothing in any row, such as doses in a screen of genes."""
    kept = [name for name in (rows[0] if rows else ()) if any(row[name] != "" for row in rows)]
    return [{name: row[name] for name in kept} for row in rows]


def _with_interval(row: Mapping[str, Any], score: str) -> str:
    return f"{row[score]:.2f} ({row[f'{score}_low']:.2f} to {row[f'{score}_high']:.2f})"


def _tell_curve(row: Mapping[str, Any]) -> str:
    if row["ec50_um"] is None:
        return str(row["curve_why"])
    return f"{row['ec50_um']:.3g} ({row['ec50_low']:.2g} to {row['ec50_high']:.2g})"


def _tell_untested(rows: Sequence[Mapping[str, Any]]) -> None:
    reasons = Counter(row["why"] for row in rows if row["why"])
    for why, count in reasons.most_common():
        print(f"{count:,} not tested: {why}")


def _by_design_and_rank(row: Mapping[str, Any]) -> tuple[bool, float]:
    return row["design"] == "alone", float("inf") if row["rank"] is None else row["rank"]


def _blank(value: float | None) -> float | str:
    return "" if value is None else value
