"""What the flows' forms ask: one type a question, with its help and its limits."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field

from phenopipe.config import EmbedConfig, Settings, override, read_settings

NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,119}"
_GLOB = r"[A-Za-z0-9._+*?\[\]!-]{1,120}"
_PLATE_GLOB = rf"({_GLOB}/)?{_GLOB}"
_EMPTY_OR_NAME = rf"^({NAME})?$"


def ask(text: str, **limits: Any) -> Any:
    """Say what a parameter is and what it may be: ``Annotated[int, ask("How many.", ge=1)]``.

    Prefect 3.8 makes the form's fields anew and drops an annotation's description; the schema's
    extra it keeps.
    """
    return Field(description=text, json_schema_extra={"description": text}, **limits)


Stage = Literal["embed", "map", "benchmark"]
Place = Literal["here", "cpu", "gpu-onprem", "gpu-cloud"]

Root = Annotated[str, ask("The lake's root: a folder or gs://bucket/prefix.", min_length=1)]
Landing = Annotated[str, ask("The landing zone: a folder of plates.", min_length=1)]
QuietMinutes = Annotated[
    float, ask("A plate is complete once nothing in it changed for so long.", ge=0)
]
OverdueHours = Annotated[float, ask("A plate that takes longer to arrive raises an alert.", gt=0)]
Experiments = Annotated[
    tuple[Annotated[str, Field(pattern=rf"^{_GLOB}$")], ...],
    ask("Experiments: names, or patterns such as HUVEC-*. None: all."),
]
Plates = Annotated[
    tuple[Annotated[str, Field(pattern=rf"^{_PLATE_GLOB}$")], ...],
    ask("Plates: names, or patterns such as Plate1? or HUVEC-1/*. None: all."),
]
PlateNames = Annotated[
    tuple[Annotated[str, Field(pattern=rf"^{NAME}/{NAME}$")], ...],
    ask("Plates, each as experiment/plate.", min_length=1),
]
Since = Annotated[date | None, ask("Only plates ingested on this day or later (UTC).")]
Until = Annotated[date | None, ask("Only plates ingested on this day or earlier (UTC).")]
Stages = Annotated[
    tuple[Stage, ...],
    ask(
        "What is brought up to date: embeddings plate by plate; then the map; then "
        "its scores and report.",
        min_length=1,
    ),
]
ModelName = Annotated[
    str, ask("The embedding model, by its name in the lake.", pattern=rf"^{NAME}$")
]
Version = Annotated[str, ask("The model's version. Empty: the newest.", pattern=_EMPTY_OR_NAME)]
MapName = Annotated[str, ask("The map's name.", pattern=rf"^{NAME}$")]
MapNameOrNone = Annotated[str, ask("The map that is made. Empty: none.", pattern=_EMPTY_OR_NAME)]
Annotations = Annotated[str, ask("A folder of known relationships, to score the map. Empty: none.")]
Where = Annotated[
    Place,
    ask(
        "Where plates are embedded: here, in this run; or in runs of their own in the "
        "work pool of that name."
    ),
]
InFlight = Annotated[
    int,
    # Workers fetch 200 runs at a time: more would keep other deployments waiting (#19403).
    ask("Runs that are scheduled or at work at a time, at most.", ge=1, le=199),
]
Force = Annotated[bool, ask("Embed anew what is published and up to date, too. Costs all of it.")]
DryRun = Annotated[bool, ask("Only tell what there is to do, and what it would cost.")]
ProviderOrAuto = Annotated[
    Literal["auto", "cpu", "cuda", "tensorrt", "openvino"],
    ask(
        "What runs the model. auto: what the settings say; else cuda in the GPU "
        "pools, cpu elsewhere."
    ),
]
SettingsFile = Annotated[
    str, ask("An assay's settings (TOML), where the run can read it. Empty: none.")
]
ComputeKind = Annotated[
    str,
    ask(
        "What computes in this run: threads, local, cuda, slurm or a scheduler's address.",
        pattern=r"^(threads|local|cuda|slurm|[a-z]+://.+)$",
    ),
]


def choose_settings(file: str) -> Settings:
    """Read the settings file that was named, or take the defaults."""
    return read_settings(file) if file else Settings()


def choose_embedding(settings: Settings, *, provider: str, where: Place) -> EmbedConfig:
    """Say how plates are embedded there, with the provider that was asked for.

    Examples
    --------
    >>> choose_embedding(Settings(), provider="auto", where="gpu-cloud").provider
    'cuda'
    >>> choose_embedding(Settings(), provider="cpu", where="gpu-cloud").provider
    'cpu'
    """
    chosen = settings.embed
    if provider != "auto":
        return override(chosen, provider=provider)
    if "provider" in chosen.model_fields_set or not where.startswith("gpu"):
        return chosen
    return override(chosen, provider="cuda")
