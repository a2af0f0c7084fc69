"""A model's card: what its ONNX graph takes and gives, and how it may be used."""

import json
from collections.abc import Mapping
from itertools import combinations
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from phenopipe.errors import InputError

Precision = Literal["fp32", "fp16", "bf16", "int8"]


class Card(BaseModel):
    """What one version of a model takes and gives; ``card.json`` beside its ``model.onnx``.

    The graph takes crops ``(n, c, y, x)`` of the card's dtype, in counts as the camera gave
    them, and gives ``(n, width)`` float32.

    Parameters
    ----------
    channels
        Names in the graph's order; or their number, whatever their names; or ``any``.
    max_channels
        The most channels that a graph of ``any`` takes; None where it has no limit.
    missing
        What is done with a named channel that a plate lacks: ``fail``; ``zero``, its plane is
        zeros; ``drop``, it is left out, for graphs whose channel axis is free.
    crop
        Side of the crops in pixels that the model is meant for.
    pixel_size_um
        Size of a pixel that the model is meant for, in micrometres; None where any will do.
    output_width
        Values a crop; None where it follows from the channels.
    channel_width
        Values a channel, one channel after the other; for graphs that give each its own.
    channel_features, pair_features
        Names of the features once a channel, and once a pair of channels, in that order.
    precision
        What the graph computes in; the crops and the embedding are of the same types in all.
    digest
        SHA-256 of ``model.onnx``.
    parity
        Differences from the original model, by name; None where there is no original.
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
    channels: (
        Annotated[tuple[str, ...], Field(min_length=1)]
        | Annotated[int, Field(ge=1)]
        | Literal["any"]
    )
    max_channels: int | None = Field(None, ge=1)
    missing: Literal["fail", "zero", "drop"] = "fail"
    crop: int = Field(ge=16)
    pixel_size_um: float | None = Field(None, gt=0)
    output_width: int | None = Field(None, ge=1)
    channel_width: int | None = Field(None, ge=1)
    channel_features: tuple[str, ...] = ()
    pair_features: tuple[str, ...] = ()
    precision: Precision = "fp32"
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    licence: str
    parity: dict[str, float] | None = None
    providers: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_width(self) -> Self:
        if sum(map(bool, (self.output_width, self.channel_width, self.channel_features))) != 1:
            raise ValueError("expected one of output_width, channel_width and channel_features")
        return self

    @model_validator(mode="after")
    def _check_channels(self) -> Self:
        if self.missing != "fail" and not isinstance(self.channels, tuple):
            raise ValueError(f"expected channels by name where missing is {self.missing}")
        if isinstance(self.channels, tuple) and len(set(self.channels)) < len(self.channels):
            raise ValueError("expected each channel once")
        if self.max_channels is not None and self.channels != "any":
            raise ValueError("expected max_channels only where channels is any")
        return self

    @property
    def release(self) -> tuple[int, ...]:
        """The version as numbers, so that 1.10 comes after 1.9."""
        return tuple(int(part) for part in self.version.split("."))

    @property
    def free_channels(self) -> bool:
        """Whether the graph takes any number of channels, up to :attr:`max_channels`."""
        return self.channels == "any" or self.missing == "drop"

    def pick_channels(self, labels: list[str], *, where: str) -> list[int | None]:
        """Find the indices of the model's channels among a plate's; None for a plane of zeros.

        Raises
        ------
        InputError
            If the plate lacks a channel that the model needs, or has another number of them.

        Examples
        --------
        >>> card = Card(name="nuclei", version="1", dtype="uint16", channels=("DNA", "RNA"),
        ...     missing="zero", crop=32, output_width=8, digest="0" * 64, licence="MIT")
        >>> card.pick_channels(["ER", "DNA"], where="HUVEC-1/Plate3")
        [1, None]
        """
        if isinstance(self.channels, tuple):
            return self._pick_named(self.channels, labels, where=where)
        wanted = f"{self.channels}"
        if self.channels == "any":
            if self.max_channels is None or len(labels) <= self.max_channels:
                return list(range(len(labels)))
            wanted = f"at most {self.max_channels}"
        elif self.channels == len(labels):
            return list(range(len(labels)))
        raise InputError(
            f"expected {wanted} channels in {where} for model {self.name}, found "
            f"{len(labels)} ({', '.join(labels)}): choose a model for these channels"
        )

    def _pick_named(
        self, names: tuple[str, ...], labels: list[str], *, where: str
    ) -> list[int | None]:
        missing = [name for name in names if name not in labels]
        # A model that sees none of its channels would say the same of every crop.
        if (missing and self.missing == "fail") or len(missing) == len(names):
            raise InputError(
                f"expected channels {', '.join(names)} in {where} for model {self.name}, "
                f"found {', '.join(labels)} ({', '.join(missing)} missing): choose a model for "
                "these channels, or name them so when ingesting"
            )
        picked = [labels.index(name) if name in labels else None for name in names]
        return [index for index in picked if index is not None or self.missing == "zero"]

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
        if self.channel_width is not None:
            return self.channel_width * n_channels
        n_pairs = n_channels * (n_channels - 1) // 2
        return n_channels * len(self.channel_features) + n_pairs * len(self.pair_features)


def read_card(content: bytes, *, where: object) -> Card:
    """Read a card from the content of ``card.json``.

    Raises
    ------
    InputError
        Naming the first entry that is not as it should be.
    """
    return build_card(read_entries(content, where=where), where=where)


def read_entries(content: bytes, *, where: object) -> dict[str, Any]:
    """Read the entries of a ``card.json`` that need not be complete.

    Raises
    ------
    InputError
        If it is not one JSON object.
    """
    try:
        entries = json.loads(content)
    except ValueError as error:
        raise InputError(
            f"expected a model's card in {where}, found {error}: correct the JSON"
        ) from error
    if not isinstance(entries, dict):
        raise InputError(
            f"expected a model's card in {where}, found a {type(entries).__name__}: write one "
            "JSON object"
        )
    return entries


def build_card(entries: Mapping[str, Any], *, where: object) -> Card:
    """Check a card's entries, and make the card.

    Raises
    ------
    InputError
        Naming the first entry that is not as it should be.
    """
    try:
        return Card.model_validate(entries)
    except ValidationError as error:
        first = error.errors()[0]
        entry = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"expected a model's card in {where}, found {entry}: {first['msg']}: correct the card"
        ) from error
