"""Embeddings as other libraries take them: NumPy, pandas, Polars, AnnData, pycytominer.

Each takes a table of :func:`phenopipe.embeddings.read_embeddings`, whole or averaged.
"""

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from phenopipe.embeddings.average import UNITS, Vectors, average_embeddings, vectors_of
from phenopipe.embeddings.store import feature_names
from phenopipe.errors import InputError

if TYPE_CHECKING:
    import anndata
    import polars as pl

# How pycytominer spells our keys; every other column of metadata gets "Metadata_" before it.
_CYTOMINING = {"experiment": "Batch", "plate": "Plate", "well": "Well", "field": "Site"}


def to_numpy(table: pa.Table) -> tuple[pd.DataFrame, Vectors]:
    """Give the metadata as a DataFrame and the vectors as an array.

    Returns
    -------
    rows
        One row a row of the table, without `embedding`.
    vectors
        Shape (n, d), float32. Not copied where they lie in one piece, and then read-only.
    """
    rows: pd.DataFrame = table.drop_columns(["embedding"]).to_pandas()
    return rows, vectors_of(table)


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Give a DataFrame with the metadata's columns, then one float32 column a feature.

    Raises
    ------
    InputError
        If a column of the metadata has a feature's name.
    """
    frame: pd.DataFrame = widen(table).to_pandas()
    return frame


def to_polars(table: pa.Table) -> "pl.DataFrame":
    """Give a Polars frame whose `embedding` is of dtype Array(Float32, d), without a copy of it.

    Raises
    ------
    InputError
        If Polars is not installed.
    """
    frame: pl.DataFrame = require("polars").from_arrow(table, rechunk=False)
    return frame


def to_anndata(table: pa.Table) -> "anndata.AnnData":
    """Give an AnnData object: X the vectors, obs the metadata, var the features, uns the model.

    Returns
    -------
    AnnData
        X (n, d) float32; text in obs is categorical; names of obs are the keys joined by ``/``,
        such as ``HUVEC-1/Plate3/B03/1/0/128``; ``uns["model"]`` says which model it was.

    Raises
    ------
    InputError
        If anndata is not installed.
    """
    names = pd.Index(feature_names(table), dtype=object)
    made: anndata.AnnData = require("anndata").AnnData(
        X=vectors_of(table).copy(),
        obs=observations(table.drop_columns(["embedding"])),
        var=pd.DataFrame(index=names),
        uns={"model": describe_model(table.schema)},
    )
    return made


def to_pycytominer(table: pa.Table, *, per: str = "well") -> pd.DataFrame:
    """Give profiles as pycytominer takes them: ``Metadata_`` columns, then a column a feature.

    Parameters
    ----------
    per
        ``well``: the mean of its vectors; ``field``; or ``crop``.

    Returns
    -------
    DataFrame
        ``Metadata_Batch`` (experiment), ``Metadata_Plate``, ``Metadata_Well``, ``Metadata_Site``
        (field), ``Metadata_`` and the name of all other columns; features as float32.

    Raises
    ------
    InputError
        As :func:`phenopipe.embeddings.average_embeddings`.
    """
    return to_pandas(spell_for_cytomining(average_embeddings(table, per=per)))


def spell_for_cytomining(table: pa.Table) -> pa.Table:
    """Rename the metadata's columns to pycytominer's.

    A carried column whose name is taken by a key, such as ``Batch``, becomes
    ``Metadata_platemap_Batch``.

    Examples
    --------
    >>> rows = pa.table({"experiment": ["E"], "Batch": [1], "gene": ["TP53"]})
    >>> spell_for_cytomining(rows).column_names
    ['Metadata_Batch', 'Metadata_platemap_Batch', 'Metadata_gene']
    """
    renamed = table.rename_columns([_spell(name) for name in table.column_names])
    return renamed.replace_schema_metadata(table.schema.metadata)


def _spell(name: str) -> str:
    if name == "embedding":
        return name
    taken = "platemap_" if name in _CYTOMINING.values() else ""
    return f"Metadata_{taken}{_CYTOMINING.get(name, name)}"


def widen(table: pa.Table) -> pa.Table:
    """Give each feature a column of its own, after the metadata's.

    Raises
    ------
    InputError
        If a column of the metadata has a feature's name.
    """
    rows, names = table.drop_columns(["embedding"]), feature_names(table)
    taken = sorted(set(rows.column_names).intersection(names))
    if taken:
        raise InputError(
            f"expected columns of metadata with other names than features, found {taken[0]!r} in "
            "both: rename it in the platemap, or read other columns"
        )
    features = [pa.array(column) for column in np.ascontiguousarray(vectors_of(table).T)]
    wide = pa.table([*rows.columns, *features], names=[*rows.column_names, *names])
    return wide.replace_schema_metadata(table.schema.metadata)


def observations(rows: pa.Table) -> pd.DataFrame:
    """Give metadata as AnnData's obs: text as categories, named by the keys."""
    texts = [field.name for field in rows.schema if pa.types.is_string(field.type)]
    obs: pd.DataFrame = rows.to_pandas(categories=texts)
    for name in texts:
        # Python's own text: anndata up to 0.12 cannot write the kind that pandas 3 takes by itself.
        found = obs[name].cat.categories.astype(object)
        ranked = pd.Index(sorted(found), dtype=object)
        obs[name] = obs[name].cat.rename_categories(found).cat.reorder_categories(ranked)
    return obs.set_index(_name_rows(rows))


def _name_rows(rows: pa.Table) -> pd.Index:
    keys = [rows[name].cast(pa.string()) for name in UNITS["crop"] if name in rows.column_names]
    if len(keys) >= len(UNITS["well"]):
        names: pd.Index = pd.Index(
            pc.binary_join_element_wise(*keys, "/").to_pylist(), dtype=object
        )
        if names.is_unique:
            return names
    return pd.Index([str(k) for k in range(len(rows))], dtype=object)


def describe_model(schema: pa.Schema) -> dict[str, Any]:
    """Read what a schema's metadata say of the numbers; lists as arrays of text."""
    facts = {key.decode(): text.decode() for key, text in (schema.metadata or {}).items()}
    facts.pop("feature_names", None)
    return {
        key: np.array(json.loads(text), dtype=object) if text.startswith("[") else text
        for key, text in facts.items()
    }


def require(module: str) -> Any:
    """Import a library of the extra ``readers``.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"expected {module} to be installed, found {error}: pip install 'phenopipe[readers]'"
        ) from error
