"""Platemaps as the Broad Institute keeps them (cytomining, LINCS, JUMP).

``barcode_platemap.csv`` says which map each plate has, and ``platemap/<map>.txt`` beside it what
that map has in each well. Tables about the perturbations themselves (names, structures, controls)
lie in a folder ``external_metadata`` beside the map's file, or beside one of three folders above.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from phenopipe.errors import InputError
from phenopipe.ingest.tables import (
    find_column,
    join_rows,
    name_some,
    plain_name,
    read_header,
    read_table,
)
from phenopipe.plates import PlateKey, clean_name
from phenopipe.schema import NAMES_FOR_NOTHING

_BARCODES = ("assay_plate_barcode", "plate_barcode", "barcode")
_MAPS = ("plate_map_name", "platemap_name", "plate_map")
_ENDINGS = (".txt", ".tsv", ".csv")
# By what tables about perturbations are joined: the Broad's accessions, then JUMP's.
_ACCESSIONS = ("broad_sample", "jcp2022")


@dataclass(frozen=True)
class NamedMap:
    """The map that one plate has.

    Parameters
    ----------
    name, path
        The map's name, and the file that holds it.
    told
        What else the table of barcodes tells of the plate (batch, date), by column.
    """

    name: str
    path: Path
    told: Mapping[str, str]


def is_barcode_platemap(path: Path) -> bool:
    """Tell whether a table says which map each plate has, and has no wells itself.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    names = read_header(path)
    has_wells = find_column(names, ("well", "well_position"))
    return not has_wells and None not in _find_columns(names)


def find_map(path: Path, key: PlateKey) -> NamedMap | None:
    """Find the map of one plate; None where the table does not name the plate.

    Raises
    ------
    InputError
        If the table gives the plate two maps, or the map's file is not there.
    """
    table = read_table(path)
    barcode, named = _find_columns(list(table.columns))
    if barcode is None or named is None:
        raise InputError(
            f"expected columns {_BARCODES[0]} and {_MAPS[0]} in {path}, found "
            f"{name_some(list(table.columns))}: give a table that names each plate's map"
        )
    own = table[table[barcode].map(clean_name) == key.plate].drop_duplicates()
    if own.empty:
        return None
    if len(own) > 1:
        raise InputError(
            f"expected one map for plate {key.plate} in {path}, found {len(own)} rows "
            f"({name_some(sorted(set(own[named])))}): remove those that are wrong"
        )
    row = own.iloc[0]
    told = {name: row[name] for name in table.columns if name not in {barcode, named}}
    return NamedMap(row[named], _find_file(path, row[named]), told)


def keep_map(rows: pd.DataFrame, named: NamedMap) -> pd.DataFrame:
    """Keep the rows of one map, where the file says which map a row is of; add what was told.

    Raises
    ------
    InputError
        If the file holds other maps only.
    """
    of_map = next((name for name in rows.columns if plain_name(name) in _MAPS), None)
    own = rows if of_map is None else rows[rows[of_map] == named.name]
    if own.empty:
        found = name_some(sorted(set(rows[of_map])) if of_map else [])
        raise InputError(
            f"expected the wells of map {named.name} in {named.path}, found {found}: give the "
            "file the name of the map that it holds"
        )
    new = {name: text for name, text in named.told.items() if name not in own.columns}
    return own.assign(**new)


def join_external(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Join what is known of the perturbations to a platemap's rows: each row stays one row.

    Parameters
    ----------
    table
        The platemap as it was written.
    path
        Its file; the tables lie in ``external_metadata`` beside it or one of three folders above.

    Raises
    ------
    InputError
        If a table cannot be read, or has an accession twice.
    """
    accession = find_column(list(table.columns), _ACCESSIONS)
    if accession is None:
        return table
    known = [_rename_key(found, accession) for found in _read_external(path, accession)]
    if not known:
        return table
    told = pd.concat(known, ignore_index=True).fillna("").drop_duplicates()
    # A well with nothing in it is told by its solvent, not by a row without an accession.
    told = told[~told[accession].str.lower().isin(NAMES_FOR_NOTHING)]
    return join_rows(table, told, on=accession, where=f"external_metadata of {path}")


def _find_columns(names: Sequence[str]) -> tuple[str | None, str | None]:
    return find_column(names, _BARCODES), find_column(names, _MAPS)


def _find_file(path: Path, name: str) -> Path:
    """Find the map's file beside the table; a name is never followed out of its folder."""
    folder = path.parent / "platemap"
    if Path(name).name == name and name:
        for ending in ("", *_ENDINGS):
            found = folder / f"{name}{ending}"
            if found.is_file():
                return found
    raise InputError(
        f"expected the map {name!r} at {folder / name}.txt, as {path.name} names it, found no such "
        "file: copy it there, or correct the name"
    )


def _read_external(path: Path, accession: str) -> Iterator[pd.DataFrame]:
    """Read the tables of the nearest ``external_metadata`` that have the accession's column."""
    above = path.absolute().parents[:4]
    folder = next(
        (f / "external_metadata" for f in above if (f / "external_metadata").is_dir()), None
    )
    for found in sorted(folder.iterdir()) if folder else ():
        is_table = found.name.removesuffix(".gz").endswith(_ENDINGS) and found.name[0] != "."
        if is_table and find_column(read_header(found), [plain_name(accession)]):
            yield read_table(found)


def _rename_key(table: pd.DataFrame, accession: str) -> pd.DataFrame:
    own = find_column(list(table.columns), [plain_name(accession)])
    return table.rename(columns={own: accession})
