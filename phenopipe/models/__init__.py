"""Models: a card, an ONNX graph, a session that runs it, and where a lake keeps them."""

from phenopipe.models.card import Card
from phenopipe.models.classical import build_classical, classical_card
from phenopipe.models.registry import (
    add_model,
    ensure_classical,
    find_model,
    list_models,
    publish_model,
)
from phenopipe.models.session import Session, open_session

__all__ = [
    "Card",
    "Session",
    "add_model",
    "build_classical",
    "classical_card",
    "ensure_classical",
    "find_model",
    "list_models",
    "open_session",
    "publish_model",
]
