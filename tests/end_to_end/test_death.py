"""A worker's machine loses its power in the middle of a backfill."""

import pytest
from end_to_end.installation import TO_THE_MAP, await_work, half_written, published


@pytest.mark.timeout(1200)
def test_runs_that_died_with_their_worker_are_taken_up_by_the_next(
    installation, ingested, undisturbed
):
    run = installation.start(
        "backfill/backfill", root=ingested.root, where="cpu", in_flight=1, **TO_THE_MAP
    )
    await_work(ingested.root, "embeddings")
    installation.worker.cut_power()
    assert installation.client.read_flow_run(run.id).state.is_running(), "nobody can tell yet"
    installation.worker.start()

    ended = installation.end_of(run, within_s=600)
    assert ended.state.is_completed(), ended.state.message
    assert ended.run_count == 2
    died = [child for child in installation.children(ended) if child.run_count > 1]
    assert len(died) == 1, "the plates' run that was at work is the same run that ends them"
    assert published(ingested) == published(undisturbed)
    assert half_written(ingested) == []
