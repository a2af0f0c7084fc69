"""The published embeddings of a model, over many plates, as one table or plate by plate."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from phenopipe.embeddings.agreement import (
    StoredPlate,
    check_agreement,
    conform,
    list_columns,
    unite_columns,
)
from phenopipe.errors import InputError
from phenopipe.lake import Lake, Thing
from phenopipe.plates import PlateKey, check_name
from phenopipe.schema import check_embeddings

# Footers read at a time: on object storage each is a request of some 50 ms.
_READERS = 16

# What a file says of where it was computed: this may differ from plate to plate.
_RUN = ("provider", "device", "runtime", "batch")

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Embeddings:
    """Published plates of one model whose vectors mean the same; made by :func:`find_embeddings`.

    Attributes
    ----------
    lake, model
        Where they lie, and whose they are.
    plates
        At least one, sorted by experiment and plate.
    """

    lake: Lake
    model: str
    plates: tuple[StoredPlate, ...]

    @property
    def unit(self) -> str:
        """What a row is: ``crop`` or ``field``."""
        return self.plates[0].unit

    @property
    def column_names(self) -> list[str]:
        """The columns that any plate has."""
        return list_columns(self.plates)

    @property
    def facts(self) -> dict[str, str]:
        """What the files say of their numbers; of several devices or the like, all."""
        first, *others = (plate.facts for plate in self.plates)
        shared = {k: text for k, text in first.items() if all(o.get(k) == text for o in others)}
        ran = {
            key: sorted({facts[key] for facts in (first, *others) if key in facts}) for key in _RUN
        }
        return shared | {key: ", ".join(texts) for key, texts in ran.items() if texts}

    def read_plates(
        self, columns: Collection[str] | None = None, *, on_progress: OnProgress | None = None
    ) -> Iterator[pa.Table]:
        """Read plate by plate, so that no more than one is in memory.

        Parameters
        ----------
        columns
            Only these, in this order; all that any plate has if None.
        on_progress
            Called with plates done and plates in all.

        Returns
        -------
        iterator of Table
            All of one schema, with `facts` as its metadata. A column that a plate lacks is null
            there.

        Raises
        ------
        InputError
            If a column is not there or holds text on one plate and numbers on another; while
            reading, if a plate is damaged or was published anew meanwhile.
        """
        return self._read(self.unite(columns), on_progress)

    def unite(self, columns: Collection[str] | None = None) -> pa.Schema:
        """Find the schema in which all plates can be read, with `facts` as its metadata.

        Raises
        ------
        InputError
            If a column is not there or holds text on one plate and numbers on another.
        """
        return unite_columns(self.plates, columns, lake=self.lake).with_metadata(self.facts)

    def _read(self, schema: pa.Schema, on_progress: OnProgress | None) -> Iterator[pa.Table]:
        for done, plate in enumerate(self.plates, start=1):
            yield read_plate(self.lake, plate, schema)
            if on_progress:
                on_progress(done, len(self.plates))


def find_embeddings(
    lake: Lake,
    model: str,
    *,
    experiment: str | Sequence[str] | None = None,
    plate: str | Sequence[str] | None = None,
) -> Embeddings:
    """Find a model's published embeddings, and make sure that they may stand in one table.

    Only manifests and the files' footers are read. What has no manifest is half-written, and is
    never found.

    Parameters
    ----------
    experiment, plate
        Names, or one; all that are published if None.

    Raises
    ------
    InputError
        If something asked for is not published, or two plates' vectors do not mean the same.
    """
    check_name(model, what="model")
    keys = {_key_of(t): t for t in lake.published("embeddings") if t.path.split("/")[1] == model}
    experiments, plates = _as_names(experiment), _as_names(plate)
    chosen = {
        key: thing
        for key, thing in keys.items()
        if (experiments is None or key.experiment in experiments)
        and (plates is None or key.plate in plates)
    }
    missing = (experiments or set()) - {key.experiment for key in chosen}
    missing |= (plates or set()) - {key.plate for key in chosen}
    if missing or not chosen:
        raise InputError(
            f"expected embeddings of {model} for {', '.join(sorted(missing)) or 'a plate'} in "
            f"{lake.root}, found none published: run `phenopipe embed --root {lake.root} --model "
            f"{model}`"
        )
    with ThreadPoolExecutor(_READERS) as pool:
        found = tuple(pool.map(partial(_look_up, lake), (chosen[key] for key in sorted(chosen))))
    check_agreement(found)
    return Embeddings(lake, model, found)


def read_embeddings(
    lake: Lake,
    model: str,
    *,
    experiment: str | Sequence[str] | None = None,
    plate: str | Sequence[str] | None = None,
    columns: Collection[str] | None = None,
) -> pa.Table:
    """Read a model's published embeddings over many plates into one table.

    Parameters
    ----------
    lake
        Where they are published.
    model
        Whose.
    experiment, plate
        Names, or one; all that are published if None.
    columns
        Only these, in this order. Without ``embedding`` the vectors are not read at all.

    Returns
    -------
    Table
        One row a crop or field, sorted by experiment, plate, well, field, y and x: these, what the
        platemap says, and ``embedding``: fixed_size_list<float32>[d]. A column of the platemap
        that only some plates have is null on the others. Model, version, digest, provider,
        channels and feature names are in the schema's metadata.

    Raises
    ------
    InputError
        If nothing is published, or plates differ in model, width, channels, feature names, crop or
        pooling, or hold text and numbers in one column: which two, in what, and what to do.
    """
    found = find_embeddings(lake, model, experiment=experiment, plate=plate)
    return pa.concat_tables(found.read_plates(columns))


def feature_names(table: pa.Table) -> list[str]:
    """Name the vectors' values: as the model's card does, else ``<model>_000`` and so on.

    Raises
    ------
    InputError
        If the table has no embedding, or another number of names.

    Examples
    --------
    >>> from phenopipe.schema import embeddings_schema
    >>> schema = embeddings_schema(3).with_metadata({"model": "vit"})
    >>> feature_names(schema.empty_table())
    ['vit_0', 'vit_1', 'vit_2']
    """
    width = embedding_width(table)
    facts = table.schema.metadata or {}
    names: list[str] = json.loads(facts.get(b"feature_names", b"[]"))
    if names and len(names) != width:
        raise InputError(
            f"expected {width} names of features in the table's metadata, found {len(names)}: run "
            "`phenopipe embed` again"
        )
    model, digits = facts.get(b"model", b"embedding").decode(), len(str(width - 1))
    return names or [f"{model}_{k:0{digits}d}" for k in range(width)]


def embedding_width(table: pa.Table) -> int:
    """Count the values of a table's vectors."""
    if "embedding" not in table.column_names:
        raise InputError(
            f"expected a column embedding, found {', '.join(table.column_names)}: read it too"
        )
    return int(table.schema.field("embedding").type.list_size)


def _key_of(thing: Thing) -> PlateKey:
    _, _, experiment, file = thing.path.split("/")
    return PlateKey(experiment, file.removesuffix(".parquet"))


def _as_names(asked: str | Sequence[str] | None) -> set[str] | None:
    if asked is None:
        return None
    return {asked} if isinstance(asked, str) else set(asked)


def _look_up(lake: Lake, thing: Thing) -> StoredPlate:
    manifest = lake.require(thing, remedy="run `phenopipe embed`")
    with _in_words(lake, thing, manifest.key), lake.opened(thing) as file:
        schema = pq.read_schema(file)
    check_embeddings(schema.empty_table(), where=thing.path)
    return StoredPlate(thing, manifest.key, manifest.model_digest, manifest.parameters, schema)


def read_plate(lake: Lake, plate: StoredPlate, schema: pa.Schema) -> pa.Table:
    """Read one plate in the schema of all, as :meth:`Embeddings.unite` gives it.

    Raises
    ------
    InputError
        If it is damaged, or was published anew meanwhile.
    """
    names = [name for name in schema.names if name in plate.schema.names]
    with (
        _in_words(lake, plate.thing, plate.key),
        lake.fetched(plate.thing) as path,
        pq.ParquetFile(path) as file,
    ):
        table, rows = file.read(columns=names), file.metadata.num_rows
    _check_unchanged(lake, plate.thing, plate.key)
    return conform(table, schema, rows=rows)


@contextmanager
def _in_words(lake: Lake, thing: Thing, key: str) -> Iterator[None]:
    """Say what is wrong with a file that cannot be read: it is being written anew, or damaged."""
    try:
        yield
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        _check_unchanged(lake, thing, key)
        raise InputError(
            f"expected the Parquet file that was published at {lake.path(thing)}, found {error}: "
            "`phenopipe verify` lists what is damaged, `phenopipe embed` makes it anew once it is "
            "deleted"
        ) from error


def _check_unchanged(lake: Lake, thing: Thing, key: str) -> None:
    if lake.changed_inputs({thing.path: key}):
        raise InputError(
            f"expected {thing} to stay as it was while it was read, found it published anew: "
            "start again"
        )
