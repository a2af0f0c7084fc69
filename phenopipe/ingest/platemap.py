"""What was done to each well: a platemap in any usual spelling, brought to one.

Columns are found by their spelling at cytomining (`well_position`, `Metadata_Well`,
`broad_sample`), JUMP (`Metadata_JCP2022`), LINCS and RxRx (`address`, `sirna`, `treatment`); a
`Metadata_` in front and the case do not matter. What no canonical column takes is carried along.

What is decided here, where a source leaves it open:

- An empty `broad_sample` with a solvent is the solvent: a negative control. Without, it is empty.
- RxRx3's `EMPTY_control` and `CRISPR_control` are negative controls.
- A column `concentration` is in micromolar (RxRx3); `mmoles_per_liter` (LINCS) is taken at its
  word, 1 mmol/l = 1000 µM. Both read the table, not the screen: LINCS's are of the source plate.
- Where no type is stated it follows from the column or the accession: an siRNA or guide column,
  BRD- (compound), BRDN (guide), ccsbBroad (open reading frame), JCP2022 by its number.
- A table with one row a site is read as one row a well.
"""

import gzip
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from phenopipe.errors import InputError
from phenopipe.plates import PlateKey, Well, clean_name
from phenopipe.schema import (
    CONTROL_TYPES,
    CROP_KEYS,
    PERTURBATION_TYPES,
    PLATEMAP_COLUMNS,
)

_log = logging.getLogger(__name__)

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
_SITE_COLUMNS = {"site", "site_id"}
_NAMES_FOR_NOTHING = {"", "na", "n/a", "nan", "none", "null"}
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
_MOST_NAMED = 5


def find_platemap(source: str | Path) -> Path | None:
    """Find the platemap that lies beside the plates: ``platemap.csv`` in the source folder.

    Returns
    -------
    Path or None
        None where there is none; one that is found is said so in the log.
    """
    path = Path(source) / "platemap.csv"
    if not path.is_file():
        return None
    _log.info("platemap: %s", path)
    return path


def read_platemap(path: str | Path) -> pd.DataFrame:
    """Read a platemap, comma- or tab-separated, with its columns in the canonical spelling.

    Parameters
    ----------
    path
        A CSV or TSV file, plain or gzipped, with a column of wells and one of perturbations.

    Returns
    -------
    DataFrame
        `PLATEMAP_COLUMNS`, then the carried columns (numbers as float64, else text), sorted as in
        the file; `experiment` and `plate` where the file has them. Wells read ``B03``; text that
        is not there is ``""``, a concentration NaN.

    Raises
    ------
    InputError
        If the file cannot be read or lacks a column, or if wells cannot be read or stand twice,
        or types are unknown: the first few are named.
    """
    path = Path(path)
    table = _read_table(path)
    columns = {name: _find_column(table, name) for name in SPELLINGS}
    _check_columns(columns, table, path)
    raw = _Spelled(table, columns, path)
    frame = _canonical(raw)
    for name in ("experiment", "plate"):
        if columns[name]:
            frame[name] = raw.text(name)
    carried = [name for name in table.columns if name not in columns.values()]
    frame = frame.join(_carry(table, carried))
    return _one_row_a_well(frame, carried, path)


def rows_of_plate(platemap: pd.DataFrame, key: PlateKey) -> pd.DataFrame:
    """Keep the rows of one plate, where the platemap is of many; sorted by well.

    A number in the column `plate` is also the plate named ``Plate<number>`` (RxRx).

    Raises
    ------
    InputError
        If the platemap has the plate, but in other experiments only.
    """
    rows = platemap
    if "plate" in rows:
        names = rows["plate"].map(clean_name)
        rows = rows[(names == key.plate) | ("Plate" + names == key.plate)]
    if "experiment" in rows:
        other = sorted(set(rows["experiment"]))
        rows = rows[rows["experiment"].map(clean_name) == key.experiment]
        if other and rows.empty and "plate" in platemap:
            raise InputError(
                f"expected rows for plate {key} in the platemap, found {key.plate} under "
                f"experiment {_name_some(other)}: give that name as experiment, or correct the "
                "platemap"
            )
    if rows["well"].duplicated().any():
        twice = sorted(set(rows["well"][rows["well"].duplicated()]))
        raise InputError(
            f"expected one row a well for plate {key} in the platemap, found {_name_some(twice)} "
            "more than once: remove the rows that are not this plate's"
        )
    order = rows["well"].map(Well.parse).sort_values(kind="stable").index
    own = rows.drop(columns=["experiment", "plate"], errors="ignore")
    return own.loc[order].reset_index(drop=True)


def platemap_table(rows: pd.DataFrame) -> pa.Table:
    """Convert one plate's rows to the table that is published: canonical types, carried columns."""
    schema = pa.schema({**PLATEMAP_COLUMNS, **carried_columns(rows)})
    return pa.Table.from_pandas(
        rows[schema.names], schema=schema, preserve_index=False
    ).replace_schema_metadata()


def carried_columns(rows: pd.DataFrame) -> dict[str, pa.DataType]:
    """Give name and type of the columns beyond the canonical ones."""
    names = [name for name in rows.columns if name not in {*PLATEMAP_COLUMNS, *CROP_KEYS}]
    numeric = pd.api.types.is_float_dtype
    return {name: pa.float64() if numeric(rows[name]) else pa.string() for name in names}


@dataclass(frozen=True)
class Orphans:
    """Wells that only one side knows.

    Parameters
    ----------
    without_row
        Imaged wells that the platemap does not name.
    without_image
        Wells of the platemap that were not imaged.
    """

    without_row: tuple[str, ...]
    without_image: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{len(self.without_row)} imaged wells without a platemap row "
            f"({_name_some(self.without_row)}); {len(self.without_image)} platemap rows without "
            f"an image ({_name_some(self.without_image)})"
        )


def orphans(platemap: pd.DataFrame, wells: Iterable[Well]) -> Orphans:
    """Compare one plate's platemap rows with its imaged wells, both ways.

    Examples
    --------
    >>> rows = pd.DataFrame({"well": ["A01", "A02"]})
    >>> orphans(rows, [Well.parse("A02"), Well.parse("A03")])
    Orphans(without_row=('A03',), without_image=('A01',))
    """
    named = {Well.parse(well) for well in platemap["well"]}
    imaged = set(wells)
    return Orphans(
        without_row=tuple(str(well) for well in sorted(imaged - named)),
        without_image=tuple(str(well) for well in sorted(named - imaged)),
    )


def _read_table(path: Path) -> pd.DataFrame:
    try:
        separator = _find_separator(path)
        table = pd.read_csv(
            path,
            sep=separator,
            index_col=False,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
        )
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"expected a platemap as CSV or TSV at {path}, found {error}: check the path, or save "
            "it anew as UTF-8 text"
        ) from error
    return pd.DataFrame({name: table[name].str.strip() for name in table.columns})


def _find_separator(path: Path) -> str:
    open_text = gzip.open if path.suffix == ".gz" else open
    with open_text(path, "rt", encoding="utf-8-sig") as file:
        return max(",\t;", key=file.readline().count)


def _find_column(table: pd.DataFrame, name: str) -> str | None:
    found = {_plain(column): column for column in reversed(table.columns)}
    return next((found[spelling] for spelling in SPELLINGS[name] if spelling in found), None)


def _plain(column: str) -> str:
    return column.strip().lower().replace(" ", "_").removeprefix("metadata_")


def _check_columns(columns: dict[str, str | None], table: pd.DataFrame, path: Path) -> None:
    named = ("perturbation", "gene", "guide", "compound", "smiles")
    wanted = [] if columns["well"] else [SPELLINGS["well"]]
    if not any(columns[name] for name in named):
        wanted.append(tuple(spelling for name in named for spelling in SPELLINGS[name]))
    for spellings in wanted:
        raise InputError(
            f"expected a column {' or '.join(spellings)} in {path}, found "
            f"{_name_some(list(table.columns))}: rename the column that holds it"
        )


@dataclass(frozen=True)
class _Spelled:
    """A table as it was written, and which of its columns is which."""

    table: pd.DataFrame
    columns: dict[str, str | None]
    path: Path

    def text(self, name: str) -> pd.Series:
        column = self.columns[name]
        if column is None:
            return pd.Series("", index=self.table.index, dtype=object)
        nothing = self.table[column].str.lower().isin(_NAMES_FOR_NOTHING)
        return self.table[column].mask(nothing, "").astype(object)

    def translate(self, name: str, meaning: Callable[[str], str], expected: str) -> pd.Series:
        """Translate a column's values; those that have no meaning are named in one error."""
        text = self.text(name)
        meanings: dict[str, str] = {}
        unknown: list[str] = []
        for value in dict.fromkeys(text):
            try:
                meanings[value] = meaning(value)
            except (KeyError, ValueError):
                unknown.append(value)
        if unknown:
            raise InputError(
                f"expected {expected} in column {self.columns[name]} of {self.path}, found "
                f"{_name_some([repr(value) for value in unknown])}: correct these rows"
            )
        return text.map(meanings)


def _canonical(raw: _Spelled) -> pd.DataFrame:
    frame = pd.DataFrame({name: raw.text(name) for name in PLATEMAP_COLUMNS})
    frame["well"] = raw.translate("well", lambda well: str(Well.parse(well)), "wells such as B03")
    types = raw.translate(
        "perturbation_type",
        lambda kind: _TYPE_SPELLINGS[kind.lower()] if kind else "",
        f"one of {', '.join(PERTURBATION_TYPES)}",
    )
    controls = raw.translate(
        "control_type", _control_type, f"one of {', '.join(filter(None, CONTROL_TYPES))} or nothing"
    )
    frame["concentration_um"] = _micromolar(raw)
    frame["perturbation"] = _name_perturbations(frame, raw)
    return _classify(frame, types, controls, raw)


def _control_type(text: str) -> str:
    plain = text.lower()
    # JUMP-Target tells its positive controls apart: poscon_diverse, poscon_orf, poscon_cp.
    return "positive" if plain.startswith("poscon") else _CONTROL_SPELLINGS[plain] if plain else ""


def _micromolar(raw: _Spelled) -> pd.Series:
    factor = 1000.0 if _plain(raw.columns["concentration_um"] or "") == "mmoles_per_liter" else 1.0
    text = raw.translate(
        "concentration_um", lambda number: str(float(number or "nan")), "plain numbers (micromolar)"
    )
    return text.astype("float64") * factor


def _name_perturbations(frame: pd.DataFrame, raw: _Spelled) -> pd.Series:
    """Take the first name that a row gives; a well with nothing in it has its solvent's."""
    name = frame["perturbation"]
    for fallback in ("gene", "compound", "guide", "smiles"):
        name = name.where(name != "", frame[fallback])
    solvent = next((c for c in raw.table.columns if _plain(c) == "solvent"), None)
    if solvent is not None:
        name = name.where(name != "", raw.table[solvent])
    return name.where(name != "", "EMPTY")


def _classify(
    frame: pd.DataFrame, types: pd.Series, controls: pd.Series, raw: _Spelled
) -> pd.DataFrame:
    """Complete type and control type from what the names themselves say."""
    of_sirna = _plain(raw.columns["guide"] or "") == "sirna"
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


def _carry(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    taken = {*PLATEMAP_COLUMNS, *CROP_KEYS, "embedding"}
    carried = {f"platemap_{n}" if n in taken else n: _numbers_or_text(table[n]) for n in names}
    return pd.DataFrame(carried, index=table.index)


def _numbers_or_text(column: pd.Series) -> pd.Series:
    """Read a column as numbers if all of it is, and none is a code with leading zeros."""
    filled = column.mask(column.str.lower().isin(_NAMES_FOR_NOTHING))
    numbers = pd.to_numeric(filled, errors="coerce").astype("float64")
    is_code = filled.str.fullmatch(r"0\d+").fillna(value=False).any()
    unread = (numbers.isna() & filled.notna()).any()
    if filled.isna().all() or unread or is_code:
        return column.astype(object)
    return numbers


def _one_row_a_well(frame: pd.DataFrame, carried: Sequence[str], path: Path) -> pd.DataFrame:
    sites = [name for name in carried if _plain(name) in _SITE_COLUMNS]
    if sites:
        frame = frame.drop(columns=[n for n in frame.columns if _plain(n) in _SITE_COLUMNS])
        frame = frame.drop_duplicates(ignore_index=True)
    keys = [name for name in ("experiment", "plate", "well") if name in frame]
    twice = frame.loc[frame.duplicated(keys), keys].agg("/".join, axis=1)
    if len(twice):
        raise InputError(
            f"expected one row a well in {path}, found more for {_name_some(sorted(set(twice)))}: "
            "remove the rows that are wrong, or add a column plate if the file is of many plates"
        )
    return frame


def _name_some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    shown = ", ".join(names[:_MOST_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown or "none"
