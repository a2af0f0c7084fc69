"""The nightly deployment as a lab has it: plates arrive by day, and are on the map by morning."""

import pytest
from end_to_end.installation import A_NIGHT, half_written, published

from phenopipe.catalogue import verify_lake
from phenopipe.lake import Lake


def test_the_server_plans_the_nights_to_come(installation):
    """Its scheduler looks each minute; with SQLAlchemy 2.1 it plans none, and logs why."""
    nightly = installation.client.read_deployment_by_name("nightly/nightly")
    planned = installation.await_planned(nightly)
    assert {(run.expected_start_time.hour, run.expected_start_time.minute) for run in planned} == {
        (1, 30)
    }


@pytest.mark.timeout(1200)
def test_two_nights_bring_what_arrived_onto_the_map(installation, first_night, screen, undisturbed):
    assert first_night.state.is_completed(), first_night.state.message
    done = installation.tasks(first_night)
    assert {"ingest Batch1/Plate1", "embed Batch1/Plate1", "map nightly"} <= set(done)

    installation.deliver(screen, "Batch2/Plate2")
    second = installation.finish("nightly/nightly", **A_NIGHT)
    assert second.state.is_completed(), second.state.message
    done = installation.tasks(second)
    assert {"ingest Batch2/Plate2", "embed Batch2/Plate2", "map nightly"} <= set(done)
    assert not {"ingest Batch1/Plate1", "embed Batch1/Plate1"} & set(done), "nothing is done twice"

    lake = Lake(installation.root)
    assert published(lake) == published(undisturbed)
    assert verify_lake(lake) == []
    assert half_written(lake) == []
