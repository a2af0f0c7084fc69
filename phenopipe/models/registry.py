"""A lake's models: ``models/<name>/<version>/`` holds ``model.onnx`` and ``card.json``.

Beside them lies ``reference.npz`` where there is an original model: some crops, and what it made
of them, so that the parity gate can be run again.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from phenopipe.digests import digest_bytes
from phenopipe.errors import InputError
from phenopipe.lake import Lake, Manifest, Recipe, Thing, model_folder
from phenopipe.models.candidate import (
    CARD_FILE,
    GRAPH_FILE,
    REFERENCE_FILE,
    Candidate,
    check_digest,
    read_folder,
)
from phenopipe.models.card import Card, build_card, read_card
from phenopipe.models.classical import build_classical, classical_card
from phenopipe.models.parity import Reference, check_parity, write_references

STAGE_VERSION = 1

# What a card says of where it was measured, and not of the model.
_MEASURED = {"parity", "providers"}


def add_model(lake: Lake, folder: Path) -> Card:
    """Publish the model of a folder that holds ``model.onnx`` and ``card.json``.

    Where it also holds ``reference.npz``, the graph must give what that says.

    Raises
    ------
    InputError
        If a file is missing, or is not what the card says, or the parity gate refuses it.
    """
    found = read_folder(folder)
    return publish_model(lake, found.content, found.card, references=found.references)


def publish_model(
    lake: Lake,
    content: bytes,
    card: Card,
    *,
    references: Sequence[Reference] = (),
    providers: Sequence[str] = ("cpu",),
) -> Card:
    """Publish a model that passes the parity gate; where it is published, nothing happens.

    Parameters
    ----------
    references
        What the original model made of some crops.
    providers
        Those that it is verified on: ``cpu``, ``cuda`` and so on.

    Returns
    -------
    Card
        As published: with the parity figures, and the providers that it was verified on.

    Raises
    ------
    InputError
        If the card is of other bytes, the gate refuses them, or the version is published with
        another card or other bytes: a version never changes.
    """
    thing = model_folder(card.name, card.version)
    if published := _find_same(lake.manifest(thing), card):
        return published
    # Plates that run side by side may publish the same model: the second waits, then finds it.
    with lake.try_lock(Thing(f"{thing.path}.turn"), wait=True):
        manifest = lake.manifest(thing)
        if manifest is None:
            return _write(lake, thing, Candidate(content, card, tuple(references)), providers)
        if published := _find_same(manifest, card):
            return published
    raise InputError(
        f"expected a new version of model {card.name}, found {card.version} published with other "
        "content: give the card another version"
    )


def find_model(lake: Lake, name: str) -> Card:
    """Find the card of a model's newest version.

    Raises
    ------
    InputError
        If no version is published.
    """
    return pick_card(list_models(lake), name, where=lake.root)


def pick_card(cards: Sequence[Card], name: str, *, version: str | None = None, where: str) -> Card:
    """Pick a model's card among a lake's: that of the version, or of the newest if None.

    Raises
    ------
    InputError
        If it is not there.
    """
    versions = {card.version: card for card in cards if card.name == name}
    if not versions:
        found = ", ".join(sorted({card.name for card in cards})) or "none"
        raise InputError(
            f"expected a model {name} in {where}, found {found}: choose one of these, "
            "classical, or add it (phenopipe models add)"
        )
    if version is None:
        return max(versions.values(), key=lambda card: card.release)
    if version not in versions:
        raise InputError(
            f"expected version {version} of model {name} in {where}, found "
            f"{', '.join(versions)}: choose one of these, or add it (phenopipe models add)"
        )
    return versions[version]


def check_card(lake: Lake, card: Card) -> None:
    """Check that a model's card is still the one that was published.

    Raises
    ------
    InputError
        If it was changed since: the gate has not seen what it says now.
    """
    model = model_folder(card.name, card.version)
    published = lake.require(model, remedy="add the model again").files[CARD_FILE]
    if digest_bytes(lake.read_bytes(model, CARD_FILE)) != published:
        raise InputError(
            f"expected {CARD_FILE} of {model} as it was published, found it changed or damaged: "
            "delete the model's folder and manifest and add it again; another card is another "
            "version"
        )


def ensure_classical(lake: Lake) -> Card:
    """Publish the classical features in a lake that does not have them yet."""
    return publish_model(lake, build_classical().SerializeToString(), classical_card())


def list_models(lake: Lake) -> list[Card]:
    """List the cards of a lake's models, by name and version."""
    cards = [read_card(lake.read_bytes(t, CARD_FILE), where=t) for t in lake.published("models")]
    return sorted(cards, key=lambda card: (card.name, card.release))


def export_model(lake: Lake, name: str, folder: Path) -> Card:
    """Copy a model's newest version out, as :func:`add_model` takes it.

    Parameters
    ----------
    folder
        New or empty.

    Raises
    ------
    InputError
        If there is no such model, or the folder holds something.
    """
    card = find_model(lake, name)
    thing = model_folder(card.name, card.version)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"expected a new or empty folder at {folder}, found files: name another")
    folder.mkdir(parents=True, exist_ok=True)
    for file in lake.require(thing, remedy="add the model again").files:
        (folder / file).write_bytes(lake.read_bytes(thing, file))
    return card


def _find_same(manifest: Manifest | None, card: Card) -> Card | None:
    """Read the card that is published, if it is of the same model, wherever it was measured."""
    if manifest is None:
        return None
    published = build_card(manifest.parameters, where=manifest.thing)
    same = published.model_dump(exclude=_MEASURED) == card.model_dump(exclude=_MEASURED)
    return published if same else None


def _verify(candidate: Candidate, providers: Sequence[str]) -> Card:
    """Put a model to the gate on each provider, and write down what was measured."""
    card = candidate.card
    check_digest(candidate.content, card)
    verified = set(card.providers)
    figures: dict[str, float] = {}
    for provider in providers:
        running, measured = check_parity(
            candidate.content, card, candidate.references, provider=provider
        )
        verified.add(running)
        figures = {name: _worse(name, measured, figures) for name in measured}
    changes = {"providers": tuple(sorted(verified)), "parity": figures or None}
    return card.model_copy(update=changes)


def _worse(name: str, one: Mapping[str, float], other: Mapping[str, float]) -> float:
    pick = min if name.startswith("cosine") else max
    return pick(one[name], other.get(name, one[name]))


def _write(lake: Lake, thing: Thing, candidate: Candidate, providers: Sequence[str]) -> Card:
    started = datetime.now(UTC)
    card = _verify(candidate, providers)
    with lake.writing(thing):
        with lake.draft(thing) as folder:
            folder.mkdir()
            (folder / GRAPH_FILE).write_bytes(candidate.content)
            (folder / CARD_FILE).write_text(card.model_dump_json(indent=1))
            if candidate.references:
                kept = write_references(candidate.references)
                (folder / REFERENCE_FILE).write_bytes(kept)
        counts = {"bytes": len(candidate.content)}
        lake.publish(thing, _recipe(card), counts=counts, started=started)
    return card


def _recipe(card: Card) -> Recipe:
    inputs = {"source:model.onnx": card.digest}
    parameters = card.model_dump(mode="json")
    return Recipe("models", STAGE_VERSION, inputs, parameters, model_digest=card.digest)
