"""The machines of an installation, each as real processes of this one: database, server, worker."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient

PROJECT = Path(__file__).parents[1]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Database:
    """A PostgreSQL cluster of our own in a temporary folder, run by a user that is not root."""

    def __init__(self):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not found:
            pytest.skip("needs PostgreSQL's server programs: .ci/debian.sh installs them")
        self._programs = found[-1]
        self._user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        # Not under pytest's folder, which no other user may enter.
        self._folder = Path(tempfile.mkdtemp(prefix="phenopipe-postgres-"))
        if self._user:
            shutil.chown(self._folder, "postgres")
        self._port = free_port()
        self.url = f"postgresql+asyncpg://prefect@127.0.0.1:{self._port}/postgres"

    def __enter__(self):
        # Only this machine can reach it, and what it holds is thrown away.
        self._run("initdb", "--username=prefect", "--auth=trust", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -p {self._port} -c fsync=off -k {self._folder}"
        self._run("pg_ctl", "--options", options, "--log", str(self._folder / "log"), "start")
        return self

    def __exit__(self, *_):
        self._run("pg_ctl", "--mode=immediate", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program, *arguments):
        command = [*self._user, self._programs / program, "-D", self._folder / "data", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=200)


class Server:
    """A Prefect server that asks for a password, and whose power can be cut."""

    def __init__(self, folder, *, database=None):
        self.folder = folder
        self.address = f"http://127.0.0.1:{free_port()}"
        self.password = f"lab:{secrets.token_urlsafe(12)}"
        self.api = f"{self.address}/api"
        own = {
            "DO_NOT_TRACK": "1",
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_API_PORT": self.address.rpartition(":")[2],
            "PREFECT_SERVER_API_AUTH_STRING": self.password,
            # In memory, leases would go with the server: running nightlies would end themselves.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
                "prefect.server.concurrency.lease_storage.filesystem"
            ),
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(folder / "ui"),
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "PREFECT_UI_URL": self.address,
        }
        if database:
            own["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database.url
        self._env = without_prefect(os.environ) | own
        self._process = None

    @property
    def client_env(self):
        """What every process that talks to the server is started with."""
        return without_prefect(os.environ) | {
            "DO_NOT_TRACK": "1",
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_API_AUTH_STRING": self.password,
            "PREFECT_UI_URL": self.address,
        }

    def connect(self):
        return SyncPrefectClient(self.api, auth_string=self.password)

    def start(self):
        command = [sys.executable, "-m", "prefect", "server", "start"]
        self._process = start_process(command, env=self._env, log=self.folder / "server.log")
        await_health(self.api, self._process, log=self.folder / "server.log")

    def cut_power(self):
        kill_all(self._process)

    def stop(self):
        stop_process(self._process)


class Worker:
    """A process worker of one work pool, and whatever runs it has started."""

    def __init__(self, server, *, pool="cpu"):
        self._server, self._pool = server, pool
        self._env = server.client_env | {"PREFECT_WORKER_QUERY_SECONDS": "1"}
        self._process = None

    def start(self):
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", self._pool]
        log = self._server.folder / f"worker-{self._pool}.log"
        self._process = start_process(command, env=self._env, log=log)

    def cut_power(self):
        """End the worker and its runs as a power cut does: nobody gets to say anything."""
        kill_all(self._process)

    def stop(self):
        stop_process(self._process)


def without_prefect(env):
    return {name: value for name, value in env.items() if not name.startswith("PREFECT_")}


def await_health(api, process, *, log):
    """Wait until a Prefect server that was just started answers."""
    for _ in range(240):
        assert process.poll() is None, log.read_text()
        with suppress(OSError), urllib.request.urlopen(f"{api}/health", timeout=2):  # noqa: S310
            return
        time.sleep(0.5)
    pytest.fail("the Prefect server did not answer within two minutes")


def start_process(command, *, env, log):
    # From a session of its own, as under systemd: what a terminal sends does not reach it.
    with log.open("ab") as output:
        return subprocess.Popen(
            command, env=env, cwd=PROJECT, stdout=output, stderr=output, start_new_session=True
        )


def kill_all(process):
    if process is None or process.poll() is not None:
        return
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    # Frozen first: no parent lives to report how its child ended.
    for signum in (signal.SIGSTOP, signal.SIGKILL):
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(signum)
    process.wait()
    psutil.wait_procs(family, timeout=30)


def stop_process(process):
    if process is None or process.poll() is not None:
        return
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=15)
    kill_all(process)
