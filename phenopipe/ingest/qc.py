"""What QC measures of one field, channel by channel; it runs for every field that is ingested.

Measures follow Bray et al. 2012 (J. Biomol. Screen. 17, 266): the slope of the power spectrum
tells blur, the share of pixels at the camera's maximum tells saturation. Mean and saturation are
of all pixels; the others are of tiles or of every n-th pixel where a field is large.
"""

import re
from collections.abc import Sequence
from functools import lru_cache, reduce
from itertools import product
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

# Columns of `measure_field`, in order; also the names of `schema.QC`.
MEASURES = (
    "mean",
    "background",
    "foreground",
    "saturated",
    "focus",
    "spectrum_slope",
    "detail",
    "cells",
)

# Full scale of the cameras' converters.
_FULL_SCALES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))
# Background is this percentile; the brightest structures lie at the other one.
_LOW, _HIGH = 5.0, 99.9
# Noise levels above background from which a pixel is foreground: 5.0 above the 5th percentile
# is 3.4 above the mean of noise alone.
_NOISE_LEVELS = 5.0
# Fields are thinned to about this side for background, foreground and cells.
_THINNED = 512
# Focus is measured on 4 x 4 tiles of this side; on the whole of a field that is no larger.
_TILES, _TILE = 4, 128
# Fewer pixels a side have no spectrum to speak of.
_SMALLEST = 8
# Smallest nucleus in pixels; 9 of a thinned field, whose nuclei are as large as they can be.
_CELL_AREA, _THIN_CELL_AREA = 25, 9
# Labels of stains of DNA; but not of the nucleoli, which SYTO 14 shows with all RNA.
_NUCLEAR = re.compile(r"dna|dapi|hoechst|h33342|draq|nucle(?!ol)", re.IGNORECASE)


def measure_field(field: NDArray[Any], *, nuclear: int = 0) -> NDArray[np.float64]:
    """Measure each channel of a field.

    Parameters
    ----------
    field
        Pixels ``(c, y, x)``, uint8 or uint16.
    nuclear
        The channel that shows nuclei: cells are counted there (see `find_nuclear_channel`).

    Returns
    -------
    ndarray
        ``(c, 8)``, the columns `MEASURES`. NaN: focus, slope and detail where a channel has no
        contrast, cells in the channels that are not the nuclear one.

    Notes
    -----
    mean : of all pixels. background : 5th percentile. foreground : share of pixels more than 5
    noise levels above background, the noise from differences of neighbours. saturated : share of
    all pixels at full scale (2^8 - 1, 2^10 - 1 … 2^16 - 1) where that is the image's maximum.
    focus : energy of the central differences in y and x, over four times the variance; 1 for
    white noise. spectrum_slope : of log power against log frequency, steeper where blurred; 0 for
    white noise. detail : the highest frequency, in cycles a pixel, up to which the spectrum holds
    twice the power of its last tenth, the noise: 0 for white noise, and at most 0.5. Focus and
    slope compare fields of one plate; detail means the same whatever stands in the field. cells :
    smoothed bright blobs of at least a nucleus' size; an estimate.

    Background, foreground and cells take every n-th pixel and row, n the field's side over 512.
    Focus, slope and detail take the whole field up to 512 pixels a side, 16 tiles of 128 above.

    Examples
    --------
    >>> field = np.zeros((1, 64, 64), "uint16")
    >>> field[0, :16] = 65535
    >>> measures = measure_field(field)[0]
    >>> float(measures[MEASURES.index("saturated")]), float(measures[MEASURES.index("mean")])
    (0.25, 16383.75)
    """
    rows = [_measure_channel(image, with_cells=c == nuclear) for c, image in enumerate(field)]
    return np.array(rows)


def find_nuclear_channel(labels: Sequence[str]) -> int:
    """Find the channel that shows nuclei by its label; the first where no label says so.

    Examples
    --------
    >>> find_nuclear_channel(["ER", "HOECHST 33342", "RNA"]), find_nuclear_channel(["w1", "w2"])
    (1, 0)
    """
    return next((n for n, label in enumerate(labels) if _NUCLEAR.search(label)), 0)


def _measure_channel(image: NDArray[Any], *, with_cells: bool) -> tuple[float, ...]:
    step = max(1, min(image.shape) // _THINNED)
    thin = np.ascontiguousarray(image[::step, ::step])
    background, high = _percentiles(thin)
    threshold = background + _NOISE_LEVELS * _noise(image, step)
    bright = max(threshold, background + (high - background) / 4)
    return (
        _mean(image),
        background,
        np.count_nonzero(thin > np.float32(threshold)) / thin.size,
        _saturated(image),
        *_sharpness(_cut_tiles(image)),
        _count_cells(thin, bright, step) if with_cells else np.nan,
    )


def _mean(image: NDArray[Any]) -> float:
    """Average all pixels exactly; columns first, in integers, which NumPy adds fastest."""
    # 65,536 values of 16 bits fit in 32.
    kind = np.uint32 if len(image) <= 2**16 else np.uint64
    columns = np.add.reduce(image, axis=0, dtype=kind)
    return float(columns.sum(dtype=np.uint64)) / image.size


def _percentiles(image: NDArray[Any]) -> tuple[float, float]:
    """Find background and highlights by counting intensities: a seventh of the time of sorting."""
    low, high = _ranked(image, _LOW / 100, _HIGH / 100)
    return low, high


def _noise(image: NDArray[Any], step: int) -> float:
    """Estimate the noise's standard deviation from the median difference of neighbours."""
    pairs = max(2, step)
    left, right = image[:: 2 * step, :-1:pairs], image[:: 2 * step, 1::pairs]
    (median,) = _ranked(np.abs(left.astype(np.int32) - right), 0.5)
    return median / (0.6745 * 2**0.5)


def _ranked(values: NDArray[Any], *shares: float) -> list[float]:
    """Find the unsigned integers that stand at these shares of all, in ascending order."""
    reached = np.cumsum(np.bincount(values.ravel()))
    ranks = [round((values.size - 1) * share) for share in shares]
    return [float(value) for value in np.searchsorted(reached, ranks, side="right")]


def _saturated(image: NDArray[Any]) -> float:
    top = image.max()
    if int(top) not in _FULL_SCALES:
        return 0.0
    return float(np.count_nonzero(image == top) / image.size)


def _cut_tiles(image: NDArray[Any]) -> NDArray[np.float32]:
    """Cut tiles ``(n, y, x)`` in a grid over the field, less their mean; one of a small field."""
    if min(image.shape) <= _TILES * _TILE:
        tiles = image[None].astype(np.float32)
    else:
        rows, columns = ((side - _TILE) * np.arange(_TILES) // (_TILES - 1) for side in image.shape)
        tiles = np.empty((_TILES**2, _TILE, _TILE), np.float32)
        for tile, (y, x) in zip(tiles, product(rows, columns), strict=True):
            tile[:] = image[y : y + _TILE, x : x + _TILE]
    tiles -= np.float32(tiles.mean(dtype=np.float64))
    return tiles


def _sharpness(tiles: NDArray[np.float32]) -> tuple[float, float, float]:
    """Measure focus, slope and detail."""
    variance = _mean_square(tiles)
    if variance == 0 or min(tiles.shape[1:]) < _SMALLEST:
        return np.nan, np.nan, np.nan
    energy = _mean_square(tiles[:, 2:] - tiles[:, :-2])
    energy += _mean_square(tiles[:, :, 2:] - tiles[:, :, :-2])
    power = _ring_power(tiles)
    return energy / (4 * variance), _fit_slope(power), _find_detail(power)


def _mean_square(pixels: NDArray[np.float32]) -> float:
    rows = np.einsum("nyx,nyx->ny", pixels, pixels)
    return float(rows.mean(dtype=np.float64) / pixels.shape[2])


def _ring_power(tiles: NDArray[np.float32]) -> NDArray[np.float64]:
    """Average the power of rings of one cycle a tile's side, from the first up to Nyquist's.

    It is the mean over windowed tiles (Welch 1967): without the window, a tile's borders would
    pass for detail.
    """
    height, width = tiles.shape[1:]
    rings, counts = _rings(height, width)
    terms = scipy.fft.rfft2(tiles * _window(height, width))
    power = np.square(terms.real).sum(axis=0) + np.square(terms.imag).sum(axis=0)
    ring_power: NDArray[np.float64] = np.bincount(rings, weights=power.ravel())[1:] / counts
    return ring_power


def _fit_slope(power: NDArray[np.float64]) -> float:
    """Fit log power on log frequency, from the second ring: the window mixes mean and first."""
    if not (power[1:] > 0).all():
        return float("nan")
    log_frequency = np.log(np.arange(2, len(power) + 1))
    centred = log_frequency - log_frequency.mean()
    return float(centred @ np.log(power[1:]) / (centred @ centred))


def _find_detail(power: NDArray[np.float64]) -> float:
    n = len(power)
    noise = np.median(power[int(0.9 * n) :])
    drowned = np.flatnonzero(power <= 2 * noise)
    last = drowned[0] if drowned.size else n
    return float(last / n / 2)


@lru_cache(maxsize=8)
def _window(height: int, width: int) -> NDArray[np.float32]:
    y, x = (np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in (height, width))
    window: NDArray[np.float32] = np.outer(y, x).astype(np.float32)
    return window


@lru_cache(maxsize=8)
def _rings(height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give each term of a real transform its ring; 0 for the mean and beyond the last."""
    side = min(height, width)
    y = np.fft.fftfreq(height)[:, None] * side
    x = np.fft.rfftfreq(width)[None, :] * side
    ring = np.rint(np.hypot(y, x)).astype(np.intp).ravel()
    last = side // 2
    ring[ring > last] = 0
    return ring, np.bincount(ring)[1:]


def _count_cells(image: NDArray[Any], threshold: float, step: int) -> int:
    """Count the blobs above the threshold after smoothing, of a field thinned by the step."""
    smooth = _smooth(image.astype(np.float32), radius=2 if step == 1 else 1)
    labels, _ = ndimage.label(smooth > threshold)
    areas = np.bincount(labels.ravel())[1:]
    return int((areas >= max(_THIN_CELL_AREA, _CELL_AREA // step)).sum())


def _smooth(image: NDArray[np.float32], *, radius: int) -> NDArray[np.float32]:
    """Average over a square; beyond the border the image is mirrored."""
    padded = np.pad(image, radius, mode="symmetric")
    height, width = image.shape
    side = range(2 * radius + 1)
    rows = reduce(np.add, (padded[i : i + height] for i in side))
    total: NDArray[np.float32] = reduce(np.add, (rows[:, i : i + width] for i in side))
    smooth: NDArray[np.float32] = total / np.float32(len(side) ** 2)
    return smooth
