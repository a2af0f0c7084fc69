"""Turn a field's light into the camera's counts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phenopipe.plates import PlateKey
from phenopipe.simulate.cells import Array
from phenopipe.simulate.design import CHANNELS, Nuisances
from phenopipe.simulate.library import seeded

BRIGHTEST = 65535

_SIGNAL = np.array([6000, 4500, 5000, 4000, 5000, 3500], np.float32)
_BACKGROUND = 300.0
_COUNTS_PER_PHOTON = 2.0
_READ_NOISE = 12.0
_OVEREXPOSURE = 40.0


@dataclass(frozen=True)
class Camera:
    """One plate's gain and background by channel, and how light falls off.

    Parameters
    ----------
    gain
        Counts of a cell, ``(6,)``.
    background
        Counts without a cell, ``(6,)``.
    middle
        Where the light is brightest, from -1 to 1 in y and x.
    fall_off
        Share of the light lost at one field's half width from there.
    """

    gain: Array
    background: Array
    middle: tuple[float, float]
    fall_off: float

    def expose(
        self, light: Array, rng: np.random.Generator, *, saturated: bool = False
    ) -> NDArray[np.uint16]:
        """Take the picture: light, background, shot noise and read noise, 16 bits.

        Shot noise is drawn as the normal distribution that Poisson's nears at hundreds of photons.
        """
        gain = self.gain * (_OVEREXPOSURE if saturated else 1)
        counts = light * gain[:, None, None] + self.background[:, None, None]
        counts *= self._illumination(light.shape[-1])
        noise = rng.standard_normal(light.shape, dtype=np.float32)
        counts += noise * np.sqrt(_COUNTS_PER_PHOTON * counts + _READ_NOISE**2)
        return np.clip(np.rint(counts), 0, BRIGHTEST).astype(np.uint16)

    def _illumination(self, size: int) -> Array:
        y, x = (np.linspace(-1, 1, size, dtype=np.float32) - middle for middle in self.middle)
        light: Array = 1 - self.fall_off * np.minimum(y[:, None] ** 2 + x**2, 2) / 2
        return light


def set_up_camera(key: PlateKey, *, seed: int, nuisances: Nuisances) -> Camera:
    """Draw the camera of a plate: it drifts between batches and, less, between plates."""
    rng, drift = seeded(seed, "camera", str(key)), seeded(seed, "camera", key.experiment)
    n = len(CHANNELS)
    change = 0.1 * (nuisances.batch * drift.normal(size=n) + nuisances.plate * rng.normal(size=n))
    background = _BACKGROUND * np.exp(0.3 * nuisances.plate * rng.normal(size=n))
    y, x = rng.uniform(-0.3, 0.3, 2)
    return Camera(
        gain=(_SIGNAL * np.exp(change)).astype(np.float32),
        background=background.astype(np.float32),
        middle=(float(y), float(x)),
        fall_off=nuisances.illumination,
    )
