"""What there is to send: a lake's models, then its plates, an experiment at a time.

A lake may hold petabytes in a hundred thousand plates, so what is listed of it is never more than
the names of one experiment's things.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import PurePosixPath

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Thing, embeddings, model_folder
from phenopipe.plates import PlateKey

# What ingest publishes of a plate, the image last: until that is there, no stage sees the plate.
# How its folder looked (``landing``) stays: it is about a folder of the source's own machine.
_INGESTED = ("platemaps", "ledger", "qc", "effects", "heatmaps", "images")


@dataclass(frozen=True, slots=True)
class Selection:
    """What is sent: names, or patterns such as ``HUVEC-*``; where there are none, all.

    Examples
    --------
    >>> Selection(plates=("Plate1?",)).takes_plate("Plate12")
    True
    """

    experiments: tuple[str, ...] = ()
    plates: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def takes_experiment(self, name: str) -> bool:
        """Tell whether the experiment is chosen."""
        return _is_chosen(name, self.experiments)

    def takes_plate(self, name: str) -> bool:
        """Tell whether a plate of that name is chosen."""
        return _is_chosen(name, self.plates)

    def takes_model(self, name: str) -> bool:
        """Tell whether a model is chosen, and with it what it embedded."""
        return _is_chosen(name, self.models)


@dataclass(frozen=True, slots=True)
class Parcel:
    """Things that are of use together, such as a plate's, each behind what it was made of."""

    name: str
    things: tuple[Thing, ...]


@dataclass(frozen=True, slots=True)
class Shipment:
    """What is sent in one go: an experiment's plates; or the models, of no experiment."""

    experiment: str | None
    parcels: tuple[Parcel, ...]

    @property
    def name(self) -> str:
        """Name it for people."""
        return "models" if self.experiment is None else self.experiment


def list_shipments(lake: Lake, selection: Selection) -> Iterator[Shipment]:
    """List what is chosen of a lake: its models, then each experiment that has something.

    Raises
    ------
    InputError
        As `check_selection`.
    """
    check_selection(lake, selection)
    packed = (pack_experiment(lake, name, selection) for name in list_experiments(lake, selection))
    yield from (one for one in chain([pack_models(lake, selection)], packed) if one.parcels)


def check_selection(lake: Lake, selection: Selection) -> None:
    """Check that every name and pattern finds something; nothing is left out silently.

    Raises
    ------
    InputError
        If one finds nothing, or nothing is published at all.
    """
    experiments = list_experiments(lake, Selection())
    models = lake.folders("models") + lake.folders("embeddings")
    if not experiments and not models:
        raise InputError(
            f"expected plates or models in {lake.root}, found none: check the root, or run "
            "`phenopipe ingest` first"
        )
    _check_found("experiment", selection.experiments, experiments, lake)
    _check_found("model", selection.models, models, lake)
    _check_found("plate", selection.plates, _list_plates(lake, selection), lake)


def list_experiments(lake: Lake, selection: Selection) -> list[str]:
    """List the chosen experiments by name, sorted."""
    folders = [*_INGESTED, *(f"embeddings/{model}" for model in _list_models(lake, selection))]
    found = {name for folder in folders for name in _list_folders(lake, folder)}
    return sorted(name for name in found if selection.takes_experiment(name))


def pack_models(lake: Lake, selection: Selection) -> Shipment:
    """Put the chosen models together, every version a parcel."""
    versions = [PurePosixPath(thing.path) for thing in lake.published("models")]
    things = [
        model_folder(path.parent.name, path.name)
        for path in versions
        if selection.takes_model(path.parent.name)
    ]
    return Shipment(None, tuple(Parcel(thing.path, (thing,)) for thing in things))


def pack_experiment(lake: Lake, experiment: str, selection: Selection) -> Shipment:
    """Put the chosen plates of an experiment together, each with its chosen embeddings.

    Raises
    ------
    InputError
        If a name in the lake is none that phenopipe gives.
    """
    found: dict[PlateKey, list[Thing]] = {}
    for kind in _INGESTED:
        for thing in lake.published(kind, within=experiment):
            found.setdefault(_read_key(thing), []).append(thing)
    for model in _list_models(lake, selection):
        for thing in lake.published("embeddings", within=f"{model}/{experiment}"):
            key = _read_key(thing)
            found.setdefault(key, []).append(embeddings(model, key))
    parcels = [
        Parcel(str(key), tuple(things))
        for key, things in sorted(found.items())
        if selection.takes_plate(key.plate)
    ]
    return Shipment(experiment, tuple(parcels))


def _list_models(lake: Lake, selection: Selection) -> list[str]:
    return [name for name in lake.folders("embeddings") if selection.takes_model(name)]


def _list_folders(lake: Lake, folder: str) -> list[str]:
    kind, _, within = folder.partition("/")
    return lake.folders(kind, within=within)


def _list_plates(lake: Lake, selection: Selection) -> Iterator[str]:
    """Give the names of plates, an experiment at a time."""
    for experiment in list_experiments(lake, selection):
        everything = Selection(models=selection.models)
        for parcel in pack_experiment(lake, experiment, everything).parcels:
            yield PurePosixPath(parcel.name).name


def _read_key(thing: Thing) -> PlateKey:
    """Read the plate from a thing's path; a name that could lead out of the lake is refused."""
    path = PurePosixPath(thing.path)
    return PlateKey(path.parent.name, path.stem)


def _is_chosen(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_found(what: str, patterns: Sequence[str], names: Iterable[str], lake: Lake) -> None:
    pending = set(patterns)
    # Names may be listed one by one from far away: no more of them than are needed.
    for name in names if pending else ():
        pending -= {pattern for pattern in pending if fnmatchcase(name, pattern)}
        if not pending:
            return
    if pending:
        raise InputError(
            f"expected a published {what} {min(pending)} in {lake.root}, found none of that name: "
            "`phenopipe status` lists what there is"
        )
