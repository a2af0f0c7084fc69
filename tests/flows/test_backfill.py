"""A backfill as a scientist starts it: told first, then run; cancelled, or started again."""

import json
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from prefect import flow
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.responses import SetStateStatus
from prefect.flow_engine import run_flow
from prefect.states import Cancelling, Running, Scheduled
from prefect.utilities.callables import parameter_schema

from flows import fan_out as fans
from flows.backfill import backfill
from flows.fan_out import Order, fan_out
from flows.plates import process_plates
from phenopipe import compute
from phenopipe.embed import embed_plate
from phenopipe.lake import Lake, embeddings, platemap
from phenopipe.plates import PlateKey
from tests.embed.conftest import PlateWriter
from tests.embed.graphs import HANGS, add_model

PROJECT = Path(__file__).parents[2]
KEYS = [PlateKey("HUVEC-1", f"P{number}") for number in range(4)]
NAMES = [str(key) for key in KEYS]


@pytest.fixture(scope="module")
def pool(server, prefect_server):
    """Start a worker of the pool ``cpu``, with the deployments that it runs."""
    server.create_work_pool(WorkPoolCreate(name="cpu", type="process"))
    for deployed, name in ((process_plates, "cpu"), (backfill, "backfill")):
        server.create_deployment(
            server.create_flow(deployed),
            name=name,
            entrypoint=f"{deployed.fn.__module__}.{deployed.fn.__name__}",
            pull_steps=[
                {"prefect.deployments.steps.set_working_directory": {"directory": str(PROJECT)}}
            ],
            work_pool_name="cpu",
            parameter_openapi_schema=parameter_schema(deployed).model_dump_for_openapi(),
        )
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "cpu"]
    quick = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_WORKER_PREFETCH_SECONDS": "10"}
    with subprocess.Popen(command, env=prefect_server | quick, cwd=PROJECT) as worker:
        yield
        worker.send_signal(signal.SIGINT)


@pytest.fixture
def lake(tmp_path):
    """Four small plates, and a model that sums their pixels; the first is embedded."""
    lake = Lake(tmp_path / "lake")
    add_model(lake)
    for key in KEYS:
        PlateWriter(lake, key=key).publish()
    with compute.client("threads", workers=1) as client:
        embed_plate(lake, KEYS[0], model="sums", client=client)
    return lake


def published(lake, model="sums"):
    return [str(key) for key in KEYS if lake.manifest(embeddings(model, key))]


def start(lake, **asked):
    usual = {"root": lake.root, "model": "sums", "compute_kind": "threads"}
    return backfill(**(usual | asked), return_state=True)


def read_table(server, key, run):
    wanted = ArtifactFilter(
        key=ArtifactFilterKey(any_=[key]), flow_run_id=ArtifactFilterFlowRunId(any_=[run])
    )
    (table,) = server.read_artifacts(artifact_filter=wanted)
    return json.loads(table.data), table.description


def read_children(server, run):
    parent = FlowRunFilterParentFlowRunId(any_=[run])
    return server.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parent))


def await_state(server, run, reached, *, within_s=90):
    deadline = time.monotonic() + within_s
    while not reached(state := server.read_flow_run(run).state):
        assert time.monotonic() < deadline, f"{state!r} after {within_s} s"
        time.sleep(0.3)
    return state


def outcomes(rows):
    return {row["item"]: row["outcome"] for row in rows}


def test_a_dry_run_tells_what_there_is_to_do_and_does_nothing(server, lake):
    state = start(lake, dry_run=True)
    assert state.is_completed()
    assert "Plates to embed: 3; published already: 1" in state.message
    rows, told = read_table(server, "backfill-plan", state.state_details.flow_run_id)
    assert {row["plate"]: row["state"] for row in rows} == {
        "P0": "published",
        "P1": "missing",
        "P2": "missing",
        "P3": "missing",
    }
    # Six fields of 64 x 64 pixels a plate, in crops of 32.
    assert "72 crops" in told
    assert all(row["minutes"] >= 0 and row["read_gb"] >= 0 for row in rows)
    assert published(lake) == NAMES[:1]


def test_what_is_missing_is_embedded_and_a_bad_plate_fails_alone(server, lake):
    lake.clear(platemap(KEYS[2]))
    state = start(lake)
    assert state.is_failed()
    rows, _ = read_table(server, "backfill-result", state.state_details.flow_run_id)
    assert outcomes(rows) == dict(zip(NAMES, ["skipped", "done", "failed", "done"], strict=True))
    assert rows[0]["item"] == NAMES[2], "what wants a person stands first"
    assert "platemaps/HUVEC-1/P2.parquet" in rows[0]["message"]
    assert NAMES[2] in state.message
    assert "Traceback" not in state.message

    PlateWriter(lake, key=KEYS[2]).publish_platemap([])
    assert start(lake).name == "Completed"
    assert published(lake) == NAMES
    # There is no such cluster: where nothing is to be done none is started.
    assert start(lake, compute_kind="tcp://nowhere:1").name == "Cached"


def test_force_embeds_anew_what_is_published_and_gives_the_same_bytes(server, lake):  # noqa: ARG001
    before = lake.manifest(embeddings("sums", KEYS[0]))
    assert start(lake, plates=["P0"]).name == "Cached"
    assert start(lake, plates=["P0"], force=True).name == "Completed"
    after = lake.manifest(embeddings("sums", KEYS[0]))
    assert after.started > before.started
    assert (after.key, after.files) == (before.key, before.files)
    assert published(lake) == NAMES[:1], "no other plate was asked for"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"experiments": ["HUVEC-9"]}, "experiment HUVEC-9"),
        ({"stages": ["embed", "map"]}, "the map's name"),
        ({"since": "2026-02-02", "until": "2026-02-01"}, "since to lie before until"),
        ({"version": "7"}, "7"),
        ({"where": "gpu-cloud"}, "the deployment plates/gpu-cloud"),
    ],
)
@pytest.mark.usefixtures("server")
def test_what_cannot_be_done_is_told_in_one_sentence(lake, asked, told):
    state = start(lake, **asked)
    assert state.is_failed()
    assert told in state.message
    assert "Traceback" not in state.message


@flow
def send(groups: list[list[str]], root: str):
    parameters = {"root": root, "model": "sums", "compute_kind": "threads"}
    order = Order(pool="cpu", queue="backfill", in_flight=2, parameters=parameters)
    return [step.model_dump() for step in fan_out([tuple(group) for group in groups], order)]


class PowerCutError(BaseException):
    """The machine goes: no code of ours sees it."""


@pytest.mark.usefixtures("pool")
@pytest.mark.timeout(600)
def test_a_parent_that_is_started_again_follows_the_runs_of_its_first_life(
    server, lake, monkeypatch
):
    def cut_power(_children):
        raise PowerCutError

    asked = {"groups": [NAMES[1:3], NAMES[3:]], "root": lake.root}
    run = server.create_flow_run(send, parameters=asked)
    with monkeypatch.context() as patch:
        patch.setattr(fans._Children, "look", cut_power)
        with pytest.raises(PowerCutError):
            run_flow(send, flow_run=run, parameters=asked)
    first = read_children(server, run.id)
    assert sorted(child.parameters["plates"] for child in first) == asked["groups"]

    server.set_flow_run_state(run.id, Scheduled(name="AwaitingRetry"), force=True)
    again = asked | {"groups": [NAMES[2:4], NAMES[1:2]]}
    rows = run_flow(send, flow_run=server.read_flow_run(run.id), parameters=again)
    assert outcomes(rows) == dict.fromkeys(NAMES[1:], "done")
    assert all(str(first[0].id) in row["run"] or str(first[1].id) in row["run"] for row in rows)
    assert {child.id for child in read_children(server, run.id)} == {child.id for child in first}
    assert published(lake) == NAMES


def test_a_run_has_no_more_tags_than_the_server_takes(server):
    names = [f"HUVEC-1/P{number:03d}" for number in range(120)]
    few, many = (fans._name_tags(tuple(names[:n]), model="sums") for n in (57, 58))
    assert many == ["stage:embed", "model:sums", "experiment:HUVEC-1"]
    assert few == [*many, *(f"plate:P{number:03d}" for number in range(57))]
    run = server.create_flow_run(send, tags=few)
    assert server.set_flow_run_state(run.id, Running()).status == SetStateStatus.ACCEPT
    with pytest.raises(httpx.HTTPStatusError, match="500"):  # where it is none: tag all plates
        server.create_flow_run(send, tags=[f"plate:{name}" for name in names])


@pytest.mark.usefixtures("pool")
def test_a_server_that_answers_with_errors_is_not_asked_for_ever(server, lake, monkeypatch):
    """A plate whose run the server cannot make ends the backfill, with the server's own words."""
    monkeypatch.setattr(fans, "_UNWELL_S", 3.0)
    monkeypatch.setattr(fans, "_MOST_TAGS", 1000)
    group = [f"HUVEC-1/none{number}" for number in range(120)]
    asked = {"groups": [group], "root": lake.root}
    run = server.create_flow_run(send, parameters=asked)
    with pytest.raises(httpx.HTTPStatusError, match="500"):
        run_flow(send, flow_run=run, parameters=asked)


def tell_slow(lake, table):
    """Let a table's manifest tell of an hour's work, so that each plate gets a run of its own."""
    manifest = Path(f"{lake.path(table)}.json")
    told = json.loads(manifest.read_text())
    started = datetime.fromisoformat(told["finished"]) - timedelta(hours=1)
    manifest.write_text(json.dumps(told | {"started": started.isoformat()}))


@pytest.mark.usefixtures("pool")
@pytest.mark.timeout(600)
def test_cancel_stops_what_runs_and_what_waits(server, lake):
    add_model(lake, HANGS, name="hangs")
    PlateWriter(lake, key=KEYS[1], bright=(("B11", 2),)).publish()
    with compute.client("threads", workers=1) as client:
        embed_plate(lake, KEYS[0], model="hangs", client=client)
    tell_slow(lake, embeddings("hangs", KEYS[0]))

    backfills = server.read_deployment_by_name("backfill/backfill")
    asked = {"root": lake.root, "model": "hangs", "where": "cpu", "in_flight": 1}
    run = server.create_flow_run_from_deployment(backfills.id, parameters=asked).id
    while not (children := read_children(server, run)):
        assert not server.read_flow_run(run).state.is_final()
        time.sleep(0.2)
    await_state(server, children[0].id, lambda state: state.is_running())
    server.set_flow_run_state(run, Cancelling())

    for one in (run, children[0].id):
        await_state(server, one, lambda state: state.is_cancelled())
    assert children[0].parameters["plates"] == NAMES[1:2]
    assert len(read_children(server, run)) == 1, "what waited was not started"
    assert lake.is_free(embeddings("hangs", KEYS[1]))
    assert published(lake, "hangs") == NAMES[:1]
