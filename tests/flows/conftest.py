"""A real Prefect server, a small simulated screen, and the flow as a user starts it."""

import os
import subprocess
import sys

import pytest
from machines import PROJECT, await_health, free_port, start_process, stop_process
from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)

from phenopipe.simulate import simulate_screen


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory):
    """Start a server of our own on a free port; yields the environment that talks to it."""
    port = free_port()
    env = os.environ | {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    log = tmp_path_factory.getbasetemp() / "server.log"
    server = start_process([sys.executable, "-m", "prefect", "server", "start"], env=env, log=log)
    try:
        await_health(env["PREFECT_API_URL"], server, log=log)
        yield env
    finally:
        stop_process(server)


@pytest.fixture(scope="module")
def server(prefect_server):
    """Let flows of this process talk to the server; gives a client of it."""
    settings = {
        PREFECT_API_URL: prefect_server["PREFECT_API_URL"],
        PREFECT_HOME: prefect_server["PREFECT_HOME"],
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }
    with temporary_settings(settings), get_client(sync_client=True) as client:
        yield client
        # What is still to be told would find no server.
        EventsWorker.drain_all()


@pytest.fixture(scope="session")
def screen(tmp_path_factory):
    """Two plates of 96 wells in two batches, with every planted fault."""
    folder = tmp_path_factory.mktemp("screen") / "screen"
    simulate_screen(folder, plates=2, wells=96, seed=1)
    return folder


@pytest.fixture(scope="session")
def start_flow(prefect_server, screen):
    """Start ``python -m flows.screen_to_map`` on the screen; returns the process."""

    def start(root, *, source=screen, truth=None):
        truth = truth or screen / "truth"
        command = [sys.executable, "-m", "flows.screen_to_map", str(source), "--root", str(root)]
        options = ["--name", "m", "--annotations", str(truth / "annotations")]
        return subprocess.Popen(
            command + options,
            env=prefect_server,
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start
