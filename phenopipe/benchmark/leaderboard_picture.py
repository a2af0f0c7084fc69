"""The leaderboard as a picture: a panel a metric and source, a line a map."""

import math
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from phenopipe.errors import InputError

# Before and after as in the report: vermillion and blue of Okabe & Ito (2008), which colour-blind
# readers tell apart; and two shapes.
STYLES = {"none": ("#D55E00", "o"), "arms": ("#0072B2", "D")}
_OTHER_STYLE = ("#000000", "s")
_CHANCE = "#666666"
_APART = 0.16

FORMATS = (".svg", ".png", ".pdf")

_PANEL_INCHES = 2.9
_LINE_INCHES = 0.45
_COLUMNS = 4


def draw_leaderboard(table: pd.DataFrame, path: Path) -> None:
    """Draw the leaderboard into a file.

    A panel is a metric on a source; a line is a map, in the order of its mean rank, with a point
    and a 95% interval before and after its correction. A grey tick is what chance gives.

    Parameters
    ----------
    table
        From :func:`phenopipe.benchmark.leaderboard.rank_maps`.
    path
        An ``.svg``, ``.png`` or ``.pdf`` file to write.

    Raises
    ------
    InputError
        If the file is of another kind.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"expected a picture as {', '.join(FORMATS)}, found {path.name}")
    panels = list(table.groupby(["metric", "source"], sort=True))
    lines = _name_lines(table)
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    height = _LINE_INCHES * (len(lines) + 1) + 0.7
    size = (_PANEL_INCHES * columns + 1.5, height * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, ((metric, source), scores) in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, scores, list(lines))
        axes.set_title(f"{str(metric).replace('_', ' ')}\n{source}", fontsize=9, loc="left")
        axes.set_yticks(range(len(lines)), list(lines.values()))
        axes.set_ylim(len(lines) - 0.5, -0.5)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    _draw_legend(figure, [side for side in STYLES if side in set(table["correction"])])
    # Without the time of drawing, the same scores give the same bytes.
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with rc_context({"svg.hashsalt": "phenopipe", "svg.fonttype": "none"}):
        figure.savefig(path, dpi=150, metadata=undated.get(path.suffix.lower()))


def _name_lines(table: pd.DataFrame) -> dict[str, str]:
    """Name the maps as the picture does, by name, in the order of their mean rank."""
    order = table.groupby("map")["rank"].mean().sort_values(kind="stable").index
    facts = table.drop_duplicates("map").set_index("map").loc[order]
    return {str(row.Index): f"{row.Index}\n{row.model}, {row.align}" for row in facts.itertuples()}


def _draw_panel(axes: Axes, scores: pd.DataFrame, maps: list[str]) -> None:
    places = {name: place for place, name in enumerate(maps)}
    for correction, side in scores.groupby("correction"):
        colour, marker = STYLES.get(str(correction), _OTHER_STYLE)
        # Before above after, so that neither interval hides the other.
        y = side["map"].map(places) + (-_APART if correction == "none" else _APART)
        axes.hlines(y, side["low"], side["high"], color=colour, linewidth=1.6)
        axes.plot(side["value"], y, color=colour, marker=marker, markersize=5, linestyle="")
        axes.vlines(side["null"], y - _APART, y + _APART, color=_CHANCE, linewidth=1.4)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)


def _draw_legend(figure: Figure, corrections: list[str]) -> None:
    names = {"none": "before correction", "arms": "arms corrected"}
    handles = [
        Line2D([], [], color=STYLES[side][0], marker=STYLES[side][1], label=names[side])
        for side in corrections
    ]
    chance = Line2D(
        [], [], color=_CHANCE, marker="|", markersize=11, linestyle="", label="by chance"
    )
    figure.legend(
        handles=[*handles, chance],
        loc="outside lower center",
        ncols=len(handles) + 1,
        frameon=False,
        fontsize=9,
        title="point and 95% interval",
        title_fontsize=9,
    )
