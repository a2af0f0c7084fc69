"""A picture in whole pixels: coloured wells and colour scales, and text that Matplotlib writes.

A Matplotlib axis with ticks for each of a plate's rows and columns takes a quarter of a second,
and a picture of QC has 26. Painted as an array it takes a tenth of that, and no line is blurred.
"""

import io
from typing import Any, Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.transforms import IdentityTransform
from numpy.typing import NDArray

Colours = NDArray[np.uint8]
Anchor = Literal["top", "center", "bottom"]

_DPI = 100
_WHITE = 255


class Canvas:
    """White pixels to paint and write on; places are pixels from the top and from the left."""

    def __init__(self, height: int, width: int) -> None:
        self.pixels: Colours = np.full((height, width, 3), _WHITE, np.uint8)
        self._figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
        # Matplotlib gives its canvas no types.
        self._canvas: Any = FigureCanvasAgg(self._figure)

    def paint(self, colours: Colours, *, top: int, left: int) -> None:
        """Paint a block ``(y, x, 3)``."""
        height, width = colours.shape[:2]
        self.pixels[top : top + height, left : left + width] = colours

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
        self._figure.text(
            left,
            len(self.pixels) - top,
            text,
            fontsize=points,
            ha=align,
            va=anchor,
            fontweight="bold" if bold else "normal",
            linespacing=1.35,
            parse_math=False,
            transform=IdentityTransform(),
        )

    def png(self) -> bytes:
        """Give the picture as a PNG; the same bytes each time."""
        self._canvas.draw()
        # Black text on white: the darker of both is the text above the wells. Matplotlib's own
        # way to lay an image below takes three times as long as all of the text.
        text = np.asarray(self._canvas.buffer_rgba())[:, :, :3]
        file = io.BytesIO()
        # Matplotlib signs images with its version unless told otherwise.
        signed, fast = {"Software": "phenopipe"}, {"compress_level": 4}
        pixels = np.minimum(self.pixels, text)
        imsave(file, pixels, format="png", metadata=signed, pil_kwargs=fast)
        return file.getvalue()


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
