"""A lake is kept in order each week, on a real server."""

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from flows.maintain import maintain, week_of
from phenopipe.lake import Lake, embeddings, qc_table
from phenopipe.plates import PlateKey
from tests.embed.conftest import PlateWriter

KEY = PlateKey("HUVEC-1", "P1")


@pytest.fixture
def lake(tmp_path):
    """A plate, and an embedding of it that a killed run left half-written."""
    lake = Lake(tmp_path / "lake")
    PlateWriter(lake, key=KEY).publish()
    torn = Path(lake.path(embeddings("classical", KEY)))
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"half")
    return lake


def read_table(server, state):
    run = ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id])
    tables = server.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=run))
    (table,) = [table for table in tables if table.key == "maintenance"]
    return {row["thing"]: row["state"] for row in json.loads(table.data)}


def test_what_a_killed_run_left_is_told_then_removed(server, lake):
    torn = embeddings("classical", KEY)
    told = maintain(root=lake.root, weeks=1, dry_run=True, return_state=True)
    assert read_table(server, told) == {torn.path: "to remove"}
    assert Path(lake.path(torn)).exists()

    swept = maintain(root=lake.root, weeks=1, return_state=True)
    assert swept.is_completed(), swept.message
    assert read_table(server, swept) == {torn.path: "removed"}
    assert not Path(lake.path(torn)).exists()


def test_what_is_damaged_fails_the_run_and_is_named(server, lake):
    damaged = Path(lake.path(qc_table(KEY)))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    state = maintain(root=lake.root, weeks=1, return_state=True)
    assert state.is_failed()
    assert f"{qc_table(KEY)}" in state.message
    assert read_table(server, state)[qc_table(KEY).path] == "damaged"
    assert maintain(root=lake.root, weeks=0, return_state=True).is_completed(), "nothing is read"


def test_each_part_has_its_week_over_the_years_end():
    weeks = [week_of(date(2026, 12, 7) + timedelta(days=7 * n)) % 4 for n in range(8)]
    assert sorted(weeks[:4]) == [0, 1, 2, 3]
    assert weeks[:4] == weeks[4:]
