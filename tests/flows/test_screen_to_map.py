"""The flow as its users meet it: on a real server, from files to a report."""

import json
import shutil
import urllib.request
from pathlib import Path

import pandas as pd
import pytest

from phenopipe.catalogue import describe_lake, tabulate_plates
from phenopipe.lake import Lake, map_part


@pytest.fixture(scope="module")
def ask(prefect_server):
    """Ask the server's API for the runs of a kind."""

    def ask(kind, query):
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{prefect_server['PREFECT_API_URL']}/{kind}/filter",
            data=json.dumps(query).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return json.load(answer)

    return ask


@pytest.fixture(scope="module")
def finished(start_flow, tmp_path_factory):
    """Run the screen to its map once; returns the lake's root and what was printed."""
    root = tmp_path_factory.mktemp("flow") / "lake"
    process = start_flow(root)
    output, _ = process.communicate(timeout=800)
    assert process.returncode == 0, output
    return root, output


def last_runs(ask):
    (run,) = ask("flow_runs", {"sort": "START_TIME_DESC", "limit": 1})
    tasks = ask("task_runs", {"task_runs": {}, "flow_runs": {"id": {"any_": [run["id"]]}}})
    return run, {task["name"]: task["state"] for task in tasks}


def test_the_run_ends_with_its_url_the_reports_path_and_results(finished, prefect_server):
    root, output = finished
    lines = output.strip().splitlines()
    report = Path(Lake(root).path(map_part("m", "report.html")))
    assert report.exists()
    assert any(str(report) in line for line in lines)
    address = prefect_server["PREFECT_API_URL"].removesuffix("/api")
    assert any(f"{address}/runs/flow-run/" in line for line in lines)


@pytest.mark.usefixtures("finished")
def test_runs_are_named_and_tagged_for_their_stage_and_plate(ask):
    run, tasks = last_runs(ask)
    assert run["name"] == "m"
    assert {
        "ingest Batch1/Plate1",
        "embed Batch1/Plate1",
        "map m",
        "benchmark m",
        "report m",
    } <= set(tasks)


def test_manifests_hold_the_flow_runs_id(finished, ask):
    root, _ = finished
    run, _ = last_runs(ask)
    assert Lake(root).manifest(map_part("m", "map.zarr")).run_id == run["id"]


def test_started_again_every_stage_is_cached(finished, start_flow, ask):
    root, _ = finished
    process = start_flow(root)
    output, _ = process.communicate(timeout=800)
    assert process.returncode == 0, output
    run, tasks = last_runs(ask)
    assert run["state"]["name"] == "Cached"
    assert {state["name"] for state in tasks.values()} == {"Cached"}


def test_a_plate_that_cannot_be_read_fails_alone_and_is_named(screen, tmp_path, start_flow, ask):
    source = tmp_path / "screen"
    shutil.copytree(screen, source)
    poisoned = next(path for path in sorted(source.rglob("*.TIF")) if "Batch2" in str(path))
    shutil.copy(poisoned, poisoned.with_name(poisoned.name.replace("w", "w0", 1)))
    process = start_flow(tmp_path / "lake", source=source)
    output, _ = process.communicate(timeout=800)
    assert process.returncode == 1, output
    run, tasks = last_runs(ask)
    assert run["state"]["type"] == "FAILED"
    assert "Traceback" not in output
    failed = [name for name, state in tasks.items() if state["type"] == "FAILED"]
    assert len(failed) == 1, tasks
    assert failed[0].startswith("ingest")
    (plate,) = tabulate_plates(describe_lake(Lake(tmp_path / "lake")))
    assert plate["experiment"] == "Batch1"


def test_a_source_that_is_not_there_ends_in_one_sentence(start_flow, tmp_path):
    process = start_flow(tmp_path / "lake", source=tmp_path / "nowhere")
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 1
    assert "nowhere" in output
    assert "Traceback" not in output


@pytest.mark.usefixtures("finished")
def test_the_table_artifact_lists_each_stage(ask):
    (artifact, *_) = ask(
        "artifacts", {"sort": "CREATED_DESC", "artifacts": {"key": {"any_": ["screen-to-map"]}}}
    )
    rows = pd.DataFrame(json.loads(artifact["data"]))
    assert {"stage", "item", "outcome", "message"} == set(rows.columns)


def test_the_verdict_on_each_plate_is_an_artifact(finished, ask):
    root, _ = finished
    found = ask("artifacts", {"sort": "CREATED_DESC", "artifacts": {"key": {"any_": ["qc"]}}})
    tables = [json.loads(artifact["data"]) for artifact in found]
    rows = next(rows for rows in tables if rows[0]["heatmaps"].startswith(str(root)))
    assert {row["plate"] for row in rows} == {"Plate1", "Plate2"}
    assert {row["verdict"] for row in rows} <= {"pass", "warn", "fail"}
    assert all(Path(row["heatmaps"]).is_file() for row in rows)
