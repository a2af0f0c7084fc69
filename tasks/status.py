"""A screen in one table: each plate, how far it is, and what wants a person."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from prefect import task
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import BaseModel, ConfigDict

from phenopipe.catalogue import Entry, describe_lake, tabulate_plates
from phenopipe.errors import InputError
from phenopipe.ingest import read_verdict
from phenopipe.lake import Lake
from phenopipe.plates import PlateKey
from tasks.labels import artifact_key, artifact_url
from tasks.outcome import RETRIES, open_lake

# Verdicts read at a time: on object storage each is a few requests of some 50 ms.
_READERS = 16

# What is to be done about a stage in a state; by the stages' columns.
_REMEDIES = {
    "missing": "embed",
    "begun": "embed",
    "stale": "embed anew",
    "incomplete": "some fields skipped",
    "damaged": "data are gone: make anew",
    "half-written": "a run was stopped here, or is at work",
}


class ScreenStatus(BaseModel):
    """A row a plate, those that want a person first; and the state of each map, by name."""

    model_config = ConfigDict(frozen=True)

    plates: list[dict[str, str]]
    maps: dict[str, str]


@task(name="status", task_run_name="status", tags=["stage:status"], **RETRIES)
def read_status(root: str) -> State[ScreenStatus]:
    """Read the state of each plate and of each map."""
    try:
        status = _read_status(open_lake(root))
    except InputError as error:
        return Failed(message=str(error), data=error)
    wanting = sum(bool(plate["to do"]) for plate in status.plates)
    told = f"{len(status.plates):,} plates, {wanting:,} of which want a person"
    return Completed(message=told, data=status)


def _read_status(lake: Lake) -> ScreenStatus:
    entries = describe_lake(lake)
    plates = tabulate_plates(entries)
    with ThreadPoolExecutor(_READERS) as pool:
        verdicts = list(pool.map(lambda row: _read_verdict(lake, row), plates))
    rows = [describe_row(row, told) for row, told in zip(plates, verdicts, strict=True)]
    rows.sort(key=lambda row: not row["to do"])
    return ScreenStatus(plates=rows, maps=_list_maps(entries))


def _read_verdict(lake: Lake, row: Mapping[str, str]) -> str:
    try:
        found = read_verdict(lake, PlateKey(row["experiment"], row["plate"]))
    except FileNotFoundError:
        # It went between the listing and the reading: a run has begun to write it anew.
        return ""
    return ": ".join(part for part in found if part) if found else ""


def describe_row(stages: Mapping[str, str], verdict: str) -> dict[str, str]:
    """Describe one plate for people who look after it.

    Parameters
    ----------
    stages
        A row of `phenopipe.catalogue.tabulate_plates`.
    verdict
        Its QC's, with the reason.

    Examples
    --------
    >>> stages = {"experiment": "E", "plate": "P", "ingest": "published", "embed:vit": "stale"}
    >>> describe_row(stages, "fail: failed_fields")["to do"]
    'look at its heatmap; vit: embed anew'
    """
    todo = ["look at its heatmap"] if verdict.startswith("fail") else []
    for stage, state in list(stages.items())[2:]:
        if state != "published":
            remedy = "ingest" if stage == "ingest" and state == "missing" else _REMEDIES[state]
            todo.append(f"{stage.removeprefix('embed:')}: {remedy}")
    page = artifact_url(artifact_key("qc", stages["experiment"], stages["plate"]))
    return {
        **{name.replace(":", " "): state for name, state in stages.items()},
        "QC": verdict.replace("_", " "),
        "to do": "; ".join(todo),
        "page": f"[QC]({page})" if page else "",
    }


def _list_maps(entries: list[Entry]) -> dict[str, str]:
    found = ((entry.thing.split("/"), entry.state) for entry in entries)
    return {path[1]: state for path, state in found if path[0::2] == ["maps", "map.zarr"]}
