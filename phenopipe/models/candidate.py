"""A model that the parity gate has not seen yet: as a folder holds it, or converted from that."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from phenopipe.errors import InputError
from phenopipe.models.card import Card, Precision, build_card, read_card
from phenopipe.models.parity import Crops, Reference, check_graph, draw_all, read_references
from phenopipe.models.precision import convert_precision
from phenopipe.models.session import open_session

GRAPH_FILE, CARD_FILE, REFERENCE_FILE = "model.onnx", "card.json", "reference.npz"

# Finds real crops for a card: by where they come from, (n, c, y, x) of the card's dtype.
RealCrops = Callable[[Card], Mapping[str, Crops]]


@dataclass(frozen=True)
class Candidate:
    """A model to be published.

    Attributes
    ----------
    content
        Of ``model.onnx``.
    references
        What the original model made of some crops; none where there is no original.
    """

    content: bytes
    card: Card
    references: tuple[Reference, ...] = ()


def read_folder(
    folder: Path,
    *,
    precision: Precision | None = None,
    name: str | None = None,
    version: str | None = None,
    real: RealCrops | None = None,
) -> Candidate:
    """Read a folder that holds ``model.onnx``, ``card.json`` and, if it has one, ``reference.npz``.

    Parameters
    ----------
    precision
        Convert a float32 graph, which is the original then, beside the reference.
    name, version
        Others than the card's.
    real
        Finds real crops, on which a converted graph is compared too.

    Raises
    ------
    InputError
        If a file is missing or damaged, or the graph cannot be converted.
    """
    for file in (GRAPH_FILE, CARD_FILE):
        if not (folder / file).is_file():
            raise InputError(f"expected {file} in {folder}, found none: export the model there")
    card = read_card((folder / CARD_FILE).read_bytes(), where=folder / CARD_FILE)
    kept = folder / REFERENCE_FILE
    references = read_references(kept.read_bytes(), where=kept) if kept.is_file() else ()
    found = Candidate((folder / GRAPH_FILE).read_bytes(), card, tuple(references))
    if precision not in {None, card.precision}:
        found = _convert(found, precision or "fp32", real)
    given = {"name": name, "version": version}
    changes = {entry: value for entry, value in given.items() if value is not None}
    renamed = build_card(found.card.model_dump() | changes, where=folder / CARD_FILE)
    return replace(found, card=renamed)


def check_digest(content: bytes, card: Card) -> None:
    """Check that a card is of these bytes.

    Raises
    ------
    InputError
        If their digest is another than the card's.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.digest:
        raise InputError(
            f"expected SHA-256 {card.digest[:12]}… of model {card.name}, found {digest[:12]}…: "
            "the card is of another file, export both together"
        )


def _convert(found: Candidate, precision: Precision, real: RealCrops | None) -> Candidate:
    card = found.card
    if card.precision != "fp32":
        raise InputError(
            f"expected a model in fp32 to convert to {precision}, found {card.name} in "
            f"{card.precision}: give the float32 model"
        )
    check_digest(found.content, card)
    check_graph(found.content, card)
    known = {reference.what for reference in found.references}
    more = [one for one in _refer(found.content, card, real) if one.what not in known]
    content = convert_precision(found.content, precision)
    changes = {
        "name": f"{card.name}-{precision}",
        "precision": precision,
        "digest": hashlib.sha256(content).hexdigest(),
        "providers": (),
    }
    return Candidate(content, card.model_copy(update=changes), (*found.references, *more))


def _refer(content: bytes, card: Card, real: RealCrops | None) -> list[Reference]:
    """Take a float32 graph as the original of its conversions."""
    session = open_session(content)
    crops = draw_all(card) | dict(real(card) if real else {})
    return [Reference(what, some, session.embed(some)) for what, some in crops.items()]
