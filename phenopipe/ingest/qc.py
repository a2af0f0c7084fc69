"""Image, field and plate measures, and the verdict on each field.

Measures follow Bray et al. 2012 (J. Biomol. Screen. 17, 266): the slope of the power spectrum
tells blur, the share of pixels at the camera's maximum tells saturation. What is out of focus is
judged against the other fields of the plate, channel by channel, since cells and stains differ.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

from phenopipe.config import QCConfig

# Columns of `measure_field`, in order; also the names of `schema.QC`.
MEASURES = ("mean", "background", "foreground", "saturated", "focus", "spectrum_slope", "cells")

# Full scale of the cameras' converters.
_FULL_SCALES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))
# Background is this percentile; the brightest structures lie at the other one.
_LOW, _HIGH = 5.0, 99.9
# Noise levels above background from which a pixel is foreground: 5.0 above the 5th percentile
# is 3.4 above the mean of noise alone.
_NOISE_LEVELS = 5.0
# Smallest nucleus in pixels, after smoothing over 5 pixels.
_CELL_AREA = 25


class Verdict(NamedTuple):
    """``pass``, ``warn`` or ``fail``, and the names of the reasons, joined by commas."""

    verdict: str
    reason: str


def measure_field(field: NDArray[Any]) -> NDArray[np.float64]:
    """Measure each channel of a field.

    Parameters
    ----------
    field
        Pixels ``(c, y, x)``.

    Returns
    -------
    ndarray
        ``(c, 7)``, the columns `MEASURES`. NaN where a channel has no contrast: focus and slope.

    Notes
    -----
    mean : of all pixels. background : 5th percentile, of every second pixel of every second row.
    foreground : share of pixels more than 5 noise levels above background, the noise from
    differences of neighbours. saturated : share at full scale (2^8 - 1, 2^10 - 1 … 2^16 - 1)
    where that is the image's maximum. focus : energy of the central differences in y and x, over
    four times the variance; 1 for white noise. spectrum_slope : of log power against log
    frequency, steeper where blurred. cells : smoothed blobs of the first channel, 0 in the
    others; an estimate.
    """
    pixels = field.astype(np.float32)
    means = pixels.mean(axis=2).mean(axis=1, dtype=np.float64)
    centred = pixels - means.astype(np.float32)[:, None, None]
    background, high = _percentiles(pixels[:, ::2, ::2])
    threshold = background + _NOISE_LEVELS * _noise(pixels)
    cells = np.zeros(len(field))
    cells[0] = _count_cells(pixels[0], threshold[0], background[0], high[0])
    columns = [
        means,
        background,
        _share(pixels > threshold[:, None, None]),
        _saturated(field),
        _focus(centred),
        _spectrum_slopes(centred),
        cells,
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _share(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    counts = np.array([np.count_nonzero(channel) for channel in mask])
    share: NDArray[np.float64] = counts / mask[0].size
    return share


def _percentiles(pixels: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    flat = pixels.reshape(len(pixels), -1)
    n = flat.shape[1] - 1
    low, high = round(n * _LOW / 100), round(n * _HIGH / 100)
    ordered = np.partition(flat, (low, high), axis=1)
    return ordered[:, low], ordered[:, high]


def _noise(pixels: NDArray[np.float32]) -> NDArray[Any]:
    """Estimate the noise's standard deviation from the median difference of neighbours."""
    differences = np.abs(pixels[:, ::2, 1::2] - pixels[:, ::2, :-1:2])
    median = np.median(differences.reshape(len(pixels), -1), axis=1)
    noise: NDArray[Any] = median / (0.6745 * 2**0.5)
    return noise


def _saturated(field: NDArray[Any]) -> NDArray[np.float64]:
    top = field.max(axis=(1, 2), keepdims=True)
    at_top = _share(field == top)
    return np.where(np.isin(top[:, 0, 0], _FULL_SCALES), at_top, 0.0)


def _focus(centred: NDArray[np.float32]) -> NDArray[Any]:
    energy = _mean_square(centred[:, 2:, :] - centred[:, :-2, :])
    energy += _mean_square(centred[:, :, 2:] - centred[:, :, :-2])
    variance = _mean_square(centred)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, energy / (4 * variance), np.nan)


def _mean_square(pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    rows = np.einsum("cyx,cyx->cy", pixels, pixels)
    mean: NDArray[np.float64] = rows.mean(axis=1, dtype=np.float64) / pixels.shape[2]
    return mean


def _spectrum_slopes(centred: NDArray[np.float32]) -> NDArray[Any]:
    """Fit the slope of log power on log frequency, over rings of one cycle a field's side."""
    height, width = centred.shape[1:]
    rings, counts = _rings(height, width)
    terms = scipy.fft.rfft2(centred)
    power = (np.square(terms.real) + np.square(terms.imag)).reshape(len(centred), -1)
    slopes = np.full(len(centred), np.nan)
    log_frequency = np.log(np.arange(1, len(counts) + 1))
    centred = log_frequency - log_frequency.mean()
    for channel, spectrum in enumerate(power):
        ring_power = np.bincount(rings, weights=spectrum)[1 : len(counts) + 1] / counts
        if (ring_power > 0).all():
            slopes[channel] = centred @ np.log(ring_power) / (centred @ centred)
    return slopes


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


def _count_cells(
    image: NDArray[np.float32], threshold: float, background: float, high: float
) -> int:
    smooth = ndimage.uniform_filter(image, 5)
    labels, count = ndimage.label(smooth > max(threshold, background + (high - background) / 4))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return int((areas >= _CELL_AREA).sum())


def judge_fields(measures: NDArray[np.float64], config: QCConfig) -> list[Verdict]:
    """Judge the fields of one plate, each against the others.

    Parameters
    ----------
    measures
        ``(fields, c, 7)`` of `measure_field`.
    config
        The thresholds.

    Returns
    -------
    list of Verdict
        ``empty``: no channel shows anything. ``saturated``: a channel has too many pixels at the
        maximum. ``out_of_focus``: fails where at least half of the channels say so, and at least
        two where there are two; warns where fewer do.
    """
    foreground = measures[:, :, MEASURES.index("foreground")]
    saturated = measures[:, :, MEASURES.index("saturated")]
    empty = np.all(foreground < config.min_foreground, axis=1)
    full = np.any(saturated > config.max_saturated, axis=1)
    votes = _blurred(measures, config).sum(axis=1)
    n_channels = measures.shape[1]
    enough = max(min(2, n_channels), -(-n_channels // 2))
    return [
        _judge(is_empty=bool(empty[i]), is_full=bool(full[i]), votes=int(votes[i]), enough=enough)
        for i in range(len(measures))
    ]


def _judge(*, is_empty: bool, is_full: bool, votes: int, enough: int) -> Verdict:
    said = {
        "empty": is_empty,
        "saturated": is_full,
        "out_of_focus": votes >= enough and not is_empty,
    }
    reasons = ",".join(name for name, holds in said.items() if holds)
    if reasons:
        return Verdict("fail", reasons)
    return Verdict("warn", "out_of_focus") if votes else Verdict("pass", "")


def _blurred(measures: NDArray[np.float64], config: QCConfig) -> NDArray[np.bool_]:
    """Tell ``(fields, c)`` where focus is low and the spectrum steep among the plate's fields."""
    if len(measures) < config.min_fields:
        return np.zeros(measures.shape[:2], bool)
    focus = np.log(measures[:, :, MEASURES.index("focus")])
    slope = measures[:, :, MEASURES.index("spectrum_slope")]
    limit = -config.focus_deviations
    return (_deviations(focus) < limit) | (_deviations(slope) < limit)


def _deviations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Express values as robust deviations from the median over fields, channel by channel."""
    known = np.where(np.isfinite(values), values, np.nan)
    filled = np.where(np.isfinite(known).any(axis=0), known, 0.0)
    median = np.nanmedian(filled, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(filled - median), axis=0)
    # Fields alike to within 2% would make nothing of a difference: that is the smallest spread.
    deviations: NDArray[np.float64] = np.nan_to_num((filled - median) / np.maximum(spread, 0.02))
    return deviations
