"""Embeddings as one file outside the lake: Parquet, CSV, AnnData, or profiles for pycytominer."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from phenopipe.embeddings.average import average_embeddings, vectors_of
from phenopipe.embeddings.frames import (
    describe_model,
    observations,
    require,
    spell_for_cytomining,
    widen,
)
from phenopipe.embeddings.store import OnProgress, feature_names, find_embeddings
from phenopipe.errors import InputError
from phenopipe.lake import Lake
from phenopipe.outputs import check_free, whole_file

FORMATS = ("parquet", "csv", "anndata", "pycytominer")

_ROWS_A_GROUP = 8192
# 1 MB of vectors of 384: few calls, and a slice of rows is read back without its neighbours.
_ROWS_A_CHUNK = 1024

Put = Callable[[pa.Table], None]
Sink = Callable[[Path, pa.Schema], AbstractContextManager[Put]]


def export_embeddings(
    lake: Lake,
    model: str,
    out: str | Path,
    *,
    file_format: str,
    per: str | None = None,
    experiment: str | None = None,
    plate: str | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, int]:
    """Write a model's published embeddings into one file, plate by plate.

    The file is there when it is whole, never half of it. No more than one plate is in memory;
    for AnnData also the metadata of all rows.

    Parameters
    ----------
    out
        A local file that is not there yet. CSV is compressed where the name ends in ``.gz``.
    file_format
        ``parquet``: as :func:`phenopipe.embeddings.read_embeddings` gives it; ``csv``: one column
        a feature; ``anndata``: an ``.h5ad`` file; ``pycytominer``: profiles with ``Metadata_``
        columns, as Parquet or CSV by the name's end.
    per
        ``crop``, ``field`` or ``well``: the mean of its vectors; rows as they are published if
        None, but for pycytominer wells.
    experiment, plate
        Only these.
    on_progress
        Called with plates done and plates in all.

    Returns
    -------
    dict
        Counts: crops, fields or wells; plates; experiments; features.

    Raises
    ------
    InputError
        If the file is there already or cannot be made, or as
        :func:`phenopipe.embeddings.find_embeddings` and `average_embeddings`.
    """
    sink = _choose_sink(str(out), file_format)
    path = check_free(out)
    found = find_embeddings(lake, model, experiment=experiment, plate=plate)
    unit = per or ("well" if file_format == "pycytominer" else found.unit)
    rows = 0
    with whole_file(path) as draft, ExitStack() as stack:
        put: Put | None = None
        for table in found.read_plates(on_progress=on_progress):
            averaged = average_embeddings(table, per=unit)
            put = put or stack.enter_context(sink(draft, averaged.schema))
            put(averaged)
            rows += len(averaged)
    experiments = {stored.thing.path.split("/")[2] for stored in found.plates}
    return {
        f"{unit}s": rows,
        "plates": len(found.plates),
        "experiments": len(experiments),
        "features": found.plates[0].width,
    }


def _choose_sink(out: str, file_format: str) -> Sink:
    if file_format not in FORMATS:
        raise InputError(
            f"expected a format of {', '.join(FORMATS)}, found {file_format!r}: choose one of them"
        )
    csv = partial(_csv, compression="gzip" if out.endswith(".gz") else None)
    if file_format != "pycytominer":
        return {"parquet": _parquet, "csv": _shaped(csv, widen), "anndata": _anndata}[file_format]
    if out.endswith((".parquet", ".csv", ".csv.gz")):
        sink = _parquet if out.endswith(".parquet") else csv
        return _shaped(sink, lambda table: widen(spell_for_cytomining(table)))
    raise InputError(
        f"expected a file for pycytominer that ends in .parquet, .csv or .csv.gz, found {out}: "
        "pycytominer tells formats by the name, so choose one of these ends"
    )


@contextmanager
def _parquet(path: Path, schema: pa.Schema) -> Iterator[Put]:
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=texts) as writer:
        yield lambda table: writer.write_table(table, row_group_size=_ROWS_A_GROUP)


@contextmanager
def _csv(path: Path, schema: pa.Schema, *, compression: str | None = None) -> Iterator[Put]:
    with (
        pa.output_stream(str(path), compression=compression) as stream,
        pa_csv.CSVWriter(stream, schema) as writer,
    ):
        yield writer.write_table


def _shaped(sink: Sink, shape: Callable[[pa.Table], pa.Table]) -> Sink:
    """Bring each table into another shape before it is put."""

    @contextmanager
    def shaped(path: Path, schema: pa.Schema) -> Iterator[Put]:
        with sink(path, shape(schema.empty_table()).schema) as put:
            yield lambda table: put(shape(table))

    return shaped


@contextmanager
def _anndata(path: Path, schema: pa.Schema) -> Iterator[Put]:
    """Write AnnData's file format 0.1.0: X grows plate by plate, the rest comes in the end.

    https://anndata.readthedocs.io/en/stable/fileformat-prose.html
    """
    write_elem, h5py = require("anndata").io.write_elem, require("h5py")
    names = feature_names(schema.empty_table())
    rows: list[pa.Table] = []
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        shape = {"shape": (0, len(names)), "maxshape": (None, len(names))}
        x = file.create_dataset("X", **shape, chunks=(_ROWS_A_CHUNK, len(names)), dtype="f4")
        x.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})

        def put(table: pa.Table) -> None:
            x.resize(len(x) + len(table), axis=0)
            x[len(x) - len(table) :] = vectors_of(table)
            rows.append(table.drop_columns(["embedding"]))

        yield put
        parts: dict[str, Any] = {
            "obs": observations(pa.concat_tables(rows)),
            "var": pd.DataFrame(index=pd.Index(names, dtype=object)),
            "uns": {"model": describe_model(schema)},
            **{name: {} for name in ("layers", "obsm", "obsp", "varm", "varp")},
        }
        for name, part in parts.items():
            write_elem(file, name, part)
