"""The lake: where things lie, what is published, and how it gets there.

A *thing* is one file or folder under the root with a manifest beside it, ``<thing>.json``. Data
are written first and the manifest last, in one put: a thing without a manifest does not exist.
No other module joins paths of the lake.
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from phenopipe.errors import InputError
from phenopipe.plates import PlateKey, check_name

SCHEMA_VERSION = 1

# Where the things of each kind lie under ``<root>/<kind>``.
PATTERNS = {
    "images": "*/*.zarr",
    "qc": "*/*.parquet",
    "ledger": "*/*.parquet",
    "platemaps": "*/*.parquet",
    "embeddings": "*/*/*.parquet",
    "models": "*/*",
    "maps": "*/*",
}


@dataclass(frozen=True, order=True, slots=True)
class Thing:
    """One published thing, by its path under the root.

    Examples
    --------
    >>> Thing("qc/HUVEC-1/Plate3.parquet").manifest
    'qc/HUVEC-1/Plate3.parquet.json'
    """

    path: str

    @property
    def kind(self) -> str:
        """The folder under the root: ``images``, ``qc``, and so on."""
        return self.path.split("/", 1)[0]

    @property
    def manifest(self) -> str:
        """The path of the thing's manifest under the root."""
        return f"{self.path}.json"

    def __str__(self) -> str:
        return self.path


def plate_image(key: PlateKey) -> Thing:
    """Name a plate's image: ``images/<experiment>/<plate>.zarr``."""
    return Thing(f"images/{key}.zarr")


def qc_table(key: PlateKey) -> Thing:
    """Name a plate's QC table: ``qc/<experiment>/<plate>.parquet``."""
    return Thing(f"qc/{key}.parquet")


def ledger(key: PlateKey) -> Thing:
    """Name a plate's ledger: ``ledger/<experiment>/<plate>.parquet``."""
    return Thing(f"ledger/{key}.parquet")


def platemap(key: PlateKey) -> Thing:
    """Name a plate's canonical platemap: ``platemaps/<experiment>/<plate>.parquet``."""
    return Thing(f"platemaps/{key}.parquet")


def embeddings(model: str, key: PlateKey) -> Thing:
    """Name a plate's embeddings: ``embeddings/<model>/<experiment>/<plate>.parquet``."""
    return Thing(f"embeddings/{check_name(model, what='model')}/{key}.parquet")


def model_folder(name: str, model_version: str) -> Thing:
    """Name a model: ``models/<name>/<version>``."""
    check_name(model_version, what="model version")
    return Thing(f"models/{check_name(name, what='model')}/{model_version}")


def map_part(name: str, part: str) -> Thing:
    """Name one thing of a map: ``maps/<map>/map.zarr``, ``neighbours.parquet`` and so on."""
    return Thing(f"maps/{check_name(name, what='map')}/{part}")


class Manifest(BaseModel):
    """What a published thing is made of; written last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    thing: str
    key: str
    schema_version: int = SCHEMA_VERSION
    stage: str
    inputs: dict[str, str]
    parameters: dict[str, Any]
    model_digest: str | None = None
    counts: dict[str, int]
    files: dict[str, str]
    code_version: str
    platform: str
    started: datetime
    finished: datetime
    run_id: str | None = None


class PlateRef(BaseModel):
    """What a stage published of one plate, and where: all that travels between tasks."""

    model_config = ConfigDict(frozen=True)

    experiment: str
    plate: str
    thing: str
    key: str
    computed: bool
    counts: dict[str, int]


class MapRef(BaseModel):
    """What a stage published of one map, and where: all that travels between tasks."""

    model_config = ConfigDict(frozen=True)

    name: str
    thing: str
    key: str
    computed: bool
    counts: dict[str, int]

    @classmethod
    def of(cls, name: str, manifest: Manifest, *, computed: bool) -> Self:
        """Refer to what the manifest says of one thing of the map."""
        return cls(
            name=name,
            thing=manifest.thing,
            key=manifest.key,
            computed=computed,
            counts=manifest.counts,
        )


@dataclass(frozen=True)
class Recipe:
    """What determines a thing's content; its key is a digest of just this.

    Examples
    --------
    >>> once = Recipe("embed", 1, {"images/E/P.zarr": "ab"}, {"crop": 128})
    >>> once.key == Recipe("embed", 1, {"images/E/P.zarr": "ab"}, {"crop": 128}).key
    True
    >>> once.key == Recipe("embed", 1, {"images/E/P.zarr": "ab"}, {"crop": 64}).key
    False
    """

    stage: str
    stage_version: int
    inputs: Mapping[str, str]
    parameters: Mapping[str, Any]
    model_digest: str | None = None

    @property
    def key(self) -> str:
        """32 hexadecimal digits of the SHA-256 of the recipe's canonical JSON."""
        parts = [self.stage, self.stage_version, dict(self.inputs), dict(self.parameters)]
        text = json.dumps([*parts, self.model_digest], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class Lake:
    """One root folder with everything that was published.

    Parameters
    ----------
    root
        A folder; made when the first thing is published.
    run_id
        The orchestrator's run that publishes, for the manifests.

    Raises
    ------
    InputError
        If the root is a URL: object storage is not read yet.
    """

    def __init__(self, root: str | Path, *, run_id: str | None = None) -> None:
        if "://" in str(root):
            raise InputError(
                f"expected a local folder as root, found {root}: object storage is not supported "
                "yet, mount the bucket or copy the data to a folder"
            )
        self.root = Path(root).absolute()
        self.run_id = run_id

    def path(self, thing: Thing) -> Path:
        """Where the thing's data lie, published or not."""
        return self.root / thing.path

    def manifest(self, thing: Thing) -> Manifest | None:
        """Read the thing's manifest; None where it is not published."""
        try:
            return Manifest.model_validate_json((self.root / thing.manifest).read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise InputError(
                f"expected a manifest in {thing.manifest}, found {error.error_count()} errors "
                f"({error.errors()[0]['msg']}): delete it and run the stage again"
            ) from error

    def require(self, thing: Thing, *, remedy: str) -> Manifest:
        """Read the manifest of a thing that must be there.

        Raises
        ------
        InputError
            If it is not published, with the remedy.
        """
        manifest = self.manifest(thing)
        if manifest is None:
            raise InputError(f"expected {thing} in {self.root}, found none published: {remedy}")
        return manifest

    def current(self, thing: Thing, recipe: Recipe) -> Manifest | None:
        """Read the thing's manifest if it is published with the recipe's key; else None."""
        manifest = self.manifest(thing)
        return manifest if manifest is not None and manifest.key == recipe.key else None

    def is_current(self, thing: Thing, recipe: Recipe) -> bool:
        """Tell whether the thing is published with the recipe's key."""
        return self.current(thing, recipe) is not None

    def changed_inputs(self, inputs: Mapping[str, str]) -> list[str]:
        """Name the inputs, keys by path, that have been published anew since, or are gone.

        Sources (``source:…``) lie outside the lake and are not asked.
        """
        things = {
            Thing(path): key for path, key in inputs.items() if not path.startswith("source:")
        }
        found = {thing: self.manifest(thing) for thing in things}
        return [
            thing.path
            for thing, manifest in found.items()
            if manifest is None or manifest.key != things[thing]
        ]

    def published(self, kind: str) -> list[Thing]:
        """List what is published of a kind (see ``PATTERNS``), sorted."""
        return self._find(kind, ending=".json")

    def unpublished(self, kind: str) -> list[Thing]:
        """List data of a kind that no manifest vouches for: half-written, or at work, sorted."""
        published = set(self.published(kind))
        return [thing for thing in self._find(kind, ending="") if thing not in published]

    def drafts(self, kind: str) -> list[tuple[Thing, Path]]:
        """List drafts of manifests that a killed run left, each with its thing, sorted."""
        found = (self.root / kind).glob(f"{PATTERNS[kind]}.json.*.part")
        paths = ((path.relative_to(self.root).as_posix(), path) for path in found)
        return sorted((Thing(name.rsplit(".json.", 1)[0]), path) for name, path in paths)

    def _find(self, kind: str, *, ending: str) -> list[Thing]:
        found = (self.root / kind).glob(PATTERNS[kind] + ending)
        names = (path.relative_to(self.root).as_posix().removesuffix(ending) for path in found)
        return sorted(Thing(name) for name in names if not name.endswith((".json", ".part")))

    @contextmanager
    def writing(self, *things: Thing) -> Iterator[None]:
        """Hold the things for one writer, and clear what lies there.

        The locks are the operating system's (flock): they go with the process that holds them,
        so a killed run never blocks the next.

        Raises
        ------
        InputError
            If another run is writing one of the things.
        """
        with ExitStack() as stack:
            for thing in sorted(things):
                if not stack.enter_context(self.try_lock(thing)):
                    raise InputError(
                        f"expected to be the only run that writes {thing}, found another at it: "
                        "wait for that run to end, then start again"
                    )
            for thing in things:
                self.clear(thing)
                self.path(thing).parent.mkdir(parents=True, exist_ok=True)
            yield

    @contextmanager
    def try_lock(self, thing: Thing, *, wait: bool = False) -> Iterator[bool]:
        """Lock the thing against other writers; yields False where another holds it.

        Or waits until the other is done.
        """
        timeout_s = -1 if wait else 0
        lock = FileLock(self.root / ".locks" / f"{thing.path}.lock", timeout=timeout_s)
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def clear(self, thing: Thing) -> None:
        """Unpublish the thing: its manifest goes first, then its data."""
        (self.root / thing.manifest).unlink(missing_ok=True)
        path = self.path(thing)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)

    def publish(
        self, thing: Thing, recipe: Recipe, *, counts: Mapping[str, int], started: datetime
    ) -> Manifest:
        """Publish what lies at the thing's path: digest its files, put the manifest.

        Raises
        ------
        InputError
            If an input was published anew while the stage was reading it.
        """
        self._check_inputs_unchanged(recipe)
        manifest = Manifest(
            thing=thing.path,
            key=recipe.key,
            stage=recipe.stage,
            inputs=dict(recipe.inputs),
            parameters=dict(recipe.parameters),
            model_digest=recipe.model_digest,
            counts=dict(counts),
            files=self.digest_files(thing),
            code_version=version("phenopipe"),
            platform=f"{platform.system()} {platform.machine()}",
            started=started,
            finished=datetime.now(UTC),
            run_id=self.run_id,
        )
        self._put(thing.manifest, manifest.model_dump_json(indent=1).encode())
        return manifest

    def _check_inputs_unchanged(self, recipe: Recipe) -> None:
        if changed := self.changed_inputs(recipe.inputs):
            raise InputError(
                f"expected {changed[0]} to stay as it was while {recipe.stage} read it, found it "
                "published anew: start the stage again"
            )

    def _put(self, path: str, content: bytes) -> None:
        draft = self.root / f"{path}.{os.getpid()}.part"
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.root / path)

    def digest_files(self, thing: Thing) -> dict[str, str]:
        """Digest each file of the thing: SHA-256 by path relative to it (``.`` for a file)."""
        root = self.path(thing)
        paths = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
        with ThreadPoolExecutor() as pool:
            digests = pool.map(digest_file, paths)
        return {p.relative_to(root).as_posix(): d for p, d in zip(paths, digests, strict=True)}


def describe_counts(counts: Mapping[str, int]) -> str:
    """Spell a manifest's counts in one line.

    Examples
    --------
    >>> describe_counts({"wells": 1536, "fields_dropped": 2})
    '1,536 wells, 2 fields dropped'
    """
    return ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in counts.items())


def digest_file(path: Path) -> str:
    """Digest a file's bytes: SHA-256, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
