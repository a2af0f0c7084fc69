"""Embed: plate images become embeddings, one row a crop or a field."""

from phenopipe.embed.crops import crop_field, crop_origins
from phenopipe.embed.drain import end_all
from phenopipe.embed.field import embed_field
from phenopipe.embed.plan import CropPlan, plan_crops
from phenopipe.embed.plate import embed_plate
from phenopipe.embed.recipe import choose_card, embed_recipe, read_inputs
from phenopipe.embed.workload import Workload, estimate_workload

__all__ = [
    "CropPlan",
    "Workload",
    "choose_card",
    "crop_field",
    "crop_origins",
    "embed_field",
    "embed_plate",
    "embed_recipe",
    "end_all",
    "estimate_workload",
    "plan_crops",
    "read_inputs",
]
