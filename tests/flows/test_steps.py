"""What a run says at its end, on a real server."""

import json

from prefect import flow
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from flows.steps import MOST_ROWS, Step, conclude


@flow
def end(outcomes: list[str]):
    steps = [
        Step(stage="embed", item=f"E/P{number}", outcome=outcome, message=f"reason {number}")
        for number, outcome in enumerate(outcomes)
    ]
    return conclude(steps, key="steps")


def test_what_failed_stands_first_and_its_reasons_in_the_state(server):
    state = end(["skipped", "done", "failed"], return_state=True)
    assert state.is_failed()
    assert state.message == "3 in all: 1 failed, 1 done, 1 skipped. embed E/P2: reason 2"
    run = ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id])
    (table,) = server.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=run))
    rows = json.loads(table.data)
    assert [row["outcome"] for row in rows] == ["failed", "done", "skipped"]
    assert set(rows[0]) == {"stage", "item", "outcome", "message"}


def test_a_long_table_is_cut_and_says_so_and_a_long_reason_too(server):
    state = end(["failed"] * (MOST_ROWS + 5), return_state=True)
    assert state.message.endswith("; and 1,995 more")
    run = ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id])
    (table,) = server.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=run))
    assert len(json.loads(table.data)) == MOST_ROWS
    assert "the first 2,000 of 2,005 rows" in table.description


def test_where_all_was_published_already_the_state_says_so(server):  # noqa: ARG001
    assert end(["skipped"], return_state=True).name == "Cached"
    assert end([], return_state=True).name == "Cached"
    assert end(["done", "skipped"], return_state=True).name == "Completed"
