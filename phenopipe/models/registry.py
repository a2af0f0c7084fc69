"""A lake's models: ``models/<name>/<version>/`` holds ``model.onnx`` and ``card.json``."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Recipe, Thing, model_folder
from phenopipe.models.card import Card
from phenopipe.models.classical import build_classical, classical_card
from phenopipe.models.session import open_session

STAGE_VERSION = 1


def add_model(lake: Lake, folder: Path) -> Card:
    """Publish the model of a folder that holds ``model.onnx`` and ``card.json``.

    Raises
    ------
    InputError
        If a file is missing, or is not what the card says.
    """
    for name in ("model.onnx", "card.json"):
        if not (folder / name).is_file():
            raise InputError(f"expected {name} in {folder}, found none: export the model there")
    card = read_card(folder / "card.json")
    publish_model(lake, (folder / "model.onnx").read_bytes(), card)
    return card


def publish_model(lake: Lake, content: bytes, card: Card) -> None:
    """Publish a model's bytes and its card; nothing happens where the same are published.

    Raises
    ------
    InputError
        If the card is of other bytes, they do not load, or the version is published with
        another card or other bytes: a version never changes.
    """
    thing = model_folder(card.name, card.version)
    recipe = _recipe(card)
    if lake.is_current(thing, recipe):
        return
    # Plates that run side by side may publish the same model: the second waits, then finds it.
    with lake.try_lock(Thing(f"{thing.path}.turn"), wait=True):
        published = lake.manifest(thing)
        if published is None:
            _write(lake, thing, content, card)
        elif published.key != recipe.key:
            raise InputError(
                f"expected a new version of model {card.name}, found {card.version} published "
                "with other content: give the card another version"
            )


def find_model(lake: Lake, name: str) -> Card:
    """Find the card of a model's newest version.

    Raises
    ------
    InputError
        If no version is published.
    """
    cards = [card for card in list_models(lake) if card.name == name]
    if not cards:
        found = ", ".join(sorted({card.name for card in list_models(lake)})) or "none"
        raise InputError(
            f"expected a model {name} in {lake.root}, found {found}: choose one of these, "
            "classical, or add it (phenopipe models add)"
        )
    return max(cards, key=lambda card: card.release)


def ensure_classical(lake: Lake) -> Card:
    """Publish the classical features in a lake that does not have them yet."""
    card = classical_card()
    publish_model(lake, build_classical().SerializeToString(), card)
    return card


def list_models(lake: Lake) -> list[Card]:
    """List the cards of a lake's models, by name and version."""
    cards = [_parse_card(lake.read_bytes(t, "card.json"), t) for t in lake.published("models")]
    return sorted(cards, key=lambda card: (card.name, card.release))


def read_card(path: Path) -> Card:
    """Read a card.

    Raises
    ------
    InputError
        Naming the first entry that is not as it should be.
    """
    return _parse_card(path.read_bytes(), path)


def _parse_card(content: bytes, where: object) -> Card:
    try:
        return Card.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        entry = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"expected a model's card in {where}, found {entry}: {first['msg']}: correct the card"
        ) from error


def _check_content(content: bytes, card: Card) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.digest:
        raise InputError(
            f"expected SHA-256 {card.digest[:12]}… of model {card.name}, found {digest[:12]}…: "
            "the card is of another file, export both together"
        )
    session = open_session(content)
    if session.dtype != card.dtype:
        raise InputError(
            f"expected model {card.name} to take {card.dtype} as its card says, found "
            f"{session.dtype}: correct the card"
        )


def _write(lake: Lake, thing: Thing, content: bytes, card: Card) -> None:
    _check_content(content, card)
    started = datetime.now(UTC)
    with lake.writing(thing):
        with lake.draft(thing) as folder:
            folder.mkdir()
            (folder / "model.onnx").write_bytes(content)
            (folder / "card.json").write_text(card.model_dump_json(indent=1))
        counts = {"bytes": len(content)}
        lake.publish(thing, _recipe(card), counts=counts, started=started)


def _recipe(card: Card) -> Recipe:
    inputs = {"source:model.onnx": card.digest}
    parameters = card.model_dump(mode="json")
    return Recipe("models", STAGE_VERSION, inputs, parameters, model_digest=card.digest)
