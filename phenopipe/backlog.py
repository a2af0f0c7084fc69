"""What there is to embed: which plates are published as asked, which are not, what these take."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from fnmatch import filter as match_glob
from statistics import median
from typing import Any, Literal

from phenopipe.catalogue import list_plates
from phenopipe.config import EmbedConfig
from phenopipe.embed import (
    Workload,
    choose_card,
    embed_recipe,
    estimate_workload,
    read_inputs,
)
from phenopipe.errors import InputError
from phenopipe.lake import SKIPPED, Lake, Manifest, Recipe, Thing, embeddings, plate_image
from phenopipe.models import Card
from phenopipe.plates import PlateKey

State = Literal["published", "stale", "missing", "begun"]

# Plates judged at a time: on object storage each manifest is a request of some 50 ms.
_READERS = 16

# Pixels of crops a second where nothing was measured yet: a ViT-S/16's on two cores, 15.9 crops of
# 256 x 256 (docs/benchmarks.md).
_ASSUMED_PIXELS_A_SECOND = 15.9 * 256**2

# Tables whose manifests are asked how long they took, and the newest of these that are counted.
_ASKED, _NEWEST = 100, 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a backfill should bring about.

    Attributes
    ----------
    experiments, plates
        Names or patterns such as ``HUVEC-*``; all if empty. A plate may be given with its
        experiment: ``HUVEC-1/Plate3``.
    since, until
        First and last day (UTC) on which the plates' images were published.
    model, version
        The model, and its version; the newest if None.
    force
        Whether plates that are published as asked are embedded anew.

    Raises
    ------
    InputError
        If ``until`` lies before ``since``.
    """

    experiments: tuple[str, ...] = ()
    plates: tuple[str, ...] = ()
    since: date | None = None
    until: date | None = None
    model: str = "classical"
    version: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.since and self.until and self.until < self.since:
            raise InputError(
                f"expected since to lie before until, found {self.since} and {self.until}: "
                "exchange them"
            )

    def covers(self, day: date) -> bool:
        """Tell whether a day lies between both dates, these included."""
        return (self.since or day) <= day <= (self.until or day)


@dataclass(frozen=True, slots=True)
class PlateWork:
    """One plate, and what it takes to embed it.

    Attributes
    ----------
    state
        ``published`` as asked; ``stale``, published from other inputs or with other settings;
        ``missing``; or ``begun``, an earlier run left pieces that the next takes up.
    why
        Why it is stale, or cannot be embedded as it stands; or what else is to be known.
    fields, crops
        As published; or as estimated.
    seconds, bytes_read, bytes_written
        As estimated; zero where nothing is to be done.
    """

    experiment: str
    plate: str
    state: State
    why: str = ""
    fields: int = 0
    crops: int = 0
    seconds: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def key(self) -> PlateKey:
        """The plate."""
        return PlateKey(self.experiment, self.plate)

    def as_row(self) -> dict[str, Any]:
        """Give the plate as a row of a table, in units for people."""
        return {
            "experiment": self.experiment,
            "plate": self.plate,
            "state": self.state,
            "why": self.why,
            "fields": self.fields,
            "crops": self.crops,
            "minutes": round(self.seconds / 60, 1),
            "read_gb": round(self.bytes_read / 1e9, 3),
            "written_gb": round(self.bytes_written / 1e9, 3),
        }


@dataclass(frozen=True, slots=True)
class Backlog:
    """The plates that were asked for: what is done, and what is to be done, each by plate.

    Attributes
    ----------
    model_version
        The version of the model that plates are held against.
    basis
        Where the seconds come from, in words.
    """

    done: tuple[PlateWork, ...]
    missing: tuple[PlateWork, ...]
    model_version: str
    basis: str

    def totals(self) -> dict[str, float]:
        """Add up: plates by done and missing; fields, crops, hours and bytes of the missing."""
        return {
            "done": len(self.done),
            "missing": len(self.missing),
            "fields": sum(work.fields for work in self.missing),
            "crops": sum(work.crops for work in self.missing),
            "hours": sum(work.seconds for work in self.missing) / 3600,
            "bytes_read": sum(work.bytes_read for work in self.missing),
            "bytes_written": sum(work.bytes_written for work in self.missing),
        }

    def as_rows(self) -> list[dict[str, Any]]:
        """Give the plates as rows of a table: what is to be done first."""
        return [work.as_row() for work in (*self.missing, *self.done)]


def plan_embeddings(lake: Lake, wanted: Wanted, *, config: EmbedConfig | None = None) -> Backlog:
    """Tell what :func:`~phenopipe.embed.embed_plate` would compute of the plates asked for.

    Nothing is written. A plate that cannot be embedded as it stands is among the missing, with the
    reason, and no work: its run will fail, alone.

    Raises
    ------
    InputError
        If there is no such model or version, or a name or pattern is of no published plate.
    """
    config = config or EmbedConfig()
    card = choose_card(lake, wanted.model, version=wanted.version)
    keys = _select(list_plates(lake), wanted, where=lake.root)
    survey = _Survey(
        lake=lake,
        wanted=wanted,
        config=config,
        card=card,
        pace=_measure_pace(lake, card, config),
        begun={piece.guard for piece in lake.published("pieces", within=card.name)},
    )
    with ThreadPoolExecutor(_READERS) as pool:
        works = [work for work in pool.map(survey.judge, keys) if work]
    done = tuple(work for work in works if work.state == "published" and not wanted.force)
    missing = tuple(work for work in works if work.state != "published" or wanted.force)
    return Backlog(done, missing, card.version, survey.pace.basis)


def group_plates(
    works: Iterable[PlateWork], *, start_up_s: float = 22.0, share: float = 0.05, most: int = 200
) -> list[list[PlateWork]]:
    """Put small plates together, in order, so that a run's start-up weighs little.

    Parameters
    ----------
    start_up_s
        What a run costs beside its plates: 20 to 23 s with a process worker on two cores, most of
        it the worker's next look and a new process (docs/benchmarks.md).
    share
        The most that this may be of the work of its plates; the last group may have less work.
    most
        Plates in a group, at most.

    Examples
    --------
    >>> sizes = {"P1": 290, "P2": 150, "P3": 3600, "P4": 60}
    >>> works = [PlateWork("E", name, "missing", seconds=s) for name, s in sizes.items()]
    >>> [[work.plate for work in group] for group in group_plates(works)]
    [['P1', 'P2'], ['P3'], ['P4']]
    """
    groups: list[list[PlateWork]] = []
    seconds = 0.0
    for work in works:
        if not groups or seconds >= start_up_s / share or len(groups[-1]) == most:
            groups.append([])
            seconds = 0.0
        groups[-1].append(work)
        seconds += work.seconds
    return groups


@dataclass(frozen=True, slots=True)
class _Pace:
    """How fast a model goes: rows a second as measured in this lake, if any were."""

    rows_a_second: float | None
    basis: str

    def estimate_seconds(self, load: Workload, *, turns: int) -> float:
        if self.rows_a_second is not None:
            return load.rows / self.rows_a_second
        return load.crops * turns * load.crop**2 / _ASSUMED_PIXELS_A_SECOND


@dataclass(frozen=True, slots=True)
class _Survey:
    """What all plates are held against."""

    lake: Lake
    wanted: Wanted
    config: EmbedConfig
    card: Card
    pace: _Pace
    begun: set[Thing]

    def judge(self, key: PlateKey) -> PlateWork | None:
        """Tell one plate's state and work; None where its image is of another day."""
        try:
            inputs = read_inputs(self.lake, key)
            if not self.wanted.covers(inputs[plate_image(key)].finished.date()):
                return None
            return self._compare(key, inputs)
        except InputError as error:
            return PlateWork(key.experiment, key.plate, "missing", str(error))

    def _compare(self, key: PlateKey, inputs: Mapping[Thing, Manifest]) -> PlateWork:
        table = embeddings(self.card.name, key)
        manifest = self.lake.manifest(table)
        recipe = embed_recipe(inputs, self.card, config=self.config)
        if manifest is None:
            begun = table in self.begun
            why = "an earlier run was stopped: what it did is taken up" if begun else ""
            return self._size_up(key, inputs, "begun" if begun else "missing", why)
        if manifest.key != recipe.key:
            return self._size_up(key, inputs, "stale", _explain(manifest, recipe))
        if self.wanted.force:
            return self._size_up(key, inputs, "published", "asked for anew")
        counts = manifest.counts
        skipped = f"fields skipped: {counts[SKIPPED]}" if counts.get(SKIPPED) else ""
        return PlateWork(
            key.experiment, key.plate, "published", skipped, counts["fields"], counts["crops"]
        )

    def _size_up(
        self, key: PlateKey, inputs: Mapping[Thing, Manifest], state: State, why: str
    ) -> PlateWork:
        load = estimate_workload(self.lake, key, inputs, self.card, config=self.config)
        return PlateWork(
            experiment=key.experiment,
            plate=key.plate,
            state=state,
            why=why,
            fields=load.fields,
            crops=load.crops,
            seconds=self.pace.estimate_seconds(load, turns=self.config.turns),
            bytes_read=load.bytes_read,
            bytes_written=load.bytes_written,
        )


def _select(keys: Sequence[PlateKey], wanted: Wanted, *, where: str) -> Sequence[PlateKey]:
    chosen = _match(
        keys, wanted.experiments, lambda key: [key.experiment], what="experiment", where=where
    )
    return _match(
        chosen, wanted.plates, lambda key: [key.plate, str(key)], what="plate", where=where
    )


def _match(
    keys: Sequence[PlateKey],
    patterns: Sequence[str],
    names_of: Callable[[PlateKey], list[str]],
    *,
    what: str,
    where: str,
) -> Sequence[PlateKey]:
    """Choose the plates of which a name fits a pattern, sorted; all where there are no patterns."""
    if not patterns:
        return keys
    named = defaultdict(list)
    for key in keys:
        for name in names_of(key):
            named[name].append(key)
    found: set[PlateKey] = set()
    for pattern in patterns:
        fitting = [pattern] if pattern in named else match_glob(named, pattern)
        # A pattern's asterisk takes slashes too: one without is of the plate's name alone.
        names = [name for name in fitting if name.count("/") == pattern.count("/")]
        if not names:
            listed = ", ".join(sorted(named)[:5]) or "none"
            raise InputError(
                f"expected a published plate of {what} {pattern} in {where}, found {listed}"
                f"{', ...' if len(named) > 5 else ''}: correct it, or run phenopipe ingest first"
            )
        found.update(key for name in names for key in named[name])
    return sorted(found)


def _explain(manifest: Manifest, recipe: Recipe) -> str:
    """Say in what a published table is another than the one asked for."""
    changed = [path for path, key in recipe.inputs.items() if manifest.inputs.get(path) != key]
    reasons = [f"published anew since: {', '.join(changed)}"] if changed else []
    reasons += [
        f"{name} is {manifest.parameters.get(name)}, asked for {value}"
        for name, value in recipe.parameters.items()
        if manifest.parameters.get(name) != value
    ]
    if manifest.model_digest != recipe.model_digest:
        reasons.append("the model has other bytes")
    return "; ".join(reasons) or f"made by phenopipe {manifest.code_version}, otherwise than now"


def _measure_pace(lake: Lake, card: Card, config: EmbedConfig) -> _Pace:
    """Take the rows a second from the manifests of tables that were made the same way."""
    tables = lake.published("embeddings", within=card.name)[-_ASKED:]
    with ThreadPoolExecutor(_READERS) as pool:
        manifests = [found for found in pool.map(lake.manifest, tables) if found]
    alike = [found for found in manifests if _is_alike(found, card, config)]
    newest = sorted(alike, key=lambda found: found.finished)[-_NEWEST:]
    paces = [rate for found in newest if (rate := _rows_a_second(found))]
    named = f"{card.name} {card.version}"
    if not paces:
        assumed = _ASSUMED_PIXELS_A_SECOND / (config.crop or card.crop) ** 2 / config.turns
        return _Pace(
            None,
            f"assumed: {assumed:,.0f} crops a second, a ViT-S/16's on two cores; no plate was "
            f"embedded so with {named} here yet",
        )
    rate, unit = median(paces), f"{config.per}s"
    return _Pace(
        rate,
        f"measured: {rate:,.1f} {unit} a second, the median of {len(paces)} plates that were "
        f"embedded so with {named} here",
    )


def _is_alike(manifest: Manifest, card: Card, config: EmbedConfig) -> bool:
    """Tell whether a table's rows cost what those asked for would."""
    crop = config.crop or card.crop
    asked: dict[str, object] = {
        "crop": crop,
        "per": config.per,
        "turns": config.turns,
        "provider": config.provider,
    }
    if config.per == "field":
        asked |= {"stride": config.stride or crop, "edge": config.edge}
    told = manifest.parameters
    return manifest.model_digest == card.digest and asked.items() <= told.items()


def _rows_a_second(manifest: Manifest) -> float:
    seconds = (manifest.finished - manifest.started).total_seconds()
    return manifest.counts["crops"] / seconds if seconds > 0 else 0.0
