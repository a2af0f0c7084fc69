"""Read the published OpenPhenom-S/16 checkpoint: a channel-agnostic encoder of microscopy.

The weights are never shipped: their licence is a non-commercial one, and the user fetches them.

References
----------
Kraus et al. (2024), "Masked autoencoders for microscopy are scalable learners of cellular
biology". Trained on 8-bit images of 256 px a side; up to 11 channels.
"""

from pathlib import Path

from phenopipe.errors import InputError
from phenopipe.models.crop_model import CropModel, Standardise, Tensor
from phenopipe.models.vit import SIZES, Output, VitEncoder

CROP = 256
PATCH = 16

_FILE = "model.safetensors"
_PREFIX = "encoder.vit_backbone."


def load_openphenom(checkpoint: Path, *, output: Output = "pooled") -> CropModel:
    """Read the encoder of the published checkpoint.

    Parameters
    ----------
    checkpoint
        ``model.safetensors``, or the folder that holds it.
    output
        ``pooled``: the mean over all tokens, width 384. ``channelwise``: the mean over each
        channel's tokens, one channel after another, width 384 a channel.

    Returns
    -------
    CropModel
        Takes counts ``(n, c, 256, 256)`` float32 of 1 to 11 channels in any order.

    Raises
    ------
    InputError
        If the file is missing, damaged, or of another model.
    """
    path = checkpoint / _FILE if checkpoint.is_dir() else checkpoint
    if not path.is_file():
        raise InputError(
            f"expected {_FILE} in {checkpoint}, found none: download the checkpoint of "
            "OpenPhenom-S/16 there, under its own licence"
        )
    width, depth, heads = SIZES["small"]
    encoder = VitEncoder(
        width=width,
        depth=depth,
        heads=heads,
        patch=PATCH,
        crop=CROP,
        channels="any",
        output=output,
    )
    weights = _read_weights(path, list(encoder.state_dict()))
    weights["pos_embed"] = _first_channel(weights["pos_embed"], encoder.n_patches, path)
    _check_shapes(weights, encoder.state_dict(), path)
    encoder.load_state_dict(weights)
    return CropModel(Standardise(), encoder).eval()


def _read_weights(path: Path, names: list[str]) -> dict[str, Tensor]:
    """Read the encoder's tensors as float32, and none of the decoder's."""
    try:
        from safetensors import SafetensorError, safe_open  # noqa: PLC0415
    except ImportError as error:
        raise InputError(
            f"expected safetensors to be installed, found {error}: pip install 'phenopipe[train]'"
        ) from error
    try:
        with safe_open(path, framework="pt") as file:
            missing = [name for name in names if _PREFIX + name not in file.keys()]  # noqa: SIM118
            if missing:
                raise InputError(
                    f"expected the tensors of OpenPhenom-S/16 in {path}, found no "
                    f"{_PREFIX}{missing[0]}: give its published checkpoint"
                )
            return {name: file.get_tensor(_PREFIX + name).float() for name in names}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"expected a safetensors file in {path}, found {error}: download it again"
        ) from error


def _first_channel(positions: Tensor, n_patches: int, path: Path) -> Tensor:
    """Keep the class token's and one channel's positions: they repeat for each channel."""
    patches = positions[0, 1:]
    repeats = len(patches) % n_patches == 0 and patches.shape[0] > 0
    if not repeats or (patches.unflatten(0, (-1, n_patches)) - patches[:n_patches]).any():
        raise InputError(
            f"expected positions in {path} that repeat for each channel, found "
            f"{tuple(positions.shape)} that do not: give the published checkpoint"
        )
    return positions[:, : 1 + n_patches]


def _check_shapes(found: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    for name, weight in expected.items():
        if found[name].shape != weight.shape:
            raise InputError(
                f"expected {_PREFIX}{name} of shape {tuple(weight.shape)} in {path}, found "
                f"{tuple(found[name].shape)}: only OpenPhenom-S/16 is read"
            )
