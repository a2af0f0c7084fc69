"""A torch module becomes a model: its graph, its card, and what the original made of some crops."""

import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phenopipe.errors import InputError
from phenopipe.models.candidate import Candidate, RealCrops
from phenopipe.models.card import Card, Precision, build_card, read_entries
from phenopipe.models.crop_model import PRECISIONS, CropModel, nn, torch
from phenopipe.models.export import export_onnx
from phenopipe.models.openphenom import CROP, load_openphenom
from phenopipe.models.parity import Crops, Reference, draw_all
from phenopipe.models.precision import convert_precision
from phenopipe.models.vit import MAX_CHANNELS, Output

_OPENPHENOM: Mapping[str, Any] = {
    "name": "openphenom",
    "version": "1",
    "dtype": "uint16",
    "channels": "any",
    "max_channels": MAX_CHANNELS,
    "crop": CROP,
    "licence": "non-commercial (OpenPhenom's own)",
}

_WIDTHS = ("output_width", "channel_width", "channel_features")
# What only the finished graph can tell.
_MADE_HERE = ("digest", "parity", "providers", "precision")


def convert_openphenom(
    checkpoint: Path,
    *,
    output: Output = "pooled",
    precision: Precision | None = None,
    name: str | None = None,
    version: str | None = None,
    real: RealCrops,
) -> Candidate:
    """Convert the published OpenPhenom-S/16 checkpoint.

    Parameters
    ----------
    checkpoint
        The folder of ``model.safetensors``, or that file.
    name
        By default ``openphenom``, with the output and precision where these are not the usual.

    Raises
    ------
    InputError
        If the file is missing, damaged, or of another model.
    """
    marks = ["channelwise"] if output == "channelwise" else []
    entries = {**_OPENPHENOM, "name": "-".join([_OPENPHENOM["name"], *marks])}
    module = load_openphenom(checkpoint, output=output)
    return convert_module(
        module, _choose(entries, precision, name, version), real=real, where=checkpoint
    )


def convert_factory(
    source: str,
    card: Path,
    *,
    precision: Precision | None = None,
    name: str | None = None,
    version: str | None = None,
    real: RealCrops,
) -> Candidate:
    """Convert the torch module that a factory gives: ``package.module:factory``.

    Parameters
    ----------
    card
        A ``card.json``; digest, parity, providers and, where it is not said, width are found.
    name
        By default the card's, with the precision where it is not float32.

    Raises
    ------
    InputError
        If there is no such factory, the card is not as it should be, or the module cannot be
        exported.
    """
    if not card.is_file():
        raise InputError(f"expected a card at {card}, found none: write one (docs/own-model.md)")
    entries = read_entries(card.read_bytes(), where=card)
    chosen = _choose(entries, precision, name, version)
    return convert_module(import_module(source), chosen, real=real, where=card)


def import_module(source: str) -> nn.Module:
    """Make the torch module that a factory gives: ``package.module:factory``.

    Raises
    ------
    InputError
        If there is no such module or factory, or what it gives is no torch module.
    """
    name, _, factory = source.partition(":")
    try:
        found = getattr(importlib.import_module(name), factory)()
    except Exception as error:
        raise InputError(
            f"expected a factory without arguments at {source}, found {type(error).__name__}: "
            f"{error}: give package.module:function of what Python can import here"
        ) from error
    if not isinstance(found, nn.Module):
        raise InputError(
            f"expected a torch module from {source}, found {type(found).__name__}: return a "
            "torch.nn.Module that takes crops (n, c, y, x) and gives (n, d)"
        )
    return found


def convert_module(
    module: nn.Module, entries: Mapping[str, Any], *, real: RealCrops, where: object
) -> Candidate:
    """Export a module with its card, and keep what it makes of random and of real crops.

    Parameters
    ----------
    module
        Takes counts ``(n, c, y, x)`` as float32, gives ``(n, d)``.
    entries
        Of the card; its digest and, where it is not said, its width are found here.
    real
        Finds real crops for the card.
    where
        Where the entries come from, for messages.

    Raises
    ------
    InputError
        If an entry of the card is not as it should be, the module does not take such crops, or
        it cannot be exported.
    """
    said = {**entries, "digest": "0" * 64}
    has_width = any(said.get(name) for name in _WIDTHS)
    draft = build_card(said if has_width else {**said, "output_width": 1}, where=where)
    crops = draw_all(draft) | dict(real(draft))
    module.eval()
    references = [Reference(what, some, _run(module, some)) for what, some in crops.items()]
    if not has_width:
        said |= _measure_width(references)
    content = _export(module, draft)
    said["digest"] = hashlib.sha256(content).hexdigest()
    return Candidate(content, build_card(said, where=where), tuple(references))


def _choose(
    entries: Mapping[str, Any], precision: Precision | None, name: str | None, version: str | None
) -> dict[str, Any]:
    said = {entry: value for entry, value in entries.items() if entry not in _MADE_HERE}
    said["precision"] = precision or entries.get("precision", "fp32")
    if precision not in {None, "fp32"}:
        said["name"] = f"{said.get('name')}-{precision}"
    given = {"name": name, "version": version}
    return said | {entry: value for entry, value in given.items() if value is not None}


def _run(module: nn.Module, crops: Crops) -> npt.NDArray[np.float32]:
    try:
        with torch.inference_mode():
            found = module(torch.from_numpy(crops.astype(np.float32)))
        vectors = np.asarray(found.float().numpy())
    except Exception as error:
        raise InputError(
            f"expected a module that takes crops {crops.shape} as float32, found "
            f"{type(error).__name__}: {error}: correct the card or the module"
        ) from error
    if vectors.ndim != 2 or len(vectors) != len(crops):
        raise InputError(
            f"expected embeddings (n, d) from the module for crops {crops.shape}, found "
            f"{vectors.shape}: return one vector a crop"
        )
    return vectors


def _measure_width(references: list[Reference]) -> dict[str, int]:
    widths = {one.crops.shape[1]: one.embeddings.shape[1] for one in references}
    if len(set(widths.values())) == 1:
        return {"output_width": next(iter(widths.values()))}
    each = {divmod(width, channels) for channels, width in widths.items()}
    if len(each) == 1 and (found := each.pop())[1] == 0:
        return {"channel_width": found[0]}
    raise InputError(
        f"expected embeddings of one width, or of one a channel, found {widths} (by channels): "
        "choose another output of the module"
    )


def _export(module: nn.Module, card: Card) -> bytes:
    n_channels = len(card.channels) if isinstance(card.channels, tuple) else card.channels
    wanted: dict[str, Any] = {
        "dtype": card.dtype,
        "channels": "any" if card.free_channels else n_channels,
        "crop": card.crop,
    }
    if isinstance(module, CropModel) and card.precision in PRECISIONS:
        return export_onnx(module, **wanted, precision=card.precision)
    # A module that standardises within itself must do so in float32: fp16 ends at 65504 counts.
    whole = module if isinstance(module, CropModel) else CropModel(nn.Identity(), module)
    return convert_precision(export_onnx(whole, **wanted), card.precision)
