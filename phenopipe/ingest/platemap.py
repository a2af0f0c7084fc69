"""What was done to each well: a platemap of one or many plates, by the canonical columns.

How columns and values are spelled is in `phenopipe.ingest.spellings`; tables that name a map for
each plate's barcode in `phenopipe.ingest.barcode_platemap`. A table with one row a site is read as
one row a well.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from phenopipe.errors import InputError
from phenopipe.ingest.barcode_platemap import (
    find_map,
    is_barcode_platemap,
    join_external,
    keep_map,
)
from phenopipe.ingest.spellings import SPELLINGS, SpelledTable, find_columns, spell_canonically
from phenopipe.ingest.tables import find_column, name_some, plain_name, read_header, read_table
from phenopipe.plates import PLATE_SHAPES, PlateKey, Well, clean_name
from phenopipe.schema import CROP_KEYS, PLATEMAP_COLUMNS

_log = logging.getLogger(__name__)

# What may lie beside the plates; RxRx publishes `metadata.csv`, a name that others use too.
_BESIDE = ("platemap.csv", "platemap.tsv", "platemap.txt", "barcode_platemap.csv")
_RXRX = "metadata.csv"
_SITE_COLUMNS = {"site", "site_id"}


def find_platemap(source: str | Path) -> Path | None:
    """Find the platemap that lies beside the plates, in the source folder.

    It is named ``platemap.csv`` (``.tsv``, ``.txt``), ``barcode_platemap.csv`` (cytomining), or
    ``metadata.csv`` if it has the columns of RxRx.

    Returns
    -------
    Path or None
        None where there is none; one that is found is said so in the log.

    Raises
    ------
    InputError
        If there are two.
    """
    source = Path(source)
    found = [source / name for name in _BESIDE if (source / name).is_file()]
    if _is_rxrx(source / _RXRX):
        found.append(source / _RXRX)
    if len(found) > 1:
        raise InputError(
            f"expected one platemap in {source}, found {name_some([path.name for path in found])}: "
            "name the one to read as platemap, or move the others away"
        )
    for path in found:
        _log.info("platemap: %s", path)
    return found[0] if found else None


def read_plate_rows(platemap: str | Path | None, key: PlateKey) -> pd.DataFrame:
    """Read what was done to each well of one plate.

    Parameters
    ----------
    platemap
        A table of one or many plates; a ``barcode_platemap.csv``, of whose maps only the plate's
        own is read; a folder that holds one of these; or None.
    key
        The plate. A number in the table's column `plate` is also the plate named
        ``Plate<number>`` (RxRx).

    Returns
    -------
    DataFrame
        As `read_platemap`, without `experiment` and `plate`, sorted by well; no row where there
        is no platemap, or it does not name the plate.

    Raises
    ------
    InputError
        As `read_platemap`, for the rows of this plate; if the folder holds no platemap or two, the
        plate has two maps or its map is not there, or its rows stand under another experiment.
    """
    if platemap is None:
        return _no_rows()
    path = _resolve(Path(platemap))
    if not is_barcode_platemap(path):
        return rows_of_plate(read_platemap(path, key), key)
    named = find_map(path, key)
    if named is None:
        _log.warning("%s: %s does not name this plate's barcode", key, path)
        return _no_rows()
    return rows_of_plate(keep_map(read_platemap(named.path), named), key)


def read_platemap(path: str | Path, key: PlateKey | None = None) -> pd.DataFrame:
    """Read a platemap, comma- or tab-separated, with its columns in the canonical spelling.

    Parameters
    ----------
    path
        A CSV or TSV file, plain or gzipped, with a column of wells and one of perturbations.
    key
        Keep the rows of this plate only, where the file is of many.

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
    table = read_table(path)
    if key is not None:
        table = _keep_plate(table, key)
    raw = find_columns(join_external(table, path), path)
    frame = spell_canonically(raw)
    for name in ("experiment", "plate"):
        if raw.columns[name]:
            frame[name] = raw.text(name)
    return _one_row_a_well(frame.join(raw.carried()), raw)


def rows_of_plate(platemap: pd.DataFrame, key: PlateKey) -> pd.DataFrame:
    """Keep the rows of one plate, where the platemap is of many; sorted by well.

    A number in the column `plate` is also the plate named ``Plate<number>`` (RxRx).

    Raises
    ------
    InputError
        If the platemap has the plate, but in other experiments only; or a well of it twice.
    """
    rows = _keep_plate(platemap, key)
    if rows["well"].duplicated().any():
        twice = sorted(set(rows["well"][rows["well"].duplicated()]))
        raise InputError(
            f"expected one row a well for plate {key} in the platemap, found {name_some(twice)} "
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
    off_plate
        Wells of the platemap that the plate does not have, such as P24 on 96 wells.
    """

    without_row: tuple[str, ...]
    without_image: tuple[str, ...]
    off_plate: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = {
            "imaged wells without a platemap row": self.without_row,
            "platemap rows without an image": self.without_image,
            "platemap rows for wells that the plate does not have": self.off_plate,
        }
        return "; ".join(
            f"{len(wells)} {what} ({name_some(wells)})" for what, wells in parts.items() if wells
        )

    def __bool__(self) -> bool:
        """Tell whether any well has no counterpart."""
        return bool(self.without_row or self.without_image or self.off_plate)


def orphans(
    platemap: pd.DataFrame, wells: Iterable[Well], *, shape: tuple[int, int] | None = None
) -> Orphans:
    """Compare one plate's platemap rows with its imaged wells, both ways.

    Parameters
    ----------
    platemap
        One row a well.
    wells
        Those that were imaged.
    shape
        Rows and columns of the plate, for the wells that it does not have.

    Examples
    --------
    >>> rows = pd.DataFrame({"well": ["A01", "A02", "P24"]})
    >>> orphans(rows, [Well.parse("A02"), Well.parse("A03")], shape=(8, 12))
    Orphans(without_row=('A03',), without_image=('A01',), off_plate=('P24',))
    """
    n_rows, n_columns = shape or PLATE_SHAPES[1536]
    named = {Well.parse(well) for well in platemap["well"]}
    imaged = set(wells)
    off_plate = {well for well in named if well.row >= n_rows or well.column >= n_columns}
    return Orphans(
        without_row=tuple(str(well) for well in sorted(imaged - named)),
        without_image=tuple(str(well) for well in sorted(named - imaged - off_plate)),
        off_plate=tuple(str(well) for well in sorted(off_plate - imaged)),
    )


def _no_rows() -> pd.DataFrame:
    empty = {
        name: pd.Series(dtype=kind.to_pandas_dtype()) for name, kind in PLATEMAP_COLUMNS.items()
    }
    return pd.DataFrame(empty)


def _is_rxrx(path: Path) -> bool:
    """RxRx's metadata have an identifier of wells beside the well itself."""
    if not path.is_file():
        return False
    names = read_header(path)
    return bool(find_column(names, ["well_id"]) and find_column(names, SPELLINGS["well"]))


def _resolve(path: Path) -> Path:
    """Give the table itself where a folder with one was given."""
    if not path.is_dir():
        return path
    found = find_platemap(path)
    if found is None:
        raise InputError(
            f"expected {' or '.join((*_BESIDE, _RXRX))} in {path}, found none of them: name the "
            "platemap's file"
        )
    return found


def _keep_plate(table: pd.DataFrame, key: PlateKey) -> pd.DataFrame:
    plate, experiment = (
        find_column(list(table.columns), SPELLINGS[name]) for name in ("plate", "experiment")
    )
    rows = table
    if plate:
        names = _clean(rows[plate])
        rows = rows[(names == key.plate) | ("Plate" + names == key.plate)]
    if experiment:
        other = sorted(set(rows[experiment]))
        rows = rows[_clean(rows[experiment]) == key.experiment]
        if other and rows.empty and plate:
            raise InputError(
                f"expected rows for plate {key} in the platemap, found {key.plate} under "
                f"experiment {name_some(other)}: give that name as experiment, or correct the "
                "platemap"
            )
    return rows


def _clean(names: pd.Series) -> pd.Series:
    # Each name once: published metadata have millions of rows, and some thousand plates.
    return names.map({name: clean_name(name) for name in names.unique()}).astype(object)


def _one_row_a_well(frame: pd.DataFrame, raw: SpelledTable) -> pd.DataFrame:
    sites = [name for name in frame.columns if plain_name(name) in _SITE_COLUMNS]
    if sites:
        frame = frame.drop(columns=sites).drop_duplicates(ignore_index=True)
    keys = ("experiment", "plate", "plate_map_name", "well")
    own = [name for name in frame.columns if plain_name(name) in keys]
    twice = frame.loc[frame.duplicated(own), own].agg("/".join, axis=1)
    if len(twice):
        raise InputError(
            f"expected one row a well in {raw.path}, found more for "
            f"{name_some(sorted(set(twice)))}: remove the rows that are wrong, or add a column "
            "plate if the file is of many plates"
        )
    return frame
