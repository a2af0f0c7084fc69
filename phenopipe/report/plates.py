"""Plate-shaped figures: one cell a well, where it stands on the plate."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from phenopipe.plates import Well, plate_shape, row_name
from phenopipe.report.fields import (
    STATES,
    Loss,
    judge_fields,
    judge_wells,
    list_losses,
    measure_wells,
)
from phenopipe.report.figures import paint
from phenopipe.report.sources import PlateFacts

# The scale of focus runs from the robust deviations that fail a field up to the plate's median.
FOCUS_RANGE = (-6.0, 0.0)
SEQUENTIAL = "cividis"


@dataclass(frozen=True)
class Mark:
    """A well that is told apart by its state, with what a reader sees on pointing at it."""

    well: str
    row: int
    column: int
    state: str
    title: str


@dataclass(frozen=True)
class Plate:
    """One plate, judged and measured, ready to be drawn."""

    name: str
    shape: tuple[int, int]
    row_names: tuple[str, ...]
    passed: tuple[tuple[int, int], ...]
    absent: tuple[tuple[int, int], ...]
    marks: tuple[Mark, ...]
    cells: str
    focus: str
    losses: tuple[Loss, ...]
    n_wells: int
    n_fields: int
    n_kept: int
    n_crops: int
    median_cells: float
    most_cells: float

    @property
    def n_excluded(self) -> int:
        """The fields that were left out."""
        return self.n_fields - self.n_kept

    def named(self, state: str) -> list[str]:
        """Name the wells in a state."""
        return [mark.well for mark in self.marks if mark.state == state]


def draw_plates(plates: Sequence[PlateFacts]) -> list[Plate]:
    """Judge, measure and draw each plate, cells on one scale for all."""
    measures = [measure_wells(plate.qc) for plate in plates]
    most = cell_scale(measures)
    return [_draw(plate, found, most) for plate, found in zip(plates, measures, strict=True)]


def cell_scale(measures: Sequence[pd.DataFrame]) -> float:
    """Choose the top of the scale of cells: the 99th percentile of all wells."""
    cells = pd.concat([found["cells"] for found in measures]).dropna().astype(float)
    return max(1.0, float(np.ceil(cells.quantile(0.99)))) if len(cells) else 1.0


def _draw(plate: PlateFacts, measures: pd.DataFrame, most_cells: float) -> Plate:
    fields = judge_fields(plate)
    states = judge_wells(fields)
    wells = {name: Well.parse(name) for name in states.index}
    shape = plate_shape(list(wells.values()))
    losses = list_losses(plate, fields)
    return Plate(
        name=str(plate.key),
        shape=shape,
        row_names=tuple(row_name(row) for row in range(shape[0])),
        passed=_places(wells[name] for name in states.index[states == "pass"]),
        absent=_absent(wells, shape),
        marks=_mark(states, wells, fields),
        cells=_paint_wells(measures["cells"], shape, low=0.0, high=most_cells),
        focus=_paint_wells(measures["focus"], shape, low=FOCUS_RANGE[0], high=FOCUS_RANGE[1]),
        losses=tuple(losses),
        n_wells=len(states),
        n_fields=len(fields),
        n_kept=int(fields["kept"].sum()),
        n_crops=plate.n_crops,
        median_cells=float(measures["cells"].median()),
        most_cells=most_cells,
    )


def _places(wells: Iterable[Well]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((well.row, well.column) for well in wells))


def _absent(wells: dict[str, Well], shape: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    there = set(_places(wells.values()))
    return tuple(place for place in np.ndindex(*shape) if place not in there)


def _mark(states: pd.Series, wells: dict[str, Well], fields: pd.DataFrame) -> tuple[Mark, ...]:
    faulty = fields[fields["verdict"] != "pass"].groupby("well")
    marks = []
    for name, group in faulty:
        told = "; ".join(
            f"field {row['field']}: {row['reason'] or row['verdict']}"
            for row in group.to_dict("records")
        )
        state = str(states[name])
        well = wells[str(name)]
        marks.append(Mark(str(name), well.row, well.column, state, f"{name} {state}: {told}"))
    return tuple(sorted(marks, key=lambda mark: (mark.row, mark.column)))


def _paint_wells(values: pd.Series, shape: tuple[int, int], *, low: float, high: float) -> str:
    grid = np.full(shape, np.nan)
    for name, value in values.items():
        well = Well.parse(str(name))
        grid[well.row, well.column] = value
    return paint(grid, colours=SEQUENTIAL, low=low, high=high)


def count_states(plates: Sequence[Plate]) -> dict[str, int]:
    """Count the wells in each state over all plates."""
    counts = {state: sum(len(plate.named(state)) for plate in plates) for state in STATES}
    return counts | {"pass": sum(len(plate.passed) for plate in plates)}
