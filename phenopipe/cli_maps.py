"""`phenopipe map`, its `diff` and `export`, and `phenopipe query`."""

import json
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from phenopipe import compute
from phenopipe.config import Aggregate, Align, ExpressionUnit, override
from phenopipe.console import (
    AsJson,
    MapName,
    Root,
    SettingsFile,
    choose_settings,
    run_each,
    show_rows,
)
from phenopipe.errors import InputError
from phenopipe.lake import Lake, describe_counts

if TYPE_CHECKING:
    import pandas as pd

    from phenopipe.maps.diff import Agreement, MapDiff

maps = typer.Typer(
    invoke_without_command=True, no_args_is_help=True, subcommand_metavar="[COMMAND [ARGS]...]"
)

_DIFF_TABLES = ("perturbations", "pairs")


@maps.callback()
def build(
    context: typer.Context,
    root: Annotated[
        str | None, typer.Option(help="The lake's root: a folder or gs://bucket/prefix.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The map's name.")] = None,
    model: Annotated[str | None, typer.Option(help="The model's name; default: classical.")] = None,
    align: Annotated[
        Align | None, typer.Option(help="How batches are made alike; default: the settings', tvn.")
    ] = None,
    aggregate: Annotated[
        Aggregate | None,
        typer.Option(help="How wells become one profile; default: the settings', mean."),
    ] = None,
    min_cells: Annotated[
        int | None, typer.Option(help="Leave out wells with fewer cells; default: the settings'.")
    ] = None,
    correct: Annotated[
        Literal["arms", "none"] | None,
        typer.Option(help="Of proximity bias; default: the settings', arms."),
    ] = None,
    expression: Annotated[
        Path | None,
        typer.Option(help="A table of zFPKM, FPKM or TPM; default: the platemap's column."),
    ] = None,
    expression_unit: Annotated[
        ExpressionUnit | None,
        typer.Option(help="What its values are, where its columns' names do not say."),
    ] = None,
    symbols: Annotated[
        Path | None,
        typer.Option(help="HGNC's hgnc_complete_set.txt: finds former symbols and aliases."),
    ] = None,
    withdrawn: Annotated[
        Path | None, typer.Option(help="HGNC's withdrawn.txt, beside --symbols.")
    ] = None,
    positions: Annotated[
        Path | None,
        typer.Option(help="A table of gene, chrom, start and end, which gives the arms."),
    ] = None,
    centromeres: Annotated[
        Path | None,
        typer.Option(help="UCSC's, of the same assembly, beside --positions."),
    ] = None,
    settings: SettingsFile = None,
    where: Annotated[
        str | None,
        typer.Option(
            "--compute",
            help="Read plates side by side: threads, local, slurm or a scheduler's address; "
            "default: one by one.",
        ),
    ] = None,
) -> None:
    """Align, correct and aggregate embeddings into a published map; compare and export maps."""
    if context.invoked_subcommand is not None:
        _refuse_before(context)
        return
    from phenopipe.maps import build_map

    folder, chosen = _require(root, "--root ROOT"), _require(name, "--name MAP")
    before = choose_settings(settings).map
    genes = override(
        before.genes,
        expression=expression,
        expression_unit=expression_unit,
        symbols=symbols,
        withdrawn=withdrawn,
        positions=positions,
        centromeres=centromeres,
    )
    config = override(
        before,
        align=align,
        correct=correct,
        aggregate=aggregate,
        min_cells=min_cells,
        genes=genes,
    )
    run = partial(build_map, Lake(folder), name=chosen, model=model or "classical")
    with nullcontext() if where is None else compute.client(where) as client:
        run_each("map", {chosen: partial(run, config=config, client=client)})


@maps.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="The map of before.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The map of after.")],
    root: Root,
    top: Annotated[
        int, typer.Option(min=1, help="Nearest neighbours and strongest pairs that are compared.")
    ] = 10,
    as_json: AsJson = False,
) -> None:
    """Tell what moved between two maps, and what chance gives."""
    from phenopipe.maps.diff import diff_maps

    found = diff_maps(Lake(root), a, b, top=top)
    if as_json:
        facts = {name: value for name, value in vars(found).items() if name not in _DIFF_TABLES}
        facts |= {name: asdict(facts[name]) for name in ("correlation", "overlap")}
        rows = {name: _rows(getattr(found, name)) for name in _DIFF_TABLES}
        print(json.dumps(facts | rows, indent=1))
        return
    _show_diff(found)


@maps.command()
def export(
    root: Root,
    name: MapName,
    out: Annotated[
        str,
        typer.Option(
            "--to", help="A new file: .h5ad for the map; .graphml, .parquet or .csv for its pairs."
        ),
    ],
    max_fdr: Annotated[
        float | None, typer.Option(help="Pairs up to this false discovery rate; default: 0.05.")
    ] = None,
) -> None:
    """Write a map into one file for other tools: AnnData, GraphML, Parquet or CSV."""
    from phenopipe.maps.export import export_map

    counts = export_map(Lake(root), name, out, max_fdr=max_fdr)
    print(f"{describe_counts(counts)} in {out}")


def query(
    root: Root,
    name: MapName,
    perturbation: Annotated[str, typer.Argument(help="A gene or compound of the map.")],
    top: Annotated[int, typer.Option(min=1, help="How many neighbours.")] = 10,
    relation: Annotated[
        str | None, typer.Option(help="Such as gene-compound; default: neighbours of any kind.")
    ] = None,
    opposite: Annotated[
        bool, typer.Option("--opposite", help="The lowest cosines instead of the highest.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List a perturbation's nearest neighbours in a map."""
    from phenopipe.maps import query_map

    side: Literal["alike", "opposite"] = "opposite" if opposite else "alike"
    found = query_map(Lake(root), name, perturbation, top=top, relation=relation, side=side)
    title = f"Most {side} to {found['perturbation'][0]} in {name}"
    # What the title says is no column; a program gets all.
    shown = found if as_json else found.drop_columns(["perturbation", "side"])
    show_rows(shown.to_pylist(), title=title, as_json=as_json)


def _require(value: str | None, option: str) -> str:
    if value is None:
        raise InputError(
            f"expected {option} for `phenopipe map`, found none: give it, or see "
            "`phenopipe map --help`"
        )
    return value


def _refuse_before(context: typer.Context) -> None:
    """Refuse options of the map before a command that would not see them."""
    options = context.command.params
    given = [option.opts[0] for option in options if context.params[str(option.name)] is not None]
    if given:
        command = context.invoked_subcommand
        raise InputError(
            f"expected options of `phenopipe map {command}` after {command}, found "
            f"{', '.join(given)} before it: move them"
        )


def _show_diff(found: "MapDiff") -> None:
    print(
        f"{found.shared:,} perturbations in both; {len(found.lost):,} only in {found.a}"
        f"{_name_some(found.lost)}; {len(found.gained):,} only in {found.b}"
        f"{_name_some(found.gained)}"
    )
    print(_tell("Correlation of cosine profiles", found.correlation))
    print(_tell(f"Overlap of the {found.top} nearest", found.overlap))
    moved = found.perturbations[found.perturbations["fdr"] > 0.05]
    print(f"{len(moved):,} perturbations kept no more of their relations than chance (FDR > 5%)")
    show_rows(_rows(found.perturbations.head(found.top)), title="What moved furthest")
    show_rows(_rows(found.pairs), title="The strongest pairs of either map")


def _rows(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _name_some(names: tuple[str, ...]) -> str:
    if not names:
        return ""
    return f" ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})"


def _tell(what: str, agreement: "Agreement") -> str:
    return (
        f"{what}: mean {agreement.mean:.3f} ({agreement.low:.3f} to {agreement.high:.3f}); "
        f"mismatched {agreement.null_low:.3f} to {agreement.null_high:.3f}"
    )
