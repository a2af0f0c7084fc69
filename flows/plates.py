"""Embed some plates in one run: what backfills and nights fan out to the work pools."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.concurrency.sync import concurrency
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.cluster import open_cluster
from flows.forms import ComputeKind, Force, ModelName, PlateNames, Root, Version, ask
from flows.guard import guarded
from flows.steps import Step, conclude
from phenopipe import compute
from phenopipe.config import EmbedConfig
from phenopipe.plates import PlateKey
from tasks.embed import embed_plate
from tasks.labels import tagged

# Two plates at once: one reads while the other computes, and no more lie in memory. Each run gets a
# runner of its own by it; its futures do not fit the decorator's annotation in Prefect 3.8.
TWO_PLATES: Any = ThreadPoolTaskRunner(max_workers=2)

# The table that a run leaves, by which the run that started it learns of each plate.
PLATES_KEY = "plates"


def name_plates(plates: Sequence[str]) -> str:
    """Name a run for its plates.

    Examples
    --------
    >>> name_plates(["HUVEC-1/Plate1"]), name_plates(["HUVEC-1/Plate1", "HUVEC-1/Plate2"])
    ('HUVEC-1/Plate1', 'HUVEC-1/Plate1 and 1 more')
    """
    return plates[0] if len(plates) == 1 else f"{plates[0]} and {len(plates) - 1:,} more"


def _name_run() -> str:
    return name_plates(flow_run.parameters["plates"])


@flow(
    name="plates",
    flow_run_name=_name_run,
    task_runner=TWO_PLATES,
)
@guarded
def process_plates(
    plates: PlateNames,
    root: Root,
    model: ModelName = "classical",
    version: Version = "",
    force: Force = False,
    config: EmbedConfig = EmbedConfig(),  # noqa: B008 - frozen
    compute_kind: ComputeKind = "local",
    gpu_limit: Annotated[
        str | None, ask("The global concurrency limit that counts the GPUs' slots.")
    ] = None,
) -> State[Any]:
    """Embed plates that are ingested; skip those that are published as asked.

    One that cannot be embedded fails alone. The run's table ``plates`` says of each how it ended.
    """
    keys = [PlateKey(*plate.split("/")) for plate in plates]
    with _hold_slot(gpu_limit):
        steps = embed_plates(
            keys,
            root=root,
            model=model,
            version=version,
            force=force,
            config=config,
            compute_kind=compute_kind,
        )
    return conclude(steps, key=PLATES_KEY)


def embed_plates(
    keys: Sequence[PlateKey],
    *,
    root: str,
    model: str,
    version: str,
    force: bool,
    config: EmbedConfig,
    compute_kind: str,
) -> list[Step]:
    """Embed plates as tasks of this run, on one cluster; one that fails does not stop the others.

    Raises
    ------
    InputError
        If there is no such cluster.
    """
    with open_cluster(compute_kind) as client:
        scheduler = compute.scheduler_address(client)
        runs = []
        for key in keys:
            with tagged(experiment=key.experiment, plate=key.plate, model=model):
                run = embed_plate.submit(
                    key,
                    root=root,
                    scheduler=scheduler,
                    model=model,
                    version=version or None,
                    force=force,
                    config=config,
                )
            runs.append(run)
        for run in runs:
            run.wait()
    return [Step.of("embed", str(key), run.state) for key, run in zip(keys, runs, strict=True)]


def _hold_slot(limit: str | None) -> AbstractContextManager[None]:
    """Take a GPU's slot before the cluster starts, and hold it until that is closed.

    A server that is away for a while does not end the run: at worst two share a GPU then.
    """
    if not limit:
        return nullcontext()
    return concurrency(limit, occupy=1, strict=True, raise_on_lease_renewal_failure=False)
