"""The transfer flow on a real server: a dry run, a run with one plate that is refused, a repeat."""

import json

from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)

from flows.transfer import transfer_plates
from phenopipe.lake import Lake
from tests.transfer.lakes import PLATES, fill, publish_plate, read_all


def read_table(server, key, state):
    run = state.state_details.flow_run_id
    wanted = ArtifactFilter(
        key=ArtifactFilterKey(any_=[key]), flow_run_id=ArtifactFilterFlowRunId(any_=[run])
    )
    (table,) = server.read_artifacts(artifact_filter=wanted)
    return {row["what"]: row for row in json.loads(table.data)}


def test_a_transfer_as_lab_operations_meet_it(server, tmp_path):
    source, target = fill(Lake(tmp_path / "a")), Lake(tmp_path / "b")

    def transfer(**asked):
        return transfer_plates(source.root, target.root, return_state=True, **asked)

    state = transfer(dry_run=True, rate_mb_s=0.001)
    assert state.is_completed()
    assert read_all(target) == {}
    assert read_table(server, "transfer-plan", state)["all"]["to_send"] == 4

    publish_plate(target, PLATES[0], version=2)
    state = transfer()
    assert state.is_failed()
    assert "2 of 3 shipments are there. experiment HUVEC-1: 1 of 2 sent" in state.message
    assert "Not there: HUVEC-1/P1: expected" in state.message
    rows = read_table(server, "transfer-result", state)
    assert {what: row["outcome"] for what, row in rows.items()} == {
        "the models": "Completed",
        "experiment HUVEC-1": "Failed",
        "experiment U2OS-1": "Completed",
    }

    assert transfer(replace=True).name == "Completed"
    assert read_all(target) == read_all(source)
    assert transfer().name == "Cached"

    state = transfer(experiments=("K562-*",))
    assert state.is_failed()
    assert "expected a published experiment K562-*" in state.message
