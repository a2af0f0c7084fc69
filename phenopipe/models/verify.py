"""Verify a published model: its files, its card against its graph, its parity, where it runs."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Manifest, Thing, model_folder
from phenopipe.models.candidate import REFERENCE_FILE
from phenopipe.models.card import Card
from phenopipe.models.parity import Parity, Reference, check_parity, read_references, worst_parity
from phenopipe.models.providers import check_provider
from phenopipe.models.registry import find_model
from phenopipe.models.session import read_model


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: ``ok`` or ``failed``, and what was found."""

    check: str
    outcome: str
    what: str

    def as_row(self) -> dict[str, str]:
        """Give the check as a row of a table."""
        return asdict(self)


def verify_model(lake: Lake, name: str, *, providers: Sequence[str] = ("cpu",)) -> list[Check]:
    """Read a model's newest version again, and run the parity gate on each provider.

    Raises
    ------
    InputError
        If there is no such model, or a provider is not here.
    """
    for provider in providers:
        check_provider(provider)
    card = find_model(lake, name)
    thing = model_folder(card.name, card.version)
    manifest = lake.require(thing, remedy="add the model again")
    return [_check_files(lake, thing, manifest), *_run_gate(lake, thing, card, providers)]


def _check_files(lake: Lake, thing: Thing, manifest: Manifest) -> Check:
    found = lake.digest_files(thing)
    names = sorted(found.keys() | manifest.files.keys())
    if differ := [name for name in names if found.get(name) != manifest.files.get(name)]:
        what = f"{', '.join(differ)} changed or damaged since {thing} was published: add it again"
        return Check("files", "failed", what)
    return Check("files", "ok", f"{', '.join(names)} as published")


def _run_gate(lake: Lake, thing: Thing, card: Card, providers: Sequence[str]) -> Iterator[Check]:
    try:
        content = read_model(lake, thing, card.digest)
        references = _read_kept(lake, thing)
    except (InputError, OSError) as error:
        yield Check("digest", "failed", str(error))
        return
    yield Check("digest", "ok", f"SHA-256 {card.digest}")
    for provider in providers:
        try:
            running, figures = check_parity(content, card, references, provider=provider)
        except InputError as error:
            yield Check(provider, "failed", str(error))
        else:
            yield Check(provider, "ok", f"{running}: {_spell(worst_parity(figures))}")


def _spell(parity: Parity | None) -> str:
    if parity is None:
        return "no original to compare with"
    return f"cosine {parity.cosine:.6f}, largest difference {parity.max_abs:.1e}"


def _read_kept(lake: Lake, thing: Thing) -> list[Reference]:
    files = lake.require(thing, remedy="add the model again").files
    if REFERENCE_FILE not in files:
        return []
    return read_references(
        lake.read_bytes(thing, REFERENCE_FILE), where=f"{thing}/{REFERENCE_FILE}"
    )
