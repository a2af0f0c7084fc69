"""What determines a plate's embeddings: whether they are published is told from that alone."""

from collections.abc import Mapping

from phenopipe.config import EmbedConfig
from phenopipe.lake import (
    Lake,
    Manifest,
    Recipe,
    Thing,
    model_folder,
    plate_image,
    platemap,
    qc_table,
)
from phenopipe.models import Card, classical_card, list_models, pick_card
from phenopipe.plates import PlateKey

STAGE_VERSION = 2


def choose_card(lake: Lake, model: str, *, version: str | None = None) -> Card:
    """Choose the model that plates are embedded with; nothing is published.

    The classical features can always be chosen: the first plate brings them into the lake.

    Parameters
    ----------
    version
        The newest if None.

    Raises
    ------
    InputError
        If there is no such model or version.
    """
    cards, built = list_models(lake), classical_card()
    if model == built.name and lake.manifest(model_folder(model, built.version)) is None:
        cards.append(built)
    return pick_card(cards, model, version=version, where=lake.root)


def read_inputs(lake: Lake, key: PlateKey) -> dict[Thing, Manifest]:
    """Read the manifests of what a plate's embeddings are made of: its image, QC and platemap.

    Raises
    ------
    InputError
        If one of them is not published.
    """
    remedy = f"run phenopipe ingest on {key} first"
    things = (plate_image(key), qc_table(key), platemap(key))
    return {thing: lake.require(thing, remedy=remedy) for thing in things}


def embed_recipe(inputs: Mapping[Thing, Manifest], card: Card, *, config: EmbedConfig) -> Recipe:
    """Say what determines a plate's embeddings.

    They are published where their manifest has the key of this, and nothing is computed then.

    Parameters
    ----------
    inputs
        The plate's, from :func:`read_inputs`.
    card
        The model's, from :func:`choose_card`.
    """
    crop = config.crop or card.crop
    parameters = {
        "model": card.name,
        "version": card.version,
        "crop": crop,
        "stride": config.stride or crop,
        "edge": config.edge,
        "per": config.per,
        "turns": config.turns,
        "rescale": config.rescale,
        "provider": config.provider,
        "include_failed": config.include_failed,
    }
    keys = {thing.path: manifest.key for thing, manifest in inputs.items()}
    return Recipe("embed", STAGE_VERSION, keys, parameters, model_digest=card.digest)
