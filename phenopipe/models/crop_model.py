"""A torch model of crops: what is done to the counts, then an encoder; one module to export."""

from collections.abc import Sequence

from phenopipe.errors import InputError

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise InputError(
        f"expected torch to be installed, found {error}: pip install 'phenopipe[train]'"
    ) from error

__all__ = ["PRECISIONS", "CropModel", "Rescale", "Standardise", "Tensor", "nn", "torch"]

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class CropModel(nn.Module):
    """Crops as the camera gave them in, embeddings out.

    ``forward`` takes counts ``(n, c, y, x)`` as float32 and gives ``(n, d)`` float32, whatever
    the precision of the encoder.

    Parameters
    ----------
    preprocessing
        :class:`Standardise`, :class:`Rescale`, or any module from counts to the encoder's input.
    encoder
        Any module that gives ``(n, d)``, such as a timm model made with ``num_classes=0``.

    Examples
    --------
    >>> model = CropModel(Standardise(), nn.Flatten())
    >>> model(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 768])
    """

    def __init__(self, preprocessing: nn.Module, encoder: nn.Module) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.encoder = encoder

    def forward(self, crops: Tensor) -> Tensor:
        """Embed crops of counts."""
        planes: Tensor = self.preprocessing(crops)
        weight = next(self.encoder.parameters(), planes)
        features: Tensor = self.encoder(planes.to(weight.dtype))
        return features.float()


class Standardise(nn.Module):
    """Give each plane of each crop mean 0 and standard deviation 1.

    The plane is divided by ``scale`` and ``eps`` is added to its variance, as an instance
    normalisation of ``counts / scale`` does. So a constant factor between two cameras is undone,
    and a plane whose standard deviation is far below ``scale * sqrt(eps)`` counts (0.8 with the
    defaults, those of models that were trained on 8-bit images) stays near 0. A plane of one
    value becomes exactly 0.

    The defaults serve 12- and 16-bit images as well: the noise of a camera is above 0.8 counts,
    so what they give is what the same image would give in 8 bits had these not rounded it. With
    ``scale=65535`` a dim 16-bit image would drown in ``eps``.
    """

    def __init__(self, *, scale: float = 255.0, eps: float = 1e-5) -> None:
        super().__init__()
        self.floor = eps * scale * scale

    def forward(self, crops: Tensor) -> Tensor:
        """Standardise each plane over its own pixels."""
        # Less the first pixel: exact for whole numbers, so that the mean is too where a plane has
        # one value, and better where a weak signal lies on a large offset.
        lifted = crops - crops[:, :, :1, :1]
        centred = lifted - lifted.mean((2, 3), keepdim=True)
        variance = (centred * centred).mean((2, 3), keepdim=True)
        return centred / (variance + self.floor).sqrt()


class Rescale(nn.Module):
    """Divide counts by ``scale``, subtract a mean and divide by a deviation a channel.

    Parameters
    ----------
    scale
        The count that the model saw as 1: 255 for 8-bit images, 65535 or the camera's
        saturation for others.
    mean, std
        One value a channel, or one for all.

    Examples
    --------
    >>> rescale = Rescale(scale=255, mean=[0.5], std=[0.25])
    >>> rescale(torch.full((1, 1, 1, 1), 255.0)).item()
    2.0
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, *, scale: float, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", scale * torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("deviation", scale * torch.tensor(std).view(-1, 1, 1))

    def forward(self, crops: Tensor) -> Tensor:
        """Rescale each channel."""
        return (crops - self.mean) / self.deviation
