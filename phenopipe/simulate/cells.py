"""Draw cells in six stains: patches of many cells at once, added onto a field.

Lengths are in pixels of about 1.3 um: a cell is some 23 across, its nucleus 11.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from phenopipe.simulate.design import CHANNELS, ScreenDesign
from phenopipe.simulate.phenotypes import TRAITS, Traits

# float32 in fact: half the time of float64.
Array = NDArray[np.floating[Any]]

WINDOW = 40
_CELL_RADIUS = 11.5
_NUCLEUS_RADIUS = 5.6
_NUCLEOLI = 3
_CELL_SPREAD = 1.0
_TILE = 256
_UNIT = 0.1
_BLUR_PX = 3.0


def draw_field(
    traits: Traits, rng: np.random.Generator, *, design: ScreenDesign, in_focus: bool = True
) -> Array:
    """Draw the light of one field's cells, before the camera.

    Parameters
    ----------
    traits
        One value a trait of ``TRAITS``, in trait units.
    in_focus
        False blurs the field.

    Returns
    -------
    ndarray
        float32 ``(6, size, size)``, 0 where there is no cell, about 1 in one.

    Examples
    --------
    >>> from phenopipe.simulate.phenotypes import no_traits
    >>> rng = np.random.default_rng(0)
    >>> draw_field(no_traits(), rng, design=ScreenDesign(size_px=96)).shape
    (6, 96, 96)
    """
    size = design.size_px
    centres = _place_cells(traits, rng, design=design)
    corners = np.floor(centres).astype(int) + WINDOW // 2
    patches = draw_cells(traits, centres - np.floor(centres), rng)
    canvas = np.zeros((len(CHANNELS), size + 2 * WINDOW, size + 2 * WINDOW), np.float32)
    for patch, (y, x) in zip(patches, corners, strict=True):
        canvas[:, y : y + WINDOW, x : x + WINDOW] += patch
    field = canvas[:, WINDOW:-WINDOW, WINDOW:-WINDOW]
    return field if in_focus else gaussian_filter(field, (0, _BLUR_PX, _BLUR_PX))


def draw_cells(traits: Traits, offsets: NDArray[np.float64], rng: np.random.Generator) -> Array:
    """Draw each cell in a window of its own.

    Parameters
    ----------
    offsets
        Where each cell's centre lies from the window's middle, ``(cells, 2)``, within a pixel.

    Returns
    -------
    ndarray
        float32 ``(cells, 6, WINDOW, WINDOW)``.
    """
    n = len(offsets)
    own = traits + _CELL_SPREAD * rng.normal(size=(n, len(TRAITS)))
    scale = dict(
        zip(TRAITS, np.exp(_UNIT * own.T).astype(np.float32)[..., None, None], strict=True)
    )
    y, x = _grid(offsets)
    angle = rng.uniform(0, np.pi, n)
    body = _radius(y, x, angle, _CELL_RADIUS * scale["cell_size"], 1.3 * scale["cell_elongation"])
    body *= _lobes(y, x, rng)
    shift = rng.normal(0, 1.2, (2, n, 1, 1)).astype(np.float32)
    y, x = y - shift[0], x - shift[1]
    turned = angle + rng.normal(0, 0.4, n)
    radius = _NUCLEUS_RADIUS * scale["nucleus_size"]
    nucleus = _radius(y, x, turned, radius, 1.2 * scale["nucleus_elongation"])
    spots = _spots(shift, 0.45 * radius, 1.3 * scale["nucleolus_size"], rng, n_spots=_NUCLEOLI)
    golgi = _spots(shift, 1.3 * radius, 2.2 * radius**0, rng, n_spots=1)
    return _stain(body, nucleus, spots, golgi, scale, rng)


def _stain(
    body: Array,
    nucleus: Array,
    nucleoli: Array,
    golgi: Array,
    scale: dict[str, Array],
    rng: np.random.Generator,
) -> Array:
    """Turn distances (1 at the border) and spots into the light of the six stains."""
    n = len(body)
    inside, in_nucleus = _inside(body, 5.0), _inside(nucleus, 3.5)
    outside_nucleus = inside * (1 - 0.85 * in_nucleus)
    thick = inside * (1.15 - 0.7 * np.minimum(body, 1.2))
    fine, coarse, fibres = (_crop_tiles(name, n, rng) for name in ("fine", "coarse", "fibres"))
    rim = np.maximum(1 - np.abs(body - 0.93) * 6, 0)
    mito = _mix(fine, coarse, scale["mito_texture"]) * np.exp(-body / (0.7 * scale["mito_spread"]))
    er = _mix(coarse, fine, scale["er_texture"])
    patches = np.empty((n, len(CHANNELS), WINDOW, WINDOW), np.float32)
    patches[:, 0] = scale["dna_intensity"] * in_nucleus * (0.75 + 0.25 * coarse)
    patches[:, 1] = scale["er_intensity"] * outside_nucleus * thick * (0.5 + 0.6 * er)
    patches[:, 2] = scale["rna_intensity"] * (0.45 * thick + in_nucleus * (0.25 + 0.9 * nucleoli))
    patches[:, 3] = (
        scale["actin_intensity"]
        * inside
        * (0.2 + 0.55 * rim + 0.35 * scale["actin_fibres"] ** 2 * fibres)
        + 0.7 * scale["golgi_intensity"] * golgi * inside
    )
    patches[:, 4] = scale["mito_intensity"] * outside_nucleus * 1.6 * mito
    patches[:, 5] = scale["cytoplasm_intensity"] * thick * (0.9 + 0.1 * fine)
    return patches


def _place_cells(
    traits: Traits, rng: np.random.Generator, *, design: ScreenDesign, rounds: int = 6
) -> NDArray[np.float64]:
    """Drop the cells at random, then let close ones push each other apart."""
    size, margin = design.size_px, 6.0
    expected = design.cells * (size / 160) ** 2 * np.exp(_UNIT * traits[TRAITS.index("cell_count")])
    centres = rng.uniform(-margin, size + margin, (max(1, rng.poisson(expected)), 2))
    for _ in range(rounds):
        gaps = centres[:, None] - centres
        distance = np.sqrt((gaps**2).sum(-1)) + 1e-3
        push = np.clip(2 * _CELL_RADIUS - distance, 0, None) / distance
        centres = centres + 0.25 * (gaps * push[..., None]).sum(1)
    return np.clip(centres, -margin, size + margin)


def _grid(offsets: NDArray[np.float64]) -> tuple[Array, Array]:
    axis = np.arange(WINDOW, dtype=np.float32) - WINDOW // 2
    shifted = axis - offsets.astype(np.float32)[..., None]
    return shifted[:, 0, :, None], shifted[:, 1, None, :]


def _radius(y: Array, x: Array, angle: NDArray[np.float64], radius: Array, ratio: Array) -> Array:
    """Distance from an ellipse's centre, 1 at its border; the area does not depend on the ratio."""
    sin, cos = (_stack(f(angle)) for f in (np.sin, np.cos))
    long, short = radius * np.sqrt(ratio), radius / np.sqrt(ratio)
    along, across = (x * cos + y * sin) / long, (y * cos - x * sin) / short
    distance: Array = np.sqrt(along * along + across * across)
    return distance


def _lobes(y: Array, x: Array, rng: np.random.Generator) -> Array:
    """Stretch the border by three lobes, so that cells are no perfect ellipses."""
    n = len(y)
    depth, phase = rng.uniform(0, 0.15, n), rng.uniform(0, 2 * np.pi, n)
    away = np.sqrt(y * y + x * x) + 0.5
    cos, sin = x / away, y / away
    triple_cos, triple_sin = (4 * cos * cos - 3) * cos, (3 - 4 * sin * sin) * sin
    even, odd = (depth * f(phase) for f in (np.cos, np.sin))
    stretch: Array = 1 + _stack(even) * triple_cos + _stack(odd) * triple_sin
    return stretch


def _stack(values: NDArray[np.float64]) -> Array:
    """Line up one value a cell with the cells' windows."""
    lined_up: Array = values.astype(np.float32)[:, None, None]
    return lined_up


def _inside(distance: Array, steepness: float) -> Array:
    """1 inside the border, 0 outside, with a soft edge."""
    inside: Array = np.clip((1 - distance) * steepness + 0.5, 0, 1)
    return inside


def _spots(
    shift: Array, ring: Array, width: Array, rng: np.random.Generator, *, n_spots: int
) -> Array:
    """Draw round spots at a distance from the nucleus' middle, summed for each cell."""
    n = shift.shape[1]
    angle = rng.uniform(0, 2 * np.pi, (n, n_spots))
    away = ring[:, 0] * rng.uniform(0.6, 1.1, (n, n_spots))
    axis = np.arange(WINDOW, dtype=np.float32) - WINDOW // 2
    middles = np.stack([away * np.sin(angle), away * np.cos(angle)]) + shift[..., 0]
    bells = np.exp(-(((axis - middles[..., None]) / width[:, 0, :, None]) ** 2) / 2)
    spots: Array = np.einsum("nky,nkx->nyx", bells[0], bells[1]).astype(np.float32)
    return spots


def _mix(first: Array, second: Array, scale: Array) -> Array:
    """Blend two textures: all the first at a scale of 2, all the second at 1/2."""
    share = np.clip(0.5 + 0.7 * np.log(scale), 0, 1)
    return share * first + (1 - share) * second


def _crop_tiles(name: str, n: int, rng: np.random.Generator) -> Array:
    """Cut a window out of a texture for each cell; of one of its tiles, where it has several."""
    tiles = _tiles()[name]
    windows = sliding_window_view(tiles, (WINDOW, WINDOW), axis=(1, 2))
    y, x = rng.integers(0, _TILE - WINDOW, (2, n))
    cut: Array = windows[rng.integers(0, len(tiles), n), y, x]
    return cut


@cache
def _tiles() -> dict[str, Array]:
    """Make textures with mean 1: grains of two sizes, and fibres in eight directions."""
    rng = np.random.default_rng(0)
    directions = np.arange(8) * np.pi / 8
    return {
        "fine": _texture(rng, along=1.0, across=1.0)[None],
        "coarse": _texture(rng, along=2.6, across=2.6)[None],
        "fibres": np.stack([_texture(rng, along=6.0, across=0.8, angle=a) for a in directions]),
    }


def _texture(rng: np.random.Generator, *, along: float, across: float, angle: float = 0.0) -> Array:
    """Smooth noise by a Gaussian of two widths, turned by the angle, and clip it at 0."""
    y, x = np.meshgrid(*[np.fft.fftfreq(_TILE)] * 2, indexing="ij")
    turned = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    transfer = np.exp(-2 * (np.pi * along * turned[0]) ** 2 - 2 * (np.pi * across * turned[1]) ** 2)
    smooth = np.fft.ifft2(np.fft.fft2(rng.normal(size=(_TILE, _TILE))) * transfer).real
    grains = np.clip(1 + 0.9 * smooth / smooth.std(), 0, None)
    texture: Array = (grains / grains.mean()).astype(np.float32)
    return texture
