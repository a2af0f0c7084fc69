"""Encoders of masked autoencoders of microscopy: vision transformers S, B and L, in torch.

Fixed channels: one convolution takes all channels. Channel-agnostic: one convolution of one
channel is shared, and the tokens of the channels stand one channel after another, so that any
number of channels can be given.

References
----------
Kraus et al. (2024), "Masked autoencoders for microscopy are scalable learners of cellular
biology" (the family, and the channel-agnostic encoder); Dehghani et al. (2023), "Scaling vision
transformers to 22 billion parameters" (attention and MLP side by side, norms of q and k).
"""

import math
from typing import Literal

from phenopipe.errors import InputError
from phenopipe.models.crop_model import CropModel, Standardise, Tensor, nn, torch

Output = Literal["pooled", "channelwise"]

# Width, depth and heads. Each head has 64 values.
SIZES = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
PATCHES = (8, 16)

# Channels that the published channel-agnostic encoder was trained with, at most.
MAX_CHANNELS = 11

_EPS = 1e-6
_HEAD = 64


class VitEncoder(nn.Module):
    """Standardised planes ``(n, c, y, x)`` in, embeddings out.

    Parameters are named as in the published checkpoints.

    Parameters
    ----------
    width, depth, heads
        Values a token, blocks, and attention heads of 64 values each.
    patch, crop
        Sides of a patch and of the crops in pixels.
    channels
        Their number, or ``any`` for a channel-agnostic encoder.
    output
        ``pooled``: the mean over all tokens, ``(n, width)``. ``channelwise``: the mean over each
        channel's tokens, one channel after another, ``(n, c * width)``.
    """

    pos_embed: Tensor

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        crop: int,
        channels: int | Literal["any"],
        output: Output = "pooled",
    ) -> None:
        super().__init__()
        _check_shape(patch=patch, crop=crop, channels=channels, output=output)
        self.channels, self.crop, self.output, self.heads = channels, crop, output, heads
        self.patch_embed = _PatchEmbedding(1 if channels == "any" else channels, width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("pos_embed", sincos_positions(crop // patch, width))
        self.blocks = nn.ModuleList(ParallelBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=_EPS)

    @property
    def n_patches(self) -> int:
        """Tokens a plane."""
        return self.pos_embed.shape[1] - 1

    def forward(self, planes: Tensor) -> Tensor:
        """Embed standardised planes.

        Raises
        ------
        InputError
            If they have another size or number of channels than the encoder was made for.
        """
        self._check_planes(planes)
        tokens = self.patch_embed(planes) + self.pos_embed[0, 1:]
        first = self.cls_token + self.pos_embed[:, :1]
        sequence = torch.cat([first.expand(len(planes), -1, -1), tokens.flatten(1, 2)], dim=1)
        for block in self.blocks:
            sequence = block(sequence)
        normed: Tensor = self.norm(sequence)
        return self._pool(normed[:, 1:])

    def _check_planes(self, planes: Tensor) -> None:
        n_channels, *size = planes.shape[1:]
        if size != [self.crop, self.crop]:
            raise InputError(
                f"expected crops of {self.crop} x {self.crop} px, found {tuple(size)}: cut them "
                "so, or build the model for another crop"
            )
        if self.channels not in ("any", n_channels):
            raise InputError(
                f"expected {self.channels} channels, found {n_channels}: choose those of the model"
            )

    def _pool(self, tokens: Tensor) -> Tensor:
        if self.output == "pooled":
            return tokens.mean(1)
        by_channel: Tensor = tokens.unflatten(1, (-1, self.n_patches))
        return by_channel.mean(2).flatten(1)


class ParallelBlock(nn.Module):
    """Attention and MLP side by side on one normalised input, with norms of q and k.

    The bias of the joint projection is laid out as timm 0.9.7 does, with which the published
    weights were trained: zeros first, then ``mlp_bias``. So it falls on the last values of the
    MLP and on q, k and v, where timm 1.0 adds it to the MLP.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        hidden = 4 * width
        self.parts = (hidden, width, width, width)
        self.heads = heads
        self.in_norm = nn.LayerNorm(width, eps=_EPS)
        self.in_proj = nn.Linear(width, sum(self.parts), bias=False)
        self.mlp_bias = nn.Parameter(torch.zeros(hidden))
        self.q_norm = nn.LayerNorm(width // heads, eps=_EPS)
        self.k_norm = nn.LayerNorm(width // heads, eps=_EPS)
        self.attn_out_proj = nn.Linear(width, width)
        self.mlp_out_proj = nn.Linear(hidden, width)
        self.ls = _LayerScale(width)

    def in_bias(self) -> Tensor:
        """Lay out the bias of the joint projection: MLP, q, k, v."""
        zeros = self.mlp_bias.new_zeros(sum(self.parts) - len(self.mlp_bias))
        return torch.cat([zeros, self.mlp_bias])

    def forward(self, tokens: Tensor) -> Tensor:
        """Add attention and MLP to the tokens."""
        joint = nn.functional.linear(self.in_norm(tokens), self.in_proj.weight, self.in_bias())
        hidden, *heads = joint.split(self.parts, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in heads)
        attended = nn.functional.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        from_attention: Tensor = self.attn_out_proj(attended.transpose(1, 2).flatten(2))
        from_mlp: Tensor = self.mlp_out_proj(nn.functional.gelu(hidden))
        return tokens + self.ls.gamma * (from_attention + from_mlp)


class _PatchEmbedding(nn.Module):
    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, planes: Tensor) -> Tensor:
        """Give tokens (n, groups, patches, width): a group for each convolution of the planes."""
        grouped = planes.unflatten(1, (-1, self.proj.in_channels))
        found: Tensor = self.proj(grouped.flatten(0, 1))
        tokens: Tensor = found.flatten(2).transpose(1, 2).unflatten(0, (-1, grouped.shape[1]))
        return tokens


class _LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))


def build_vit(
    size: str = "small",
    *,
    patch: int = 16,
    channels: int | Literal["any"] = 6,
    crop: int = 256,
    output: Output = "pooled",
    seed: int | None = None,
) -> CropModel:
    """Build a model of the family with random weights, for benchmarks, tests and training.

    Parameters
    ----------
    size
        ``small`` (width 384), ``base`` (768) or ``large`` (1024).
    patch, crop
        Sides in pixels; the positions are computed for them.
    channels
        Their number, or ``any``.
    output
        ``pooled``, or ``channelwise`` where the channels are ``any``.
    seed
        Of the weights; None leaves torch's initialisation as it comes.

    Raises
    ------
    InputError
        If there is no such size, or the others do not fit together.

    Examples
    --------
    >>> model = build_vit("small", patch=16, channels="any", crop=32, seed=1)
    >>> model(torch.zeros(2, 5, 32, 32)).shape
    torch.Size([2, 384])
    """
    if size not in SIZES:
        raise InputError(f"expected a size among {', '.join(SIZES)}, found {size!r}")
    width, depth, heads = SIZES[size]
    encoder = VitEncoder(
        width=width,
        depth=depth,
        heads=heads,
        patch=patch,
        crop=crop,
        channels=channels,
        output=output,
    )
    if seed is not None:
        draw_weights(encoder, seed=seed)
    return CropModel(Standardise(), encoder).eval()


def draw_weights(encoder: nn.Module, *, seed: int) -> None:
    """Draw all weights from a normal distribution, and add 1 to the scales of norms and layers.

    The scales are so large that each block changes the embedding: what random weights are for.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            is_scale = name.endswith(("norm.weight", "gamma"))
            weight.normal_(1.0 if is_scale else 0.0, 0.02, generator=generator)


def sincos_positions(side: int, width: int) -> Tensor:
    """Compute the fixed positions of a grid's tokens, ``(1, 1 + side * side, width)``.

    Zero for the class token; then row by row sin(row), cos(row), sin(column), cos(column), each
    of ``width / 4`` frequencies ``1 / 10000^(4 i / width)``.

    References
    ----------
    Vaswani et al. (2017), in two dimensions as in He et al. (2022), "Masked autoencoders are
    scalable vision learners".

    Examples
    --------
    >>> sincos_positions(16, 384).shape
    torch.Size([1, 257, 384])
    """
    frequencies = torch.exp(torch.arange(width // 4).double() * (-4 * math.log(10000) / width))
    angles = torch.arange(side).double()[:, None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = waves[:, None].expand(-1, side, -1)
    columns = waves[None].expand(side, -1, -1)
    grid = torch.cat([rows, columns], dim=2).flatten(0, 1)
    return torch.cat([torch.zeros(1, width), grid.float()])[None]


def _check_shape(*, patch: int, crop: int, channels: int | str, output: str) -> None:
    if patch not in PATCHES or crop % patch or crop < patch:
        raise InputError(
            f"expected patches of 8 or 16 px and crops of a multiple of these, found patches of "
            f"{patch} and crops of {crop} px"
        )
    if output not in {"pooled", "channelwise"}:
        raise InputError(f"expected output pooled or channelwise, found {output!r}")
    if output == "channelwise" and channels != "any":
        raise InputError(
            f"expected channels any for channelwise output, found {channels}: with fixed channels "
            "one token is of all of them, choose pooled"
        )
