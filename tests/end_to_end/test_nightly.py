"""The nightly deployment as a lab has it: plates arrive by day, and are on the map by morning."""

import pytest
from end_to_end.installation import A_NIGHT, half_written, published

from phenopipe.catalogue import verify_lake
from phenopipe.lake import Lake


@pytest.mark.timeout(600)
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
