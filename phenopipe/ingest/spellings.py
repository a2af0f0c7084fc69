"""A platemap's columns and values in any usual spelling, brought to one.

Columns are found by their spelling at cytomining (`well_position`, `Metadata_Well`,
`broad_sample`), JUMP (`Metadata_JCP2022`), LINCS and RxRx (`address`, `sirna`, `treatment`); a
`Metadata_` in front and the case do not matter. What no canonical column takes is carried along.

What is decided here, where a source leaves it open:

- A well is ``B03`` or ``b3``, ``B-3``, ``B:03``, ``Well B3``, ``R02C03``; or a row (letters, or a
  number from 1) and a column in two columns. A number alone is refused: it may count along rows
  or columns.
- An empty `broad_sample` with a solvent is the solvent: a negative control. Without, it is empty.
- RxRx3's `EMPTY_control` and `CRISPR_control` are negative controls.
- A column `concentration` is in micromolar (RxRx3); `mmoles_per_liter` (LINCS) is taken at its
  word, 1 mmol/l = 1000 µM. Both read the table, not the screen: LINCS's are of the source plate.
- Where no type is stated it follows from the column or the accession: an siRNA or guide column,
  BRD- (compound), BRDN (guide), ccsbBroad (open reading frame), JCP2022 by its number.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from phenopipe.errors import InputError
from phenopipe.ingest.tables import find_column, name_some, plain_name
from phenopipe.plates import Well, row_name
from phenopipe.schema import (
    CONTROL_TYPES,
    CROP_KEYS,
    NAMES_FOR_NOTHING,
    PERTURBATION_TYPES,
    PLATEMAP_COLUMNS,
)

# Spellings of each column, the first that a table has is taken (case and `Metadata_` aside).
SPELLINGS = {
    "experiment": ("experiment", "experiment_name"),
    "plate": ("plate", "plate_name", "plate_barcode", "assay_plate_barcode", "barcode"),
    "well": ("well", "well_position", "address", "well_name"),
    "perturbation": ("perturbation", "treatment", "broad_sample", "jcp2022"),
    "perturbation_type": ("perturbation_type", "perturbation_modality", "modality"),
    "gene": ("gene", "gene_symbol", "symbol"),
    "guide": ("guide", "guide_id", "sgrna", "sirna"),
    "compound": ("compound", "compound_name", "pert_iname"),
    "smiles": ("smiles",),
    "concentration_um": ("concentration_um", "concentration", "mmoles_per_liter"),
    "control_type": ("control_type", "pert_type", "well_type"),
}
# A well in two columns, where a table has none for the well itself.
_ROW = ("row", "well_row", "row_name")
_COLUMN = ("column", "col", "well_column", "well_col")
_WELL = re.compile(r"(?:well[\s_-]*)?([A-Z]{1,2})[\s_:/-]*0*(\d{1,2})", re.IGNORECASE | re.ASCII)
_ROW_AND_COLUMN = re.compile(r"R0*(\d{1,2})[\s_-]*C0*(\d{1,2})", re.IGNORECASE | re.ASCII)

_CONTROL_SPELLINGS = {
    **dict.fromkeys(("trt", "treatment", "empty", "control"), ""),
    **dict.fromkeys(("negative", "negcon", "negative_control"), "negative"),
    **dict.fromkeys(("positive", "poscon", "positive_control"), "positive"),
}
_TYPE_SPELLINGS = {**{name: name for name in PERTURBATION_TYPES}, "any": "", "unknown": ""}
_RXRX_CONTROLS = {"EMPTY_control", "CRISPR_control"}
# JUMP's own control accessions (jump-cellpainting/datasets, perturbation_control.csv).
_JUMP_NEGATIVE = {33924, 800001, 800002, 915128, 915129, 915130, 915131}
_JUMP_POSITIVE = {37716, 25848, 46054, 35095, 64022, 50797, 12818, 85227, 805264, 915132}


def read_well(text: str) -> Well:
    """Read a well as any table spells it.

    Raises
    ------
    InputError
        If it is no well of a plate of up to 1536.

    Examples
    --------
    >>> [str(read_well(text)) for text in ("b3", "B-03", "well B3", "R02C03", "AF48")]
    ['B03', 'B03', 'B03', 'B03', 'AF48']
    """
    if match := _ROW_AND_COLUMN.fullmatch(text):
        row, column = int(match[1]), int(match[2])
        return Well.parse(f"{row_name(row - 1) if row else ''}{column}")
    spelled = _WELL.fullmatch(text)
    return Well.parse(f"{spelled[1]}{spelled[2]}" if spelled else text)


@dataclass(frozen=True)
class SpelledTable:
    """A table as it was written, and which of its columns is which.

    Parameters
    ----------
    table
        Every cell a string.
    columns
        The table's own name of each column of `SPELLINGS`; None where it has none.
    path
        Where it was read, for messages.
    """

    table: pd.DataFrame
    columns: Mapping[str, str | None]
    path: Path

    def text(self, name: str) -> pd.Series:
        """Give a column's cells; ``""`` for a name for nothing (NA, none …) or no column."""
        column = self.columns[name]
        if column is None:
            return pd.Series("", index=self.table.index, dtype=object)
        nothing = self.table[column].str.lower().isin(NAMES_FOR_NOTHING)
        return self.table[column].mask(nothing, "").astype(object)

    def carried(self) -> pd.DataFrame:
        """Give the columns that no canonical one takes: numbers as float64, else text."""
        names = [name for name in self.table.columns if name not in self.columns.values()]
        taken = {*PLATEMAP_COLUMNS, *CROP_KEYS, "embedding"}
        carried = {
            f"platemap_{name}" if name in taken else name: _numbers_or_text(self.table[name])
            for name in names
        }
        return pd.DataFrame(carried, index=self.table.index)


def find_columns(table: pd.DataFrame, path: Path) -> SpelledTable:
    """Find which column is which.

    Raises
    ------
    InputError
        If there is none for the well, or none that says what was done.
    """
    names = list(table.columns)
    columns = {name: find_column(names, spellings) for name, spellings in SPELLINGS.items()}
    done = ("perturbation", "gene", "guide", "compound", "smiles")
    wanted: list[Sequence[str]] = []
    if not columns["well"] and not all(_find_row_and_column(names)):
        wanted.append((*SPELLINGS["well"], "row and column"))
    if not any(columns[name] for name in done):
        wanted.append([spelling for name in done for spelling in SPELLINGS[name]])
    for spellings in wanted:
        raise InputError(
            f"expected a column {' or '.join(spellings)} in {path}, found {name_some(names)}: "
            "rename the column that holds it, or add one"
        )
    return SpelledTable(table, columns, path)


def spell_canonically(raw: SpelledTable) -> pd.DataFrame:
    """Give the table's `PLATEMAP_COLUMNS`, with type and control type completed.

    Raises
    ------
    InputError
        If wells, types or numbers cannot be read: the first few are named.
    """
    frame = pd.DataFrame({name: raw.text(name) for name in PLATEMAP_COLUMNS})
    frame["well"] = _translate(
        raw, _spelled_wells(raw), lambda well: str(read_well(well)), ("well", "wells such as B03")
    )
    types = _translate(
        raw,
        raw.text("perturbation_type"),
        lambda kind: _TYPE_SPELLINGS[kind.lower()] if kind else "",
        ("perturbation_type", f"one of {', '.join(PERTURBATION_TYPES)}"),
    )
    controls = _translate(
        raw,
        raw.text("control_type"),
        _control_type,
        ("control_type", f"one of {', '.join(filter(None, CONTROL_TYPES))} or nothing"),
    )
    frame["concentration_um"] = _micromolar(raw)
    frame["perturbation"] = _name_perturbations(frame, raw)
    return _classify(frame, types, controls, raw)


def _find_row_and_column(names: Sequence[str]) -> tuple[str | None, str | None]:
    return find_column(names, _ROW), find_column(names, _COLUMN)


def _spelled_wells(raw: SpelledTable) -> pd.Series:
    if raw.columns["well"]:
        return raw.text("well")
    row, column = _find_row_and_column(list(raw.table.columns))
    rows, columns = raw.table[row].astype(object), raw.table[column].astype(object)
    return rows.where(~rows.str.fullmatch(r"\d+"), "R" + rows + "C") + columns


def _translate(
    raw: SpelledTable, text: pd.Series, meaning: Callable[[str], str], wanted: tuple[str, str]
) -> pd.Series:
    """Translate a column's values; those that have no meaning are named in one error."""
    name, expected = wanted
    meanings: dict[str, str] = {}
    unknown: list[str] = []
    for value in dict.fromkeys(text):
        try:
            meanings[value] = meaning(value)
        except (KeyError, ValueError):
            unknown.append(value)
    if unknown:
        raise InputError(
            f"expected {expected} in column {raw.columns[name] or name} of {raw.path}, found "
            f"{name_some([repr(value) for value in unknown])}: correct these rows"
        )
    return text.map(meanings).astype(object)


def _control_type(text: str) -> str:
    plain = text.lower()
    # JUMP-Target tells its positive controls apart: poscon_diverse, poscon_orf, poscon_cp.
    return "positive" if plain.startswith("poscon") else _CONTROL_SPELLINGS[plain] if plain else ""


def _micromolar(raw: SpelledTable) -> pd.Series:
    name = plain_name(raw.columns["concentration_um"] or "")
    factor = 1000.0 if name == "mmoles_per_liter" else 1.0
    text = _translate(
        raw,
        raw.text("concentration_um"),
        lambda number: str(float(number or "nan")),
        ("concentration_um", "plain numbers (micromolar)"),
    )
    return text.astype("float64") * factor


def _name_perturbations(frame: pd.DataFrame, raw: SpelledTable) -> pd.Series:
    """Take the first name that a row gives; a well with nothing in it has its solvent's."""
    name = frame["perturbation"]
    for fallback in ("gene", "compound", "guide", "smiles"):
        name = name.where(name != "", frame[fallback])
    solvent = find_column(list(raw.table.columns), ["solvent"])
    if solvent is not None:
        name = name.where(name != "", raw.table[solvent])
    return name.where(name != "", "EMPTY")


def _classify(
    frame: pd.DataFrame, types: pd.Series, controls: pd.Series, raw: SpelledTable
) -> pd.DataFrame:
    """Complete type and control type from what the names themselves say."""
    of_sirna = plain_name(raw.columns["guide"] or "") == "sirna"
    said = [
        _infer(name, guide=guide, compound=compound or smiles, sirna=of_sirna)
        for name, guide, compound, smiles in zip(
            *(frame[column] for column in ("perturbation", "guide", "compound", "smiles")),
            strict=True,
        )
    ]
    inferred = pd.DataFrame(said, index=frame.index, columns=["kind", "control"])
    controls = controls.where(controls != "", inferred["control"])
    rxrx = frame["perturbation"].isin(_RXRX_CONTROLS)
    types = types.mask(rxrx, "control")
    types = types.mask((types == "") & (controls == "negative"), "control")
    types = types.where(types != "", inferred["kind"])
    frame["perturbation_type"] = types.mask((types == "") & (controls != ""), "control")
    frame["control_type"] = controls
    for name in ("gene", "guide", "compound"):
        frame[name] = frame[name].mask(frame[name].isin(_RXRX_CONTROLS), "")
    compound = (frame["perturbation_type"] == "compound") & (frame["compound"] == "")
    frame["compound"] = frame["compound"].mask(compound, frame["perturbation"])
    return frame


def _infer(name: str, *, guide: str, compound: str, sirna: bool) -> tuple[str, str]:
    """Say type and control type of one perturbation by its accession or columns."""
    if name in _RXRX_CONTROLS or name.upper() == "DMSO":
        return "control", "negative"
    if name.upper() == "EMPTY":
        return "empty", ""
    if match := re.fullmatch(r"JCP2022_(\d{6})", name):
        return _infer_jump(int(match[1]))
    signs = {
        "sirna": guide and sirna,
        "crispr": guide or name.startswith("BRDN"),
        "orf": name.startswith("ccsbBroad"),
        "compound": compound or name.startswith("BRD-"),
    }
    return next((kind for kind, holds in signs.items() if holds), ""), ""


def _infer_jump(number: int) -> tuple[str, str]:
    """Read a JUMP accession: compounds below 800000, CRISPR from there, ORF from 900000."""
    if number == 999999:
        return "empty", ""
    if number in _JUMP_NEGATIVE:
        return "control", "negative"
    kind = "compound" if number < 800000 else "crispr" if number < 900000 else "orf"
    return kind, "positive" if number in _JUMP_POSITIVE else ""


def _numbers_or_text(column: pd.Series) -> pd.Series:
    """Read a column as numbers if all of it is, and none is a code with leading zeros."""
    filled = column.mask(column.str.lower().isin(NAMES_FOR_NOTHING))
    numbers = pd.to_numeric(filled, errors="coerce").astype("float64")
    is_code = filled.str.fullmatch(r"0\d+").fillna(value=False).any()
    unread = (numbers.isna() & filled.notna()).any()
    if filled.isna().all() or unread or is_code:
        return column.astype(object)
    return numbers
