"""A model's card: what its ONNX graph takes and gives, and how it may be used."""

from itertools import combinations
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from phenopipe.errors import InputError


class Card(BaseModel):
    """What one version of a model takes and gives; ``card.json`` beside its ``model.onnx``.

    The graph takes crops ``(n, c, y, x)`` of the card's dtype, in counts as the camera gave
    them, and gives ``(n, width)`` float32.

    Parameters
    ----------
    channels
        Names in the graph's order; or their number, whatever their names; or ``any``.
    crop
        Side of the crops in pixels that the model is meant for.
    output_width
        Values a crop; None where it follows from the names of the features.
    channel_features, pair_features
        Names of the features once a channel, and once a pair of channels, in that order.
    digest
        SHA-256 of ``model.onnx``.
    parity
        Largest differences from the original model, by name; None where there is no original.
    providers
        The execution providers that the model was verified on.

    Examples
    --------
    >>> card = Card(name="mean", version="1", dtype="uint16", channels="any", crop=32,
    ...     channel_features=("mean",), digest="0" * 64, licence="BSD-3-Clause")
    >>> Card.model_validate_json(card.model_dump_json()) == card
    True
    >>> card.feature_names(["DNA", "ER"])
    ('DNA_mean', 'ER_mean')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str = Field(pattern=r"^\d+(\.\d+)*$")
    dtype: Literal["uint8", "uint16"]
    channels: tuple[str, ...] | int | Literal["any"]
    crop: int = Field(ge=16)
    output_width: int | None = Field(None, ge=1)
    channel_features: tuple[str, ...] = ()
    pair_features: tuple[str, ...] = ()
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    licence: str
    parity: dict[str, float] | None = None
    providers: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_width(self) -> Self:
        if (self.output_width is None) == (not self.channel_features):
            raise ValueError("expected either output_width or channel_features")
        return self

    @property
    def release(self) -> tuple[int, ...]:
        """The version as numbers, so that 1.10 comes after 1.9."""
        return tuple(int(part) for part in self.version.split("."))

    def pick_channels(self, labels: list[str], *, where: str) -> list[int]:
        """Find the indices of the model's channels among a plate's.

        Raises
        ------
        InputError
            If the plate lacks a channel that the model needs, or has another number of them.

        Examples
        --------
        >>> card = Card(name="nuclei", version="1", dtype="uint16", channels=("DNA",), crop=32,
        ...     output_width=8, digest="0" * 64, licence="MIT")
        >>> card.pick_channels(["ER", "DNA"], where="HUVEC-1/Plate3")
        [1]
        """
        if self.channels == "any" or self.channels == len(labels):
            return list(range(len(labels)))
        if isinstance(self.channels, int):
            raise InputError(
                f"expected {self.channels} channels in {where} for model {self.name}, found "
                f"{len(labels)} ({', '.join(labels)}): choose a model for these channels"
            )
        missing = [name for name in self.channels if name not in labels]
        if missing:
            raise InputError(
                f"expected channels {', '.join(self.channels)} in {where} for model {self.name}, "
                f"found {', '.join(labels)} ({', '.join(missing)} missing): choose a model for "
                "these channels, or name them so when ingesting"
            )
        return [labels.index(name) for name in self.channels]

    def feature_names(self, channels: list[str]) -> tuple[str, ...]:
        """Name the output's values for these channels; empty where a model's have no names."""
        single = [f"{channel}_{name}" for channel in channels for name in self.channel_features]
        pairs = combinations(channels, 2)
        double = [f"{a}_{b}_{name}" for a, b in pairs for name in self.pair_features]
        return (*single, *double)

    def width(self, n_channels: int) -> int:
        """Count the output's values for so many channels."""
        if self.output_width is not None:
            return self.output_width
        n_pairs = n_channels * (n_channels - 1) // 2
        return n_channels * len(self.channel_features) + n_pairs * len(self.pair_features)
