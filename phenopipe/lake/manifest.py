"""What is known of a published thing: what it was made of, by what, and its files' digests."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from phenopipe.lake.things import Thing

SCHEMA_VERSION = 1

# Among a manifest's counts: fields that the stage gave up, as their workers died of them.
SKIPPED = "fields_skipped"


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


def changed_inputs(inputs: Mapping[str, str], find_key: Callable[[Thing], str | None]) -> list[str]:
    """Name the inputs, keys by path, for which another key is found now, or none.

    Sources (``source:…``) lie outside the lake and are not asked.
    """
    asked = (path for path in inputs if not path.startswith("source:"))
    return [path for path in asked if find_key(Thing(path)) != inputs[path]]


def describe_counts(counts: Mapping[str, int]) -> str:
    """Spell a manifest's counts in one line.

    Examples
    --------
    >>> describe_counts({"wells": 1536, "fields_dropped": 2})
    '1,536 wells, 2 fields dropped'
    """
    return ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in counts.items())
