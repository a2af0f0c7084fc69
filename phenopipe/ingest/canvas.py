"""A picture in whole pixels: coloured wells and colour scales, and text that Pillow writes.

A Matplotlib axis with ticks for each of a plate's rows and columns takes a quarter of a second,
and a picture of QC has 26; its text alone takes a second. Painted as an array, with text drawn
straight into it, all takes half a second, and no line is blurred.
"""

import io
from functools import cache
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colours = NDArray[np.uint8]
Anchor = Literal["top", "center", "bottom"]

_DPI = 100
_WHITE = 255
_LINE = 1.35  # from line to line, in heights of the font
# Pillow's names: a text's left, middle or right, and the ascender, the middle or the descender.
_ALIGN = {"left": "l", "center": "m", "right": "r"}
_ANCHOR = {"top": "a", "center": "m", "bottom": "d"}


class Canvas:
    """White pixels to paint and write on; places are pixels from the top and from the left."""

    def __init__(self, height: int, width: int) -> None:
        self._image = Image.new("RGB", (width, height), "white")
        self._draw = ImageDraw.Draw(self._image)

    def paint(self, colours: Colours, *, top: int, left: int) -> None:
        """Paint a block ``(y, x, 3)``."""
        self._image.paste(Image.fromarray(colours), (left, top))

    def write(
        self,
        text: str,
        *,
        top: float,
        left: float,
        points: float,
        align: Literal["left", "center", "right"] = "left",
        anchor: Anchor = "top",
        bold: bool = False,
    ) -> None:
        """Write text whose anchor, by its left, middle or right, stands at the place."""
        font = _font("DejaVuSans-Bold" if bold else "DejaVuSans", round(points * _DPI / 72))
        for number, line in enumerate(text.split("\n")):
            at = (left, top + number * _LINE * font.size)
            self._draw.text(at, line, "black", font, _ALIGN[align] + _ANCHOR[anchor])

    def png(self) -> bytes:
        """Give the picture as a PNG; the same bytes each time."""
        file = io.BytesIO()
        self._image.save(file, format="png", compress_level=4)
        return file.getvalue()


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Load a font that Matplotlib brings, so that a picture does not depend on the machine's."""
    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    # Without Raqm, which a system may have or not, letters stand where they stand everywhere.
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def draw_wells(colours: Colours, *, side: int) -> Colours:
    """Make squares of a side in pixels of one colour a well, with lines between them if large."""
    block = colours.repeat(side, axis=0).repeat(side, axis=1)
    line = 1 + side // 20 if side >= 10 else 0
    for start in range(line):
        block[start::side] = _WHITE
        block[:, start::side] = _WHITE
    return block


def mark_wells(block: Colours, places: Any, *, side: int, mark: Literal["dot", "cross"]) -> None:
    """Mark wells of a block in black: dots or crosses, which do without colour."""
    y, x = np.abs(np.mgrid[:side, :side] - side / 2)
    thick = max(1.0, side / 12)
    shapes = {
        "dot": np.hypot(y, x) < side / 5,
        "cross": (np.abs(y - x) < thick) & (np.maximum(y, x) < side / 3.5),
    }
    for row, column in places:
        well = block[row * side : (row + 1) * side, column * side : (column + 1) * side]
        well[shapes[mark]] = 0
