"""Sweep a lake, and read again what is published."""

from prefect import task
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from phenopipe import catalogue
from phenopipe.catalogue import Entry
from tasks.outcome import RETRIES, open_lake
from tasks.progress import show_progress


@task(name="sweep", task_run_name="sweep", tags=["stage:sweep"], **RETRIES)
def sweep_lake(root: str, *, dry_run: bool) -> State[list[Entry]]:
    """Remove what no manifest vouches for; what a run is writing is left alone."""
    found = catalogue.sweep_lake(open_lake(root), dry_run=dry_run)
    done = "to remove" if dry_run else "removed"
    swept = [Entry(path, done) for path in found]
    return Completed(message=f"{len(swept):,} {done}", data=swept)


@task(name="verify", task_run_name="verify", tags=["stage:verify"], **RETRIES)
def verify_lake(root: str, *, part: int, parts: int) -> State[list[Entry]]:
    """Read a part of what is published again, and hold it against the manifests' digests."""
    lake = open_lake(root)
    with show_progress("verify") as on_progress:
        damaged = catalogue.verify_lake(lake, part=part, parts=parts, on_progress=on_progress)
    if damaged:
        named = "; ".join(f"{one.thing}: {one.why}" for one in damaged[:5])
        return Failed(message=f"{len(damaged):,} things are damaged, such as {named}", data=damaged)
    return Completed(message=f"as published: part {part + 1} of {parts}", data=damaged)
