"""Models: a card, an ONNX graph, a session that runs it, and where a lake keeps them."""

from phenopipe.models.candidate import Candidate, read_folder
from phenopipe.models.card import Card
from phenopipe.models.classical import build_classical, classical_card
from phenopipe.models.precision import convert_precision
from phenopipe.models.registry import (
    add_model,
    check_card,
    ensure_classical,
    export_model,
    find_model,
    list_models,
    pick_card,
    publish_model,
)
from phenopipe.models.session import Session, open_session
from phenopipe.models.verify import verify_model

__all__ = [
    "Candidate",
    "Card",
    "Session",
    "add_model",
    "build_classical",
    "check_card",
    "classical_card",
    "convert_precision",
    "ensure_classical",
    "export_model",
    "find_model",
    "list_models",
    "open_session",
    "pick_card",
    "publish_model",
    "read_folder",
    "verify_model",
]
