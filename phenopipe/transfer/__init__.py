"""Transfer: send what is published in one lake to another; nothing is computed, nothing lost."""

from phenopipe.transfer.estimate import ASSUMED_RATE, Estimate, add_up, estimate_shipment
from phenopipe.transfer.pace import Pace
from phenopipe.transfer.send import Shipped, send_shipment
from phenopipe.transfer.shipments import (
    Parcel,
    Selection,
    Shipment,
    list_shipments,
    pack_experiment,
    pack_models,
)
from phenopipe.transfer.survey import check_distinct

__all__ = [
    "ASSUMED_RATE",
    "Estimate",
    "Pace",
    "Parcel",
    "Selection",
    "Shipment",
    "Shipped",
    "add_up",
    "check_distinct",
    "estimate_shipment",
    "list_shipments",
    "pack_experiment",
    "pack_models",
    "send_shipment",
]
