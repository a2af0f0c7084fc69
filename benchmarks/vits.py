"""The models that are measured: ViTs with random weights, and what one of their crops costs.

Speed does not depend on the values of the weights, and random ones can be made on any machine.
"""
# ruff: noqa: PLC0415 - torch is imported by those who build a model, and by no one else

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from phenopipe.lake import Lake
from phenopipe.models import Card, convert_precision, list_models, publish_model
from phenopipe.models.card import Precision

if TYPE_CHECKING:
    from phenopipe.models.crop_model import CropModel

CROP = 256
PATCH = 16
N_CHANNELS = 6


@dataclass(frozen=True)
class Vit:
    """An encoder of the size S: 384 values a token, 12 blocks, patches of 16 pixels.

    Attributes
    ----------
    channels
        Six: a token is a patch of all channels. Any: it is one of a single channel, as in
        OpenPhenom.
    """

    name: str
    channels: Literal["any"] | int
    width: int = 384
    depth: int = 12

    @property
    def tokens(self) -> int:
        """Tokens of a crop of six channels, the class token among them."""
        patches = (CROP // PATCH) ** 2
        return 1 + patches * (N_CHANNELS if self.channels == "any" else 1)

    @property
    def flops(self) -> int:
        """Operations in matrix products for one crop of six channels.

        A product of (a, b) and (b, c) takes 2 a b c. With n tokens of width w:

        - to make tokens, each pixel of each channel meets w weights: 2 c y x w;
        - in a block, for each token, q, k, v and their output have 4 w^2 weights, the MLP there
          and back 8 w^2: 24 n w^2;
        - in a block, q k^T and its product with v over all heads: 4 n^2 w.

        Norms, GELU and softmax are no matrix products, and are not counted.
        """
        n, w = self.tokens, self.width
        return 2 * N_CHANNELS * CROP**2 * w + self.depth * (24 * n * w**2 + 4 * n**2 * w)

    def model_name(self, precision: Precision) -> str:
        """Name the model in a lake."""
        return f"{self.name}-{precision}"


VITS = {vit.name: vit for vit in (Vit("vit-s16", N_CHANNELS), Vit("agnostic-s16", "any"))}


def build_module(vit: Vit) -> "CropModel":
    """Build the model in torch, the same weights each time."""
    from phenopipe.models.vit import build_vit

    return build_vit("small", patch=PATCH, channels=vit.channels, crop=CROP, seed=0)


def publish_vit(vit: Vit, lake: Lake, *, precision: Precision, provider: str) -> None:
    """Export the model into a lake, unless it is there; it must run on the provider."""
    name = vit.model_name(precision)
    if any(card.name == name for card in list_models(lake)):
        return
    content = _export(vit, precision)
    card = Card(
        name=name,
        version="1",
        dtype="uint16",
        channels=vit.channels,
        crop=CROP,
        output_width=vit.width,
        precision=precision,
        digest=hashlib.sha256(content).hexdigest(),
        licence="random weights",
    )
    publish_model(lake, content, card, providers=(provider,))


def _export(vit: Vit, precision: Precision) -> bytes:
    from phenopipe.models.export import export_onnx

    if precision == "int8":
        return convert_precision(_export(vit, "fp32"), "int8")
    return export_onnx(build_module(vit), channels=vit.channels, crop=CROP, precision=precision)
