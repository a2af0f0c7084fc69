"""What lab ops see in Prefect's UI, on a real server: pages, events, progress and the status."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from prefect import flow
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.runtime import flow_run

from flows.status import report_status
from flows.verdicts import judge_batches
from phenopipe.catalogue import describe_lake, tabulate_plates
from phenopipe.config import EmbedConfig, IngestConfig, QCConfig
from phenopipe.lake import Lake, embeddings
from phenopipe.plates import PlateKey
from tasks.embed import embed_plate
from tasks.ingest import ingest_plate
from tasks.labels import plate_resource, tagged
from tasks.progress import show_progress

GOOD, EMPTY = PlateKey("Batch1", "Good"), PlateKey("Batch1", "Empty")


@flow
def take_in(folders, root):
    for folder in folders:
        with tagged(experiment="Batch1", plate=folder.name):
            ingest_plate(folder, root=root, scheduler="threads", config=IngestConfig())
    with tagged(experiment="Batch1", plate="Good", model="classical"):
        embed_plate(GOOD, root=root, scheduler="threads", model="classical", config=EmbedConfig())
    judge_batches(root, {"Batch1"}, QCConfig())


@pytest.fixture(scope="module")
def ingested(server, tmp_path_factory):  # noqa: ARG001
    """Ingest a plate with cells and one without, and embed the first; gives the root and run."""
    folder = tmp_path_factory.mktemp("status")
    plates = [folder / "Batch1" / key.plate for key in (GOOD, EMPTY)]
    for plate in plates:
        write_plate(plate, cells=plate.name == "Good")
    root = str(folder / "lake")
    state = take_in(plates, root, return_state=True)
    assert state.is_completed(), state.message
    return root, state.state_details.flow_run_id


def write_plate(folder, *, cells):
    (folder / "TimePoint_1").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for well in ("B02", "B03"):
        for wave in (1, 2):
            image = rng.integers(100, 300, (160, 200)).astype("uint16")
            if cells:
                image[40:60, 40:80] += 2000
            name = f"{folder.name}_{well}_s1_w{wave}.TIF"
            tifffile.imwrite(folder / "TimePoint_1" / name, image)


def read_artifacts(server, run, key=None):
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[run]),
        key=ArtifactFilterKey(any_=[key]) if key else None,
    )
    return server.read_artifacts(artifact_filter=wanted)


def read_events(server, name, *, count, wait_s=20):
    """Read our plates' events of a name; they come a moment after they were emitted."""
    ours = [plate_resource(key)["prefect.resource.id"] for key in (GOOD, EMPTY)]
    wanted = EventFilter(event=EventNameFilter(name=[name]), resource=EventResourceFilter(id=ours))
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        answer = server._client.post(
            "/events/filter", json={"filter": wanted.model_dump(mode="json")}
        )
        found = answer.json()["events"]
        if len(found) >= count:
            break
        time.sleep(0.3)
    return found


def test_a_plates_page_tells_its_verdict_and_its_wells(server, ingested):
    (page,) = read_artifacts(server, ingested[1], "qc-batch1-empty")
    assert "# Batch1/Empty: fail" in page.data
    assert "| fail | empty | 2 | B02, B03 |" in page.data
    (good,) = read_artifacts(server, ingested[1], "qc-batch1-good")
    assert "0 of 2 fields failed; 0 files missing" in good.data


def test_a_plates_picture_is_on_a_page(server, ingested):
    (page,) = read_artifacts(server, ingested[1], "heatmap-batch1-good")
    assert page.data.startswith("![Batch1/Good](data:image/png;base64,")


@pytest.mark.usefixtures("ingested")
def test_a_plate_that_failed_qc_is_an_event(server):
    (event,) = read_events(server, "phenopipe.plate.qc-failed", count=1)
    assert event["resource"]["prefect.resource.id"] == "phenopipe.plate.Batch1.Empty"
    assert event["payload"]["reason"].startswith("failed_fields")
    assert {"flow-run", "task-run"} <= {
        related["prefect.resource.role"] for related in event["related"]
    }


@pytest.mark.usefixtures("ingested")
def test_what_is_published_is_an_event_by_stage(server):
    events = read_events(server, "phenopipe.plate.published", count=3)
    told = {(one["payload"]["plate"], one["payload"]["stage"]) for one in events}
    assert told == {("Good", "ingest"), ("Empty", "ingest"), ("Good", "embed")}


def test_runs_are_found_by_name_and_by_tag(server, ingested):
    ours = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[ingested[1]]))
    runs = {run.name: set(run.tags) for run in server.read_task_runs(task_run_filter=ours)}
    assert runs["ingest Batch1/Empty"] == {"stage:ingest", "experiment:Batch1", "plate:Empty"}
    assert runs["embed Batch1/Good"] == {
        *("stage:embed", "experiment:Batch1", "plate:Good"),
        "model:classical",
    }
    assert runs["qc Batch1"] == {"stage:qc", "experiment:Batch1"}


def test_the_status_says_of_each_plate_how_far_it_is_and_what_to_do(server, ingested):
    root, _ = ingested
    state = report_status(root, return_state=True)
    assert state.message == "2 plates, 1 of which want a person"
    (table,) = read_artifacts(server, state.state_details.flow_run_id, "screen-status")
    empty, good = json.loads(table.data)
    assert (empty["plate"], empty["QC"]) == ("Empty", "fail: failed fields,empty")
    assert empty["to do"] == "look at its heatmap; classical: embed"
    assert good["to do"] == ""
    assert good["page"].endswith("/artifacts/key/qc-batch1-good)")
    stages = {row["plate"]: row for row in tabulate_plates(describe_lake(Lake(root)))}
    for row in (empty, good):
        told = (row["ingest"], row["embed classical"])
        assert told == (
            stages[row["plate"]]["ingest"],
            stages[row["plate"]]["embed:classical"],
        )


def test_the_status_of_a_lake_that_cannot_be_read_is_one_sentence(ingested, tmp_path):
    lake = Lake(shutil.copytree(ingested[0], tmp_path / "lake"))
    broken = f"{embeddings('classical', GOOD)}.json"
    Path(lake.root, broken).write_text("{", encoding="utf-8")
    state = report_status(lake.root, return_state=True)
    assert state.is_failed()
    assert broken in state.message


@flow
def work(done, *, of, every_s, fail=False):
    with show_progress("embed Batch1/Good", every_s=every_s) as on_progress:
        for number in range(1, done + 1):
            on_progress(number, of)
        if fail:
            raise ValueError("stopped here")


def read_bars(server, state):
    found = read_artifacts(server, state.state_details.flow_run_id)
    return [artifact for artifact in found if artifact.type == "progress"]


def test_a_long_stage_tells_how_far_it_is(server):
    state = work(3, of=4, every_s=0, return_state=True)
    (bar,) = read_bars(server, state)
    assert (bar.type, bar.data) == ("progress", 100)
    assert bar.description == "embed Batch1/Good: done"


def test_a_stage_that_failed_stays_where_it_was(server):
    state = work(1, of=4, every_s=0, fail=True, return_state=True)
    (bar,) = read_bars(server, state)
    assert (bar.data, bar.description) == (25, "embed Batch1/Good: 1 of 4")


def test_a_bar_that_cannot_be_told_does_not_end_the_stage(server, caplog):
    @flow
    def work_on():
        run = flow_run.get_id()
        with show_progress("embed Batch1/Good", every_s=0) as on_progress:
            on_progress(1, 3)
            while not (bars := read_artifacts(server, run)):
                time.sleep(0.1)
            server.delete_artifact(bars[0].id)
            on_progress(2, 3)

    assert work_on(return_state=True).is_completed()
    assert "embed Batch1/Good: its progress could not be told" in caplog.text


def test_a_short_stage_leaves_no_bar(server):
    state = work(4, of=4, every_s=3600, return_state=True)
    assert state.is_completed()
    assert read_bars(server, state) == []
