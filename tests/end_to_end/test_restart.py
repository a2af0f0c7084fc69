"""The server's machine restarts in the middle of a night; its database is PostgreSQL."""

import pytest
from end_to_end.installation import A_NIGHT, Installation, await_work, half_written, published
from machines import Database, Server

from phenopipe.lake import Lake


@pytest.fixture
def on_postgresql(tmp_path):
    """Give an installation of its own whose server keeps its runs in PostgreSQL."""
    with Database() as database:
        server = Server(tmp_path, database=database)
        site = Installation(server, tmp_path)
        try:
            server.start()
            site.set_up()
            site.worker.start()
            yield site
        finally:
            site.worker.stop()
            server.stop()


@pytest.mark.timeout(1200)
def test_a_night_outlives_its_server(on_postgresql, screen, undisturbed):
    site = on_postgresql
    site.deliver(screen, "Batch1/Plate1", "Batch2/Plate2")
    night = site.start("nightly/nightly", **A_NIGHT)
    await_work(site.root, "images")
    site.server.cut_power()
    site.server.start()

    ended = site.end_of(night)
    assert ended.state.is_completed(), ended.state.message
    assert ended.run_count == 1, "it went on: nothing was begun anew"
    lake = Lake(site.root)
    assert published(lake) == published(undisturbed)
    assert half_written(lake) == []
    slots = site.client.read_global_concurrency_limits()
    assert not any(limit.active_slots for limit in slots), "the next night may begin"
