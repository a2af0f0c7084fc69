"""Build one map."""

from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from flows.forms import NAME, MapName, ModelName, Root, SettingsFile, ask, choose_settings
from flows.guard import guarded
from flows.scoring import map_and_score
from flows.steps import conclude
from phenopipe.config import Align, override


@flow(name="map", flow_run_name="{name}")
@guarded
def make_map(
    root: Root,
    name: MapName,
    model: ModelName = "classical",
    experiments: Annotated[
        tuple[Annotated[str, Field(pattern=rf"^{NAME}$")], ...],
        ask("Experiments, by name. None: all that are embedded."),
    ] = (),
    align: Annotated[
        Align | None, ask("How batches are made alike; the settings', or tvn.")
    ] = None,
    correct: Annotated[
        Literal["arms", "none"] | None,
        ask("Of proximity bias; the settings', or arms."),
    ] = None,
    settings: SettingsFile = "",
) -> State[Any]:
    """Align, correct and aggregate published embeddings into a published map."""
    chosen = choose_settings(settings)
    steps = map_and_score(
        name,
        root=root,
        model=model,
        experiments=experiments or None,
        annotations=None,
        map_config=override(chosen.map, align=align, correct=correct),
        benchmark_config=chosen.benchmark,
    )
    return conclude(steps, key="map")
