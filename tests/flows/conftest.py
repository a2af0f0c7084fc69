"""A real Prefect server, a small simulated screen, and the flow as a user starts it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)

from phenopipe.simulate import simulate_screen

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory):
    """Start a server of our own on a free port; yields the environment that talks to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    log = (tmp_path_factory.getbasetemp() / "server.log").open("wb")
    command = [sys.executable, "-m", "prefect", "server", "start"]
    with subprocess.Popen(command, env=env, stdout=log, stderr=log) as server:
        try:
            await_health(env["PREFECT_API_URL"], server)
            yield env
        finally:
            server.terminate()


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


def await_health(url, server):
    for _ in range(240):
        assert server.poll() is None, "the Prefect server stopped while it started"
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):  # noqa: S310 - our own server
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail("the Prefect server did not answer within two minutes")


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
