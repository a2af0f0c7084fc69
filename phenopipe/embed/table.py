"""The table of a plate's embeddings, written as its pieces come."""

import base64
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from phenopipe.config import Per
from phenopipe.plates import PlateKey, Well
from phenopipe.schema import CROP_KEYS, PLATEMAP_COLUMNS, check_embeddings, embeddings_schema

# Whatever the pieces' sizes, the file's bytes are the same: row groups of so many rows.
_ROWS_A_GROUP = 8192


class EmbeddingsWriter:
    """Writes one plate's embeddings, piece by piece in the order of its fields.

    No more is in memory than a row group and a piece. Where the block fails, no file stays.

    Parameters
    ----------
    path
        The Parquet file to make.
    wells
        The platemap: each row gets what it says of its well; empty text and null numbers where
        it says nothing.
    per
        What a row is.
    """

    def __init__(self, path: Path, key: PlateKey, wells: pa.Table, *, per: Per) -> None:
        self._path, self._key, self._wells, self._per = path, key, wells, per
        self._places = {Well.parse(w): k for k, w in enumerate(wells["well"].to_pylist())}
        self._waiting: list[pa.Table] = []
        self._stack = ExitStack()
        self._file: pq.ParquetWriter | None = None
        self._facts: dict[str, set[str]] = {}
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is not None:
            self._path.unlink(missing_ok=True)

    def add(self, piece: pa.Table) -> None:
        """Add rows: well, field, y, x and embedding; its metadata say where they were computed."""
        for name, fact in (piece.schema.metadata or {}).items():
            self._facts.setdefault(name.decode(), set()).add(fact.decode())
        self._waiting.append(self._complete(piece))
        self.rows += len(piece)
        while sum(map(len, self._waiting)) >= _ROWS_A_GROUP:
            self._write_group()

    def finish(self, metadata: Mapping[str, str]) -> None:
        """Write what is left, what the numbers are, and where they were computed."""
        if self._waiting:
            self._write_group()
        if self._file:
            facts = {name: ", ".join(sorted(told)) for name, told in self._facts.items()}
            facts |= metadata
            # What is known in the end only. Arrow's readers take it from the schema kept there.
            schema = self._file.schema.with_metadata(facts).serialize()
            kept = {"ARROW:schema": base64.b64encode(schema).decode()}
            self._file.add_key_value_metadata(facts | kept)
        self._stack.close()

    def _complete(self, piece: pa.Table) -> pa.Table:
        """Give rows the plate's names and what the platemap says of their wells."""
        width = piece.schema.field("embedding").type.list_size
        carried = {
            column.name: column.type
            for column in self._wells.schema
            if column.name not in {*PLATEMAP_COLUMNS, *CROP_KEYS}
        }
        schema = embeddings_schema(width, carried, per=self._per)
        columns = {
            "experiment": pa.repeat(self._key.experiment, len(piece)),
            "plate": pa.repeat(self._key.plate, len(piece)),
            **{name: piece[name] for name in piece.column_names},
            **self._join_platemap(piece["well"]),
        }
        table = pa.table({name: columns[name] for name in schema.names}, schema=schema)
        return check_embeddings(table, where=str(self._path))

    def _join_platemap(self, of_rows: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
        places = [self._places.get(Well.parse(well)) for well in of_rows.to_pylist()]
        joined = self._wells.take(pa.array(places, pa.int64()))
        return {
            name: pc.fill_null(joined[name], "")
            if pa.types.is_string(joined[name].type)
            else joined[name]
            for name in joined.column_names
            if name not in CROP_KEYS
        }

    def _write_group(self) -> None:
        # In one chunk: pages end where chunks do.
        rows = pa.concat_tables(self._waiting)
        group, rest = rows[:_ROWS_A_GROUP].combine_chunks(), rows[_ROWS_A_GROUP:]
        self._waiting = [rest] if len(rest) else []
        if self._file is None:
            self._file = self._open(group.schema)
        self._file.write_table(group, row_group_size=_ROWS_A_GROUP)

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        texts = [column.name for column in schema if pa.types.is_string(column.type)]
        writer = pq.ParquetWriter(self._path, schema, compression="zstd", use_dictionary=texts)
        return self._stack.enter_context(writer)
