"""A few crops of cells, for a model that has no plate yet."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from phenopipe.plates import PlateKey
from phenopipe.simulate.camera import set_up_camera
from phenopipe.simulate.cells import draw_field
from phenopipe.simulate.design import CHANNELS, Nuisances, ScreenDesign
from phenopipe.simulate.library import seeded
from phenopipe.simulate.phenotypes import no_traits

_SMALLEST = 64


def draw_crops(n: int, *, n_channels: int, crop: int, dtype: str) -> NDArray[Any]:
    """Draw crops of untreated cells.

    Channels beyond the six stains repeat them. 8 bits hold the upper half of 16.

    Returns
    -------
    ndarray
        ``(n, n_channels, crop, crop)`` of uint8 or uint16; the same each time.

    Examples
    --------
    >>> crops = draw_crops(2, n_channels=3, crop=32, dtype="uint8")
    >>> crops.shape, crops.dtype
    ((2, 3, 32, 32), dtype('uint8'))
    """
    rng = seeded(0, "crops")
    design = ScreenDesign(size_px=max(crop, _SMALLEST))
    camera = set_up_camera(PlateKey("crops", "crops"), seed=0, nuisances=Nuisances())
    stains = np.arange(n_channels) % len(CHANNELS)
    drawn = [camera.expose(draw_field(no_traits(), rng, design=design), rng) for _ in range(n)]
    crops = np.stack(drawn)[:, stains, :crop, :crop]
    return (crops >> 8 if dtype == "uint8" else crops).astype(dtype)
