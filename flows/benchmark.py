"""Score one map, and write its report."""

from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.forms import MapName, Root, SettingsFile, ask, choose_settings
from flows.guard import guarded
from flows.scoring import score_and_report
from flows.steps import conclude


@flow(name="benchmark", flow_run_name="{name}")
@guarded
def score_map(
    root: Root,
    name: MapName,
    annotations: Annotated[str, ask("A folder of known relationships.", min_length=1)],
    settings: SettingsFile = "",
) -> State[Any]:
    """Score a published map against known relationships, and write its report."""
    config = choose_settings(settings).benchmark
    steps = score_and_report(name, root=root, annotations=Path(annotations), config=config)
    return conclude(steps, key="benchmark")
