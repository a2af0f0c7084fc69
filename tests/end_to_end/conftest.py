"""A small screen, what the library alone makes of it, and an installation that is to do as well."""

import shutil

import pytest
from end_to_end.installation import A_NIGHT, Installation
from machines import Server

from phenopipe import compute
from phenopipe.catalogue import list_plates
from phenopipe.embed import embed_plate
from phenopipe.ingest import find_platemap, find_plates, ingest_plate, judge_batch
from phenopipe.lake import Lake
from phenopipe.maps import build_map
from phenopipe.simulate import ScreenDesign, simulate_screen


@pytest.fixture(scope="session")
def screen(tmp_path_factory):
    """Two plates of 96 wells, a small field a well: Batch1/Plate1 and Batch2/Plate2."""
    folder = tmp_path_factory.mktemp("end-to-end") / "screen"
    small = ScreenDesign(sites=1, size_px=128)
    return simulate_screen(folder, plates=2, wells=96, seed=1, design=small)


@pytest.fixture(scope="session")
def undisturbed(screen, tmp_path_factory):
    """Give the lake that the library makes of the screen without Prefect, and with no trouble."""
    lake = Lake(tmp_path_factory.mktemp("end-to-end") / "undisturbed")
    with compute.client("threads") as client:
        for folder in find_plates(screen):
            ingest_plate(folder, lake, client=client, platemap=find_platemap(screen))
        for experiment in ("Batch1", "Batch2"):
            judge_batch(lake, experiment)
        for key in list_plates(lake):
            embed_plate(lake, key, client=client)
    build_map(lake, name="nightly")
    return lake


@pytest.fixture
def ingested(undisturbed, tmp_path):
    """Give a lake of its own that holds the screen's plates, and nothing that was made of them."""
    made_of_them = shutil.ignore_patterns("embeddings", "maps", ".locks")
    return Lake(shutil.copytree(undisturbed.root, tmp_path / "lake", ignore=made_of_them))


@pytest.fixture(scope="session")
def installation(tmp_path_factory):
    """Give a server with its deployments and a worker, on this machine and SQLite."""
    folder = tmp_path_factory.mktemp("installation")
    server = Server(folder)
    site = Installation(server, folder)
    try:
        server.start()
        site.set_up()
        site.shorten_patience()
        site.worker.start()
        yield site
    finally:
        site.worker.stop()
        server.stop()


@pytest.fixture(scope="session")
def first_night(installation, screen):
    """Let the first plate arrive, and the night come; gives that night's run."""
    installation.deliver(screen, "Batch1/Plate1")
    return installation.finish("nightly/nightly", **A_NIGHT)
