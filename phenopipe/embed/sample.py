"""Some crops of a published plate as a model sees them: what its parity is measured on."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from phenopipe.arrays import read_array
from phenopipe.config import EmbedConfig
from phenopipe.embed.crops import crop_field, crop_origins
from phenopipe.embed.field import prepare_field
from phenopipe.embed.plan import plan_crops
from phenopipe.errors import InputError
from phenopipe.lake import Lake, plate_image
from phenopipe.models import Card
from phenopipe.plates import PlateKey


def sample_crops(lake: Lake, key: PlateKey, card: Card, *, n: int = 8) -> npt.NDArray[Any]:
    """Cut the middle crop out of one field of each of some wells, spread over the plate.

    Returns
    -------
    ndarray
        At most n crops ``(n, c, y, x)`` of the card's dtype; the same each time.

    Raises
    ------
    InputError
        If the plate is not published, lacks channels that the model needs, has fields smaller
        than a crop, or holds stacks only.
    """
    lake.require(plate_image(key), remedy=f"run phenopipe ingest on {key} first")
    plate = _read_attributes(lake, key)
    wells = [well["path"] for well in plate["ome"]["plate"]["wells"]]
    spread = np.unique(np.linspace(0, len(wells) - 1, n).round().astype(int))
    fields = [field for place in spread if (field := _first_field(lake, key, wells[place]))]
    if not fields:
        raise InputError(
            f"expected fields of one plane in {key}, found z-stacks only: ingest the plate again "
            "with --z max, or one step"
        )
    plan = plan_crops(
        card,
        EmbedConfig(),
        labels=plate["phenopipe"]["channels"],
        image=_read_attributes(lake, key, fields[0]),
        where=str(key),
    )
    crops = []
    for field in fields:
        with lake.fetched(plate_image(key), f"{field}/{plan.scale.level}") as path:
            pixels = read_array(path)
        planes = prepare_field(pixels, plan, dtype=card.dtype, where=f"{key} {field}")
        # A step as wide as the field leaves one crop, in the middle.
        middle = crop_origins(*planes.shape[1:], crop=plan.crop, stride=max(planes.shape))
        crops.append(crop_field(planes, middle, crop=plan.crop))
    return np.concatenate(crops)


def _first_field(lake: Lake, key: PlateKey, well: str) -> str | None:
    """Find a well's first field that is not a stack."""
    images = _read_attributes(lake, key, well)["ome"]["well"]["images"]
    flat = sorted(image["path"] for image in images if image["path"].isdigit())
    return f"{well}/{flat[0]}" if flat else None


def _read_attributes(lake: Lake, key: PlateKey, group: str = "") -> Any:
    content = lake.read_bytes(plate_image(key), f"{group}/zarr.json".lstrip("/"))
    return json.loads(content)["attributes"]
