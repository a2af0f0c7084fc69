"""How much there is to embed of a plate, as far as its manifests and first field tell."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from phenopipe.config import EmbedConfig
from phenopipe.embed.crops import crop_origins
from phenopipe.embed.plan import CropPlan, plan_crops
from phenopipe.embed.reading import FieldShape, read_field_shape
from phenopipe.embed.rescale import Scale, rescale_sides
from phenopipe.lake import Lake, Manifest, Thing, plate_image, qc_table
from phenopipe.models import Card
from phenopipe.plates import PlateKey


@dataclass(frozen=True, slots=True)
class Workload:
    """What it takes to embed one plate.

    Attributes
    ----------
    fields
        Those that are embedded: without those that failed QC, unless these are asked for.
    crops, crop
        The crops that the model sees, and their side in pixels.
    rows
        Rows of the table: the crops, or the fields.
    bytes_read
        Pixels of the channels and resolution level that are read, before compression.
    bytes_written
        Vectors, before compression.
    """

    fields: int
    crops: int
    crop: int
    rows: int
    bytes_read: int
    bytes_written: int


def estimate_workload(
    lake: Lake,
    key: PlateKey,
    inputs: Mapping[Thing, Manifest],
    card: Card,
    *,
    config: EmbedConfig,
) -> Workload:
    """Estimate what it takes to embed a plate, taking its fields to be like the first.

    Parameters
    ----------
    inputs
        The plate's, from :func:`~phenopipe.embed.read_inputs`.

    Raises
    ------
    InputError
        If the plate cannot be embedded with this model and these settings.
    """
    field = read_field_shape(lake, inputs[plate_image(key)])
    plan = plan_crops(card, config, labels=field.channels, image=field.image, where=str(key))
    fields = _count_fields(key, inputs, include_failed=config.include_failed)
    crops = fields * _count_crops(field, plan)
    rows = crops if plan.per == "crop" else fields
    return Workload(
        fields=fields,
        crops=crops,
        crop=plan.crop,
        rows=rows,
        bytes_read=fields * _count_bytes(field, plan),
        bytes_written=rows * card.width(len(plan.channels)) * np.dtype(np.float32).itemsize,
    )


def _count_fields(key: PlateKey, inputs: Mapping[Thing, Manifest], *, include_failed: bool) -> int:
    failed = inputs[qc_table(key)].counts.get("fields_failed_qc", 0)
    return inputs[plate_image(key)].counts.get("fields", 0) - (0 if include_failed else failed)


def _count_crops(field: FieldShape, plan: CropPlan) -> int:
    height, width = rescale_sides(field.sides, plan.scale)
    return len(crop_origins(height, width, crop=plan.crop, stride=plan.stride, edge=plan.edge))


def _count_bytes(field: FieldShape, plan: CropPlan) -> int:
    height, width = rescale_sides(field.sides, Scale(level=plan.scale.level))
    return len(plan.shown) * height * width * np.dtype(field.dtype).itemsize
