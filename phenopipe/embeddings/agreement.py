"""Whether plates' embeddings may be read as one table, and which columns it has."""

import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Thing
from phenopipe.schema import NAMES_FOR_NOTHING

# Settings of the embed stage that change what a vector is, not which vectors there are.
_SETTINGS = ("crop", "per", "turns", "rescale")
_MOST_SHOWN = 70


@dataclass(frozen=True)
class StoredPlate:
    """One plate's published embeddings: all that is known of them but the rows.

    Attributes
    ----------
    thing, key
        What is published, and the key that it was published with.
    model_digest, settings
        The model and the embed stage's settings, from the manifest.
    schema
        Columns, types, and the file's metadata.
    """

    thing: Thing
    key: str
    model_digest: str | None
    settings: Mapping[str, Any]
    schema: pa.Schema

    @property
    def width(self) -> int:
        """The vectors' number of values."""
        return int(self.schema.field("embedding").type.list_size)

    @property
    def unit(self) -> str:
        """What a row is: ``crop`` or ``field``."""
        return "crop" if "y" in self.schema.names else "field"

    @property
    def facts(self) -> dict[str, str]:
        """What the file says of its numbers: model, version, channels, feature names and so on."""
        return {key.decode(): text.decode() for key, text in (self.schema.metadata or {}).items()}


def check_agreement(plates: Sequence[StoredPlate]) -> None:
    """Make sure that the vectors of all plates mean the same.

    They do where they come from one model and version, out of the same channels, with the same
    width, feature names, crop and pooling. The execution provider may differ.

    Raises
    ------
    InputError
        Naming two plates that differ, in what, and what to do.
    """
    first = _traits(plates[0])
    for plate in plates[1:]:
        for what, found in _traits(plate).items():
            expected = first.get(what)
            # A plate embedded before a setting was known does not say it.
            if None not in {expected, found} and expected != found:
                raise InputError(
                    f"expected embeddings of one {what}, found {_show(expected)} in "
                    f"{plates[0].thing} and {_show(found)} in {plate.thing}: run `phenopipe embed` "
                    "again on one of them, or read them apart by experiment or plate"
                )


def list_columns(plates: Sequence[StoredPlate]) -> list[str]:
    """List the columns that any plate has: keys, platemap, carried columns, embedding."""
    names = dict.fromkeys(name for plate in plates for name in plate.schema.names)
    return [*(name for name in names if name != "embedding"), "embedding"]


def unite_columns(
    plates: Sequence[StoredPlate], columns: Collection[str] | None = None, *, lake: Lake
) -> pa.Schema:
    """Find the schema in which all plates can be read: all columns that any of them has.

    Parameters
    ----------
    columns
        Only these.

    Raises
    ------
    InputError
        If no plate has a column that was asked for, or two hold text and numbers in it.
    """
    known = list_columns(plates)
    unknown = [name for name in columns or () if name not in known]
    if unknown:
        raise InputError(
            f"expected columns of {plates[0].thing} or the {len(plates) - 1} other plates, found "
            f"{unknown[0]!r}: they have {', '.join(known)}"
        )
    wanted = known if columns is None else list(columns)
    return pa.schema({name: _unite_kind(name, plates, lake=lake) for name in wanted})


def conform(table: pa.Table, schema: pa.Schema, *, rows: int) -> pa.Table:
    """Give one plate's table the united schema.

    A column that the plate lacks is null, and so is one of text that says nothing where other
    plates have numbers.

    Examples
    --------
    >>> schema = pa.schema({"well": pa.string(), "zfpkm": pa.float64()})
    >>> conform(pa.table({"well": ["A01"]}), schema, rows=1).to_pylist()
    [{'well': 'A01', 'zfpkm': None}]
    """
    found = {name: table[name] for name in table.column_names}
    columns = [
        found[field.name]
        if field.name in found and found[field.name].type == field.type
        else pa.nulls(rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _traits(plate: StoredPlate) -> dict[str, Any]:
    facts = plate.facts
    return {
        "model version": facts.get("model_version"),
        "model digest": plate.model_digest,
        "list of channels": facts.get("channels"),
        "width": plate.width,
        "list of features": facts.get("feature_names"),
        "kind": f"{plate.unit}s",
        **{f"{name} (embed.{name})": plate.settings.get(name) for name in _SETTINGS},
    }


def _show(value: Any) -> str:
    return textwrap.shorten(str(value), _MOST_SHOWN, placeholder=" …")


def _unite_kind(name: str, plates: Sequence[StoredPlate], *, lake: Lake) -> pa.DataType:
    having = [plate for plate in plates if name in plate.schema.names]
    kinds = {plate.schema.field(name).type: plate for plate in reversed(having)}
    if len(kinds) == 1:
        return next(iter(kinds))
    telling = {
        plate.schema.field(name).type: plate
        for plate in having
        if not _says_nothing(plate, name, lake=lake)
    }
    if len(telling) > 1:
        one, other, *_ = telling.values()
        raise InputError(
            f"expected {name} to hold one type on all plates, found "
            f"{one.schema.field(name).type} in {one.thing} and {other.schema.field(name).type} in "
            f"{other.thing}: correct the platemap and run `phenopipe ingest` and `phenopipe embed` "
            "again, read the plates apart by experiment or plate, or read other columns"
        )
    return next(iter(telling or kinds))


def _says_nothing(plate: StoredPlate, name: str, *, lake: Lake) -> bool:
    """Tell whether a column is text without one word in it.

    A platemap's column that is empty throughout is published as text, whatever it holds elsewhere.
    """
    if not pa.types.is_string(plate.schema.field(name).type):
        return False
    with lake.opened(plate.thing) as file:
        words = pq.ParquetFile(file).read(columns=[name])[name].unique().to_pylist()
    return all(word is None or word.strip().lower() in NAMES_FOR_NOTHING for word in words)
