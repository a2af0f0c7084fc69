"""A fresh Prefect server, and the project's two commands run against it as the README says."""

import subprocess
import sys

import pytest
from machines import PROJECT, Server

SITE = {
    "PHENOPIPE_ROOT": "gs://lab/lake",
    "PHENOPIPE_LANDING": "/data/landing",
    "PHENOPIPE_TIMEZONE": "Europe/London",
}


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Start a server that asks for a password, and holds nothing yet."""
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def run_command(server):
    """Run a Python module from the checkout against the server; returns what it printed."""

    def run(*module, **env):
        return subprocess.run(
            [sys.executable, "-m", *module],
            env=server.client_env | SITE | env,
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def deployed(run_command):
    """Set the server up and deploy all, as a user's first time; returns what was printed."""
    made = run_command("deployments.apply")
    assert made.returncode == 0, made.stdout
    done = run_command("prefect", "--no-prompt", "deploy", "--all")
    assert done.returncode == 0, done.stdout
    return made.stdout + done.stdout


@pytest.fixture
def client(server, deployed):  # noqa: ARG001
    """Talk to the server once all is deployed."""
    with server.connect() as connected:
        yield connected
