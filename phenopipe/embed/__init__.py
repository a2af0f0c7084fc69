"""Embed: plate images become embeddings, one row a crop or a field."""

from phenopipe.embed.crops import crop_field, crop_origins
from phenopipe.embed.field import embed_field
from phenopipe.embed.plan import CropPlan, plan_crops
from phenopipe.embed.plate import embed_plate

__all__ = ["CropPlan", "crop_field", "crop_origins", "embed_field", "embed_plate", "plan_crops"]
