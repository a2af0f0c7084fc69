"""Read, write and publish things: data first, the manifest last."""

import platform
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from pydantic import ValidationError

from phenopipe.errors import InputError
from phenopipe.lake.locks import Lock
from phenopipe.lake.manifest import Manifest, Recipe, changed_inputs
from phenopipe.lake.storage import open_storage
from phenopipe.lake.things import PATTERNS, Thing


class Lake:
    """One root with everything that was published.

    A lake can be pickled: a worker gets it as an argument.

    Parameters
    ----------
    root
        A local folder, made when the first thing is published; or ``gs://bucket/prefix``.
    run_id
        The orchestrator's run that publishes, for the manifests.

    Raises
    ------
    InputError
        If the root is a URL of another kind, or gcsfs is not installed for it.
    """

    def __init__(self, root: str | Path, *, run_id: str | None = None) -> None:
        self._storage = open_storage(root)
        self.run_id = run_id
        self._locks: dict[Thing, Lock] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Lake, run_id=self.run_id), (self.root,)

    @property
    def root(self) -> str:
        """The folder's absolute path, or the URL."""
        return self._storage.root

    def path(self, thing: Thing) -> str:
        """Where the thing's data lie, published or not: for messages only."""
        return f"{self.root}/{thing.path}"

    def link(self, thing: Thing) -> str:
        """Give the URL at which a browser finds the thing."""
        return self._storage.link(thing.path)

    def draft(self, thing: Thing, inner: str = "") -> AbstractContextManager[Path]:
        """Write a thing, or one part of it such as ``B/03/1``, at the local path that this yields.

        It is that of a file or folder to be made; its parent is there. Use it inside
        :meth:`writing`, or in a worker meanwhile. What is written there counts when the block
        ends well.
        """
        return self._storage.draft(_join(thing.path, inner))

    def fetched(self, thing: Thing, inner: str = "") -> AbstractContextManager[Path]:
        """Read a thing, or one part of it, from the local path that this yields.

        The path holds as long as the block lasts.

        Raises
        ------
        OSError
            If it is not there, or was written anew meanwhile.
        """
        return self._storage.fetched(_join(thing.path, inner))

    def opened(self, thing: Thing) -> AbstractContextManager[BinaryIO]:
        """Read parts of a thing that is one file, such as a Parquet file's footer.

        What is read is not checked against the digest that was published; :meth:`fetched` does.

        Raises
        ------
        OSError
            If it is not there.
        """
        return self._storage.opened(thing.path)

    def read_bytes(self, thing: Thing, inner: str = "") -> bytes:
        """Read one small file of a thing.

        Raises
        ------
        OSError
            If it is not there.
        """
        return self._storage.read(_join(thing.path, inner))

    def manifest(self, thing: Thing) -> Manifest | None:
        """Read the thing's manifest; None where it is not published."""
        try:
            return Manifest.model_validate_json(self._storage.read(thing.manifest))
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
        """Name the inputs, keys by path, that have been published anew since, or are gone."""
        return changed_inputs(inputs, self._key)

    def _key(self, thing: Thing) -> str | None:
        manifest = self.manifest(thing)
        return manifest.key if manifest else None

    def published(self, kind: str, *, within: str = "") -> list[Thing]:
        """List what is published of a kind (see ``PATTERNS``), sorted; or in a folder of it."""
        names = self._list_names(kind, within=within)
        return [Thing(name.removesuffix(".json")) for name in names if name.endswith(".json")]

    def folders(self, kind: str, *, within: str = "") -> list[str]:
        """Name what lies right below a kind, or in a folder of it, sorted: experiments, models."""
        names = self._storage.list_names(_join(kind, within), depth=1)
        return [PurePosixPath(name).name for name in names]

    def data(self, kind: str) -> list[Thing]:
        """List what lies there of a kind, published or not, sorted."""
        return [Thing(name) for name in self._list_names(kind) if not name.endswith(".json")]

    def unpublished(self, kind: str) -> list[Thing]:
        """List data of a kind that no manifest vouches for: half-written, or at work, sorted."""
        published = set(self.published(kind))
        return [thing for thing in self.data(kind) if thing not in published]

    def _list_names(self, kind: str, *, within: str = "") -> list[str]:
        pattern, folder = PATTERNS[kind], _join(kind, within)
        depth = pattern.count("/") + 1 - folder.count("/")
        names = self._storage.list_names(folder, depth=depth)
        wanted = PurePosixPath(pattern).suffix
        return [name for name in names if name.removesuffix(".json").endswith(wanted)]

    def leftovers(self) -> list[tuple[Thing, str]]:
        """List what killed runs left beside data and manifests: the thing, and where it lies."""
        found = [
            (Thing(path), left)
            for kind, pattern in PATTERNS.items()
            for path, left in self._storage.leftovers(kind, depth=pattern.count("/") + 1)
        ]
        return sorted(found)

    @contextmanager
    def writing(self, *things: Thing) -> Iterator[None]:
        """Hold the things for one writer, and clear what lies there.

        Raises
        ------
        InputError
            If another run is writing one of the things.
        """
        with self.holding(*things):
            for thing in things:
                self.clear(thing)
            yield

    @contextmanager
    def holding(self, *things: Thing) -> Iterator[None]:
        """Hold the things for one writer; what lies there stays.

        Raises
        ------
        InputError
            If another run is writing one of the things.
        """
        with ExitStack() as stack:
            for thing in sorted(things):
                lock = stack.enter_context(self._storage.lock(_lock(thing), wait=False))
                if lock is None:
                    raise InputError(
                        f"expected to be the only run that writes {thing}, found another at it: "
                        f"wait for that run to end, then start again"
                    )
                stack.callback(self._locks.pop, thing)
                self._locks[thing] = lock
            yield

    @contextmanager
    def try_lock(self, thing: Thing, *, wait: bool = False) -> Iterator[bool]:
        """Lock the thing against other writers; yields False where another holds it.

        Or waits until the other is done.
        """
        with self._storage.lock(_lock(thing), wait=wait) as lock:
            yield lock is not None

    def is_free(self, thing: Thing) -> bool:
        """Tell whether nobody is writing the thing."""
        return self._storage.is_free(_lock(thing))

    def clear(self, thing: Thing) -> None:
        """Unpublish the thing: its manifest goes first, then its data."""
        self.unpublish(thing)
        self._storage.remove(thing.path)

    def unpublish(self, thing: Thing) -> None:
        """Remove the thing's manifest; its data stay."""
        self._storage.remove(thing.manifest)

    def remove(self, path: str) -> None:
        """Remove data without a manifest, or one of :meth:`leftovers`; its thing is locked."""
        self._storage.remove(path)

    def remove_file(self, thing: Thing, name: str) -> None:
        """Remove one file of an unpublished thing, by its path in it (``.`` for the thing)."""
        self._storage.remove(_join(thing.path, _check_inner(name, thing)))

    def publish(
        self,
        thing: Thing,
        recipe: Recipe,
        *,
        counts: Mapping[str, int],
        started: datetime,
        files: Mapping[str, str] | None = None,
    ) -> Manifest:
        """Publish what was drafted of the thing: digest its files, put the manifest.

        Parameters
        ----------
        counts
            What is in it, for people.
        started
            When the stage began.
        files
            Digests of files that the stage knows already, by path relative to the thing.

        Raises
        ------
        InputError
            If an input was published anew while the stage was reading it.
        OSError
            If a file is lost that the stage wrote.
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
            files=self._digest_drafted(thing, files or {}),
            code_version=version("phenopipe"),
            platform=f"{platform.system()} {platform.machine()}",
            started=started,
            finished=datetime.now(UTC),
            run_id=self.run_id,
        )
        content = manifest.model_dump_json(indent=1).encode()
        self._storage.put(thing.manifest, content, lock=self._locks.get(thing))
        return manifest

    def _check_inputs_unchanged(self, recipe: Recipe) -> None:
        if changed := self.changed_inputs(recipe.inputs):
            raise InputError(
                f"expected {changed[0]} to stay as it was while {recipe.stage} read it, found it "
                "published anew: start the stage again"
            )

    def _digest_drafted(self, thing: Thing, known: Mapping[str, str]) -> dict[str, str]:
        kept = self._storage.list_files(thing.path)
        # A run that lost its lock may still have workers that write.
        if lost := [name for name in known if kept.get(name, "") not in {None, known[name]}]:
            raise OSError(f"expected {lost[0]} in {self.path(thing)} as drafted, found it changed")
        digests = {name: digest for name, digest in kept.items() if digest} | dict(known)
        digests |= self._storage.digest(thing.path, kept.keys() - digests.keys())
        return dict(sorted(digests.items()))

    def digest_files(self, thing: Thing) -> dict[str, str]:
        """Read and digest each file of the thing: BLAKE3 by path in it (``.`` for a file)."""
        return self._storage.digest(thing.path, self._storage.list_files(thing.path))

    def digest_drafted(self, thing: Thing) -> dict[str, str]:
        """Digest what lies there of the thing, published or not.

        Objects carry the digest that they were uploaded with: of them only this is read.
        """
        return self._digest_drafted(thing, {})

    def measure_files(self, thing: Thing) -> dict[str, int]:
        """Ask for the size of each file of the thing: bytes by path in it (``.`` for a file)."""
        return self._storage.list_sizes(thing.path)

    def receive(self, thing: Thing, name: str, source: "Lake", *, size: int, digest: str) -> None:
        """Copy one file of a thing from another lake, inside :meth:`holding`.

        Parameters
        ----------
        name
            The file's path in the thing, or ``.``.
        size, digest
            What it has there, and has to have here.

        Raises
        ------
        InputError
            If the name leads out of the thing.
        OSError
            If it is not there, or has other bytes.
        """
        path = _join(thing.path, _check_inner(name, thing))
        self._storage.receive(path, source._storage, size=size, digest=digest)

    def republish(self, thing: Thing, source: "Lake") -> Manifest:
        """Publish a thing whose files were received, with its manifest as it is there.

        Raises
        ------
        OSError
            If the files here are not those of the manifest: it was published anew meanwhile, say.
        """
        content = source._storage.read(thing.manifest)
        manifest = Manifest.model_validate_json(content)
        found = self._digest_drafted(thing, manifest.files)
        if other := sorted(found.items() ^ manifest.files.items()):
            raise OSError(
                f"expected {self.path(thing)} to hold what {source.path(thing)} does, found "
                f"another {other[0][0]}: it was published anew meanwhile, or another run writes "
                "here; start again"
            )
        self._storage.put(thing.manifest, content, lock=self._locks.get(thing))
        return manifest


def _join(path: str, inner: str) -> str:
    return f"{path}/{inner}" if inner else path


def _check_inner(name: str, thing: Thing) -> str:
    """Return the path of a file in a thing, ``""`` for ``.``, if it stays in there."""
    parts = name.split("/")
    if name != "." and (not {"", ".", ".."}.isdisjoint(parts) or "\\" in name or "\0" in name):
        raise InputError(
            f"expected the manifest of {thing} to name files in it, found {name!r}: the lake that "
            "it came from was tampered with; do not use it"
        )
    return "" if name == "." else name


def _lock(thing: Thing) -> str:
    return f".locks/{thing.guard.path}.lock"
