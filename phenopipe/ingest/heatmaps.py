"""Pictures of a plate's QC: each well where it stands, coloured by verdict and by each measure."""

import io
import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from phenopipe.ingest.canvas import Anchor, Canvas, Colours, draw_wells, mark_wells
from phenopipe.plates import Well, row_name

# The panels of each channel, by column of the QC table.
_TITLES = {
    "focus": "focus, gradient energy",
    "background": "background, counts",
    "mean": "mean, counts",
    "saturated": "saturated, % of pixels",
}
# Okabe & Ito's colours, which the colour-blind tell apart; marks tell them apart without.
_STATES = {"pass": "#56B4E9", "warn": "#F0E442", "fail": "#D55E00"}
_NO_IMAGE = "#E3E3E3"
# Dark is low, and evenly so for the colour-blind (Nuñez, Anderton & Renslow 2018).
_SCALE = colormaps["cividis"]
# In pixels: a panel with its labels, the wells in it, and what stands around them.
_SLOT, _PANEL, _GAP, _LABELS = 535, (280, 430), 76, 40
_HEAD, _BIG = 150, (570, 980)
_MAX_LINES = 26


@dataclass(frozen=True)
class _Plate:
    """A plate's rows and columns, and its wells that have an image, each with its place."""

    shape: tuple[int, int]
    places: dict[str, Well]

    def grid(self, values: pd.Series) -> NDArray[np.float64]:
        """Put one value a well in its place; NaN where there is none."""
        grid = np.full(self.shape, np.nan)
        for name, value in values.items():
            well = self.places[str(name)]
            grid[well.row, well.column] = value
        return grid

    def fit(self, room: tuple[int, int]) -> int:
        """Give the side of a well, in pixels, with which the plate fits."""
        return max(1, min(room[0] // self.shape[0], room[1] // self.shape[1]))


def draw_heatmaps(table: pa.Table, *, shape: tuple[int, int]) -> bytes:
    """Draw a plate's QC: verdicts and cells, then four measures of each channel.

    Parameters
    ----------
    table
        schema.QC of one plate.
    shape
        The plate's rows and columns of wells.

    Returns
    -------
    bytes
        A PNG, the same bytes for the same table. A well's colour is the median of its fields; a
        scale holds the middle 98% of the wells. Wells without an image are grey.
    """
    frame = table.to_pandas()
    wells = frame.groupby("well")[["well_verdict", "well_reason"]].first()
    plate = _Plate(shape, {name: Well.parse(name) for name in wells.index})
    channels = list(dict.fromkeys(frame["channel"]))
    below = _HEAD + _BIG[0] + _GAP
    height = below + (_PANEL[0] + _GAP) * len(channels)
    canvas = Canvas(height, _LABELS + _SLOT * len(_TITLES))
    _write_title(canvas, frame, wells, plate)
    _draw_verdicts(canvas, wells["well_verdict"], plate)
    cells = frame.groupby("well")["cells"].median()
    at = (_HEAD, _LABELS + 2 * _SLOT)
    _draw_measure(canvas, cells, plate, at=at, title="cells a field, estimated")
    _list_wells(canvas, wells, top=_HEAD, left=_LABELS + 3 * _SLOT)
    medians = frame.groupby(["channel", "well"])[list(_TITLES)].median()
    medians["saturated"] *= 100
    for row, channel in enumerate(channels):
        for column, (measure, what) in enumerate(_TITLES.items()):
            at = (below + (_PANEL[0] + _GAP) * row, _LABELS + _SLOT * column)
            values, least = medians.loc[channel, measure], 1.0 if measure == "saturated" else None
            title = f"{channel}: {what}"
            _draw_measure(canvas, values, plate, at=at, title=title, least=least)
    return canvas.png()


def shrink_heatmaps(png: bytes) -> bytes:
    """Halve the sides of a picture of `draw_heatmaps`, for a page: a quarter of its bytes.

    Its colours are brought to those that it is made of, so that a verdict keeps its own, however
    few wells have it.
    """
    greys = np.linspace(0, 255, 16, dtype=np.uint8)[:, None].repeat(3, axis=1)
    scale = _SCALE(np.linspace(0, 1, 128), bytes=True)[:, :3]
    colours = np.concatenate([_rgb([*_STATES.values(), _NO_IMAGE]), greys, scale])
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.tobytes())
    with Image.open(io.BytesIO(png)) as image:
        half = image.convert("RGB").reduce(2)
    file = io.BytesIO()
    half.quantize(palette=palette, dither=Image.Dither.NONE).save(file, "png", compress_level=9)
    return file.getvalue()


def _write_title(canvas: Canvas, frame: pd.DataFrame, wells: pd.DataFrame, plate: _Plate) -> None:
    first = frame.iloc[0]
    title = f"{first['experiment']} / {first['plate']}: {first['plate_verdict']}"
    if reason := first["plate_reason"]:
        title += f" ({_spell(reason)})"
    fields = frame.drop_duplicates(["well", "field"])["verdict"]
    places = plate.shape[0] * plate.shape[1]
    told = [
        f"{_count(wells['well_verdict'])} of {len(wells):,} wells",
        f"{_count(fields)} of {len(fields):,} fields",
        f"{places - len(wells):,} of {places:,} wells without an image",
    ]
    canvas.write(title, top=22, left=_LABELS, points=22, bold=True)
    canvas.write(";  ".join(told), top=66, left=_LABELS, points=14)


def _spell(reason: str) -> str:
    return reason.replace("_", " ").replace(",", ", ")


def _count(verdicts: pd.Series) -> str:
    return ", ".join(f"{(verdicts == state).sum():,} {state}" for state in _STATES)


def _draw_verdicts(canvas: Canvas, verdicts: pd.Series, plate: _Plate) -> None:
    states = list(_STATES)
    grid = plate.grid(verdicts.map(states.index))
    side = plate.fit(_BIG)
    palette = _rgb([*_STATES.values(), _NO_IMAGE])
    block = draw_wells(palette[np.nan_to_num(grid, nan=len(states)).astype(int)], side=side)
    mark_wells(block, np.argwhere(grid == states.index("warn")), side=side, mark="dot")
    mark_wells(block, np.argwhere(grid == states.index("fail")), side=side, mark="cross")
    canvas.paint(block, top=_HEAD, left=_LABELS)
    _label(canvas, plate, at=(_HEAD, _LABELS), side=side, title="verdict of each well", points=14)
    _draw_key(canvas, palette, top=_HEAD + _PANEL[0] + 60, left=_LABELS + 2 * _SLOT)


def _draw_key(canvas: Canvas, palette: Colours, *, top: int, left: int) -> None:
    """Explain colours and marks, below the panel of cells."""
    names = (
        "pass: every field of the well passes",
        "warn: a field fails or warns",
        "fail: every field fails, none is embedded",
        "no image, or no field that could be read",
    )
    side = 30
    key = draw_wells(palette[:, None], side=side)
    mark_wells(key, [(1, 0)], side=side, mark="dot")
    mark_wells(key, [(2, 0)], side=side, mark="cross")
    canvas.paint(key, top=top, left=left)
    for number, name in enumerate(names):
        middle = top + side * (number + 0.5)
        canvas.write(name, top=middle, left=left + 42, points=12, anchor="center")


def _rgb(colours: list[str]) -> Colours:
    shares = np.array([to_rgb(colour) for colour in colours])
    rgb: Colours = np.rint(shares * 255).astype(np.uint8)
    return rgb


def _draw_measure(
    canvas: Canvas,
    values: pd.Series,
    plate: _Plate,
    *,
    at: tuple[int, int],
    title: str,
    least: float | None = None,
) -> None:
    """Draw one value a well on a scale of its own; given `least`, from 0 to that at least."""
    side = plate.fit(_PANEL)
    grid = plate.grid(values.astype(float))
    known = grid[np.isfinite(grid)]
    low, high = np.percentile(known, (1, 99)) if known.size else (0.0, 0.0)
    if least is not None:
        low, high = 0.0, max(least, high)
    shares = np.nan_to_num((grid - low) / (high - low if high > low else 1.0))
    colours = _SCALE(shares, bytes=True)[:, :, :3]
    colours[~np.isfinite(grid)] = _rgb([_NO_IMAGE])[0]
    block = draw_wells(colours, side=side)
    canvas.paint(block, top=at[0], left=at[1])
    _label(canvas, plate, at=at, side=side, title=title, points=12)
    if known.size:
        _draw_scale(canvas, low, high, at=(at[0], at[1] + block.shape[1] + 10), height=len(block))


def _draw_scale(
    canvas: Canvas, low: float, high: float, *, at: tuple[int, int], height: int
) -> None:
    shares = np.linspace(1, 0, height)[:, None].repeat(14, axis=1)
    canvas.paint(_SCALE(shares, bytes=True)[:, :, :3], top=at[0], left=at[1])
    anchors: tuple[Anchor, ...] = ("bottom", "center", "top")
    for share, anchor in zip((0.0, 0.5, 1.0), anchors, strict=True):
        value, top = low + share * (high - low), at[0] + (1 - share) * height
        text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
        canvas.write(text, top=top, left=at[1] + 19, points=9, anchor=anchor)


def _label(
    canvas: Canvas, plate: _Plate, *, at: tuple[int, int], side: int, title: str, points: int
) -> None:
    """Name rows and columns as on the plate; each second or fourth where wells are small."""
    rows, columns = plate.shape
    step = 1 if side >= 24 else 2 if side >= 15 else 4
    small = 0.7 * points
    for row in range(0, rows, step):
        top = at[0] + side * (row + 0.5)
        canvas.write(
            row_name(row), top=top, left=at[1] - 5, points=small, align="right", anchor="center"
        )
    for column in range(0, columns, step):
        left = at[1] + side * (column + 0.5)
        canvas.write(
            f"{column + 1}", top=at[0] - 3, left=left, points=small, align="center", anchor="bottom"
        )
    canvas.write(title, top=at[0] - 20, left=at[1], points=points, anchor="bottom")


def _list_wells(canvas: Canvas, wells: pd.DataFrame, *, top: int, left: int) -> None:
    """Name the wells that do not pass, by verdict and reason; those that fail first."""
    bad = wells[wells["well_verdict"] != "pass"].reset_index()
    lines = ["no well fails or warns"] if bad.empty else []
    for (verdict, reason), group in bad.groupby(["well_verdict", "well_reason"]):
        lines.append(f"{verdict}: {_spell(str(reason))} ({len(group)})")
        named = textwrap.wrap(", ".join(group["well"]), 52)
        lines += [f"    {line}" for line in named]
    if len(lines) > _MAX_LINES:
        lines = [*lines[: _MAX_LINES - 1], "… and more: see the QC table"]
    canvas.write("wells to look at", top=top - 20, left=left, points=14, anchor="bottom")
    canvas.write("\n".join(lines), top=top, left=left, points=11)
