"""Embed: plate images become embeddings, one row a crop."""

from phenopipe.embed.crops import crop_field, crop_origins
from phenopipe.embed.plate import embed_plate

__all__ = ["crop_field", "crop_origins", "embed_plate"]
