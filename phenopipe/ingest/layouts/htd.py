"""The HTD file of MetaXpress: what was to be acquired of a plate."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from phenopipe.errors import InputError
from phenopipe.plates import FieldKey, Well

# Above these a number in the file is damage, not a plan.
_MOST_STEPS = 10_000
_LARGEST = (32, 48)


@dataclass(frozen=True)
class AcquisitionPlan:
    """What an HTD file promises of its plate.

    Parameters
    ----------
    name
        The HTD file's name, for messages.
    shape
        Rows and columns of the plate.
    wells
        The wells selected.
    n_sites
        Sites a well; the microscope numbers the selected ones from 1.
    waves
        Name of each wave collected, by its number as text.
    n_times
        Time points.
    n_steps
        z-steps; 0 where no z-series was asked for.
    """

    name: str
    shape: tuple[int, int]
    wells: frozenset[Well]
    n_sites: int
    waves: Mapping[str, str]
    n_times: int
    n_steps: int

    @property
    def fields(self) -> set[FieldKey]:
        """Every field that was to be acquired."""
        return {FieldKey(well, site) for well in self.wells for site in range(1, self.n_sites + 1)}

    @property
    def n_images(self) -> int:
        """Images that were to be acquired, without projections."""
        return len(self.fields) * len(self.waves) * self.n_times * max(1, self.n_steps)


def read_plan(path: Path) -> AcquisitionPlan:
    """Read an HTD file, whatever its code page.

    Raises
    ------
    InputError
        If it cannot be read, or lacks the plate's size, its number of waves or of time
        points.

    Notes
    -----
    The files are quoted comma-separated text in the acquiring computer's code page, so they are
    read as Latin-1, which takes every byte; only names of waves can look odd.
    """
    try:
        text = path.read_bytes().decode("latin-1")
        rows = {
            row[0]: row[1:] for row in csv.reader(text.splitlines(), skipinitialspace=True) if row
        }
        return _plan(path.name, rows)
    except (OSError, csv.Error, ValueError) as error:
        raise InputError(
            f"expected an HTD file of MetaXpress in {path}, found one that cannot be read "
            f"({error}): copy it anew from the microscope, or remove it to go without"
        ) from error


def _plan(name: str, rows: Mapping[str, list[str]]) -> AcquisitionPlan:
    shape = _count(rows, "YWells", most=_LARGEST[0]), _count(rows, "XWells", most=_LARGEST[1])
    return AcquisitionPlan(
        name=name,
        shape=shape,
        wells=frozenset(_selected_wells(rows, shape)),
        n_sites=_count_sites(rows),
        waves=_collected_waves(rows),
        n_times=_count(rows, "TimePoints", most=_MOST_STEPS, least=0) or 1,
        n_steps=_count(rows, "ZSteps", most=_MOST_STEPS) if _is_on(rows, "ZSeries") else 0,
    )


def _count(rows: Mapping[str, list[str]], name: str, *, most: int, least: int = 1) -> int:
    if not rows.get(name):
        raise ValueError(f"no {name}")
    number = int(rows[name][0])
    if not least <= number <= most:
        raise ValueError(f"{name} is {number}, not within {least} to {most}")
    return number


def _is_on(rows: Mapping[str, list[str]], name: str) -> bool:
    return bool(rows.get(name)) and rows[name][0].upper() in {"TRUE", "1"}


def _selected_wells(rows: Mapping[str, list[str]], shape: tuple[int, int]) -> list[Well]:
    return [
        Well(row, column)
        for row in range(shape[0])
        for column, flag in enumerate(rows.get(f"WellsSelection{row + 1}", [])[: shape[1]])
        if flag.upper() == "TRUE"
    ]


def _count_sites(rows: Mapping[str, list[str]]) -> int:
    if not _is_on(rows, "Sites"):
        return 1
    flags = [row for name, row in rows.items() if name.startswith("SiteSelection")]
    return sum(flag.upper() == "TRUE" for row in flags for flag in row) or 1


def _collected_waves(rows: Mapping[str, list[str]]) -> dict[str, str]:
    numbers = [str(number) for number in range(1, _count(rows, "NWavelengths", most=100) + 1)]
    return {
        number: "".join(rows.get(f"WaveName{number}", [])[:1]).strip()
        for number in numbers
        if f"WaveCollect{number}" not in rows or _is_on(rows, f"WaveCollect{number}")
    }
