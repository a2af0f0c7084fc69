"""The models of a lake from the shell: list, add, verify, export."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from phenopipe import catalogue
from phenopipe.console import AsJson, Root, show_rows
from phenopipe.errors import InputError
from phenopipe.lake import Lake
from phenopipe.plates import PlateKey

if TYPE_CHECKING:
    from phenopipe.models import Card
    from phenopipe.models.parity import Crops

models = typer.Typer(no_args_is_help=True, help="The models of a lake.")

Providers = Annotated[
    list[str] | None,
    typer.Option("--provider", help="cpu, cuda, tensorrt or openvino; once each for several."),
]

_OPENPHENOM = "openphenom"


@models.command(name="list")
def list_command(root: Root, as_json: AsJson = False) -> None:
    """List the lake's models."""
    from phenopipe.models import list_models

    rows = [_tell(card, as_json=as_json) for card in list_models(Lake(root))]
    show_rows(rows, title="Models", as_json=as_json)


@models.command(name="add")
def add_command(
    source: Annotated[
        str,
        typer.Argument(help="openphenom; a folder with model.onnx and card.json; MODULE:FACTORY."),
    ],
    root: Root,
    checkpoint: Annotated[
        Path | None, typer.Option(help="openphenom: the folder of its model.safetensors.")
    ] = None,
    output: Annotated[
        Literal["pooled", "channelwise"],
        typer.Option(help="openphenom: one vector a crop, or one a channel."),
    ] = "pooled",
    card: Annotated[Path | None, typer.Option(help="MODULE:FACTORY: its card.json.")] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8"] | None,
        typer.Option(help="Convert to this; default: the card's."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Default: the card's, and the precision it is converted to.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Default: the card's.")] = None,
    plate: Annotated[
        str | None,
        typer.Option(help="EXPERIMENT/PLATE of real crops; default: one of the lake that fits."),
    ] = None,
    provider: Providers = None,
) -> None:
    """Publish a model, if it gives what the original gives."""
    real = partial(_find_crops, root=root, plate=plate)
    chosen: dict[str, Any] = {"name": name, "version": version, "precision": precision}
    if source == _OPENPHENOM:
        from phenopipe.models.convert import convert_openphenom

        folder = _require(checkpoint, "--checkpoint")
        made = convert_openphenom(folder, output=output, real=real, **chosen)
    elif Path(source).is_dir():
        from phenopipe.models import read_folder

        if plate is not None and precision is None:
            raise InputError(
                "expected --precision beside --plate for a ready model, found none: what is not "
                "converted is compared with its reference.npz only"
            )
        made = read_folder(Path(source), real=real, **chosen)
    elif ":" in source:
        from phenopipe.models.convert import convert_factory

        # The module is found where the command is given, as with python -m.
        sys.path.insert(0, str(Path.cwd()))
        made = convert_factory(source, _require(card, "--card"), real=real, **chosen)
    else:
        raise InputError(
            f"expected openphenom, a folder with model.onnx and card.json, or MODULE:FACTORY, "
            f"found {source!r}: check the path"
        )
    from phenopipe.models import publish_model

    added = publish_model(
        Lake(root),
        made.content,
        made.card,
        references=made.references,
        providers=tuple(provider or ["cpu"]),
    )
    show_rows([_tell(added, as_json=False)], title="Added")


@models.command(name="verify")
def verify_command(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    root: Root,
    provider: Providers = None,
    as_json: AsJson = False,
) -> None:
    """Read a model again and compare it with its original; exit with 1 where anything fails."""
    from phenopipe.models import verify_model

    checks = verify_model(Lake(root), name, providers=tuple(provider or ["cpu"]))
    show_rows([check.as_row() for check in checks], title=f"Model {name}", as_json=as_json)
    if any(check.outcome == "failed" for check in checks):
        raise typer.Exit(1)


@models.command(name="export")
def export_command(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    root: Root,
) -> None:
    """Copy a model's graph, card and reference out, for another lake."""
    from phenopipe.models import export_model

    card = export_model(Lake(root), name, folder)
    print(f"{card.name} {card.version} in {folder}; licence: {card.licence}")


def _tell(card: "Card", *, as_json: bool) -> dict[str, Any]:
    if as_json:
        return card.model_dump(mode="json")
    from phenopipe.models.parity import worst_parity

    worst = worst_parity(card.parity)
    names = ", ".join(card.channels) if isinstance(card.channels, tuple) else str(card.channels)
    most = f", at most {card.max_channels}" if card.max_channels else ""
    each = f"{card.channel_width} a channel" if card.channel_width else "by features"
    return {
        "model": f"{card.name} {card.version}",
        "channels": names + most,
        "crop": card.crop,
        "width": card.output_width or each,
        "precision": card.precision,
        "licence": card.licence,
        "verified on": ", ".join(name.removesuffix("ExecutionProvider") for name in card.providers),
        "cosine": f"{worst.cosine:.6f}" if worst else "no original",
        "difference": f"{worst.max_abs:.1e}" if worst else "",
    }


def _require(path: Path | None, option: str) -> Path:
    if path is None:
        raise InputError(f"expected {option} PATH for this model, found none: give it")
    return path


def _find_crops(card: "Card", *, root: str, plate: str | None) -> "Mapping[str, Crops]":
    """Cut crops out of the plate that is named, or one that fits; or draw cells where none does."""
    from phenopipe.embed.sample import sample_crops

    lake = Lake(root)
    if plate is not None:
        experiment, _, name = plate.partition("/")
        return {"plate": sample_crops(lake, PlateKey(experiment, name), card)}
    for key in catalogue.list_plates(lake):
        try:
            return {"plate": sample_crops(lake, key, card)}
        except InputError:
            # A plate of other channels or another dtype says nothing of this model.
            continue
    return {"cells": _draw_cells(card)}


def _draw_cells(card: "Card") -> "Crops":
    """Draw crops of cells in as many channels as the model takes."""
    from phenopipe.simulate.crops import draw_crops

    n_channels = min(6, card.max_channels or 6)
    if card.channels != "any":
        n_channels = len(card.channels) if isinstance(card.channels, tuple) else card.channels
    return draw_crops(8, n_channels=n_channels, crop=card.crop, dtype=card.dtype)
