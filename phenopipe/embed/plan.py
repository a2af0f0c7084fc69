"""How the fields of a plate become a model's crops, decided once for all of them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from phenopipe.config import Edge, EmbedConfig, Per
from phenopipe.embed.rescale import UNSCALED, Scale, find_scale, read_pixel_size
from phenopipe.errors import InputError
from phenopipe.models import Card


@dataclass(frozen=True)
class CropPlan:
    """What every field of a plate goes through; travels to the workers.

    Attributes
    ----------
    channels
        The plate's channel of each plane that the model sees; None for a plane of zeros.
    names
        What these planes show, in the model's spelling where it names its channels.
    crop, stride
        Side of the crops and step between them, in the model's pixels.
    edge
        What happens at the border; see :func:`~phenopipe.embed.crops.crop_origins`.
    scale
        The resolution level to read, and how its pixels become the model's.
    turns
        Quarter turns over which a crop's vector is averaged: 1 (none) or 4.
    per
        What a vector is of: a ``crop``, or a ``field``, the mean of its crops'.
    """

    channels: tuple[int | None, ...]
    names: tuple[str, ...]
    crop: int
    stride: int
    edge: Edge = "centre"
    scale: Scale = UNSCALED
    turns: int = 1
    per: Per = "crop"

    @property
    def shown(self) -> tuple[int, ...]:
        """The plate's channels that the model sees, in its order."""
        return tuple(index for index in self.channels if index is not None)

    def of_shown(self) -> Self:
        """Give the plan for fields of which only these channels were read.

        Examples
        --------
        >>> plan = CropPlan(channels=(2, None, 0), names=("AGP", "RNA", "DNA"), crop=32, stride=32)
        >>> plan.shown, plan.of_shown().channels
        ((2, 0), (0, None, 1))
        """
        places = iter(range(len(self.channels)))
        renumbered = (None if index is None else next(places) for index in self.channels)
        return replace(self, channels=tuple(renumbered))


def plan_crops(
    card: Card,
    config: EmbedConfig,
    *,
    labels: Sequence[str],
    image: Mapping[str, Any],
    where: str,
) -> CropPlan:
    """Decide how a plate's fields become a model's crops.

    Parameters
    ----------
    labels
        The stains of the plate's channels, in order. One that differs from the model's name for
        a channel only in case, spaces, ``-`` or ``_`` is that channel, where no other is.
    image
        The attributes of a field's group in the plate image; those of all fields are alike.
    where
        What the plate is, for messages.

    Raises
    ------
    InputError
        If the plate lacks channels that the model needs, or the size of its pixels is not known
        or too far from the model's.

    Examples
    --------
    >>> card = Card(name="nuclei", version="1", dtype="uint16", channels=("DNA",), crop=32,
    ...     output_width=8, digest="0" * 64, licence="MIT")
    >>> plan = plan_crops(card, EmbedConfig(), labels=["ER", "dna"], image={}, where="HUVEC-1/P3")
    >>> plan.channels, plan.names, plan.crop, plan.stride
    ((1,), ('DNA',), 32, 32)
    """
    names = card.channels if isinstance(card.channels, tuple) else ()
    labels = _spell_alike(labels, names)
    channels = card.pick_channels(labels, where=where)
    crop = config.crop or card.crop
    return CropPlan(
        channels=tuple(channels),
        names=tuple(
            names[place] if index is None else labels[index] for place, index in enumerate(channels)
        ),
        crop=crop,
        stride=config.stride or crop,
        edge=config.edge,
        scale=_plan_scale(card, config, image, where=where),
        turns=config.turns,
        per=config.per,
    )


def _spell_alike(labels: Sequence[str], names: Sequence[str]) -> list[str]:
    """Spell the plate's labels as the model does, where one can mean only one of its names."""
    spellings = {_fold(name): name for name in names}
    asked = Counter(map(_fold, names))
    found = Counter(map(_fold, labels))
    return [
        spellings[_fold(label)] if found[_fold(label)] == asked[_fold(label)] == 1 else label
        for label in labels
    ]


def _fold(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()


def _plan_scale(card: Card, config: EmbedConfig, image: Mapping[str, Any], *, where: str) -> Scale:
    if card.pixel_size_um is None or not config.rescale:
        return UNSCALED
    pixel_um, levels = read_pixel_size(image)
    if pixel_um is None:
        raise InputError(
            f"expected the size of a pixel in {where}, which model {card.name} was made for "
            f"({card.pixel_size_um:g} um), found none: set embed.rescale=false if the plate's "
            "pixels are of that size, or ingest it with a layout that tells the size"
        )
    return find_scale(pixel_um, wanted_um=card.pixel_size_um, levels=levels, where=where)
