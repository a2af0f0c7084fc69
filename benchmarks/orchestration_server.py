"""A Prefect server and worker of the benchmark's own, with the project's deployments."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.measured import resident_bytes

_PROJECT = Path(__file__).parents[1]
_PREFECT_FILE = "deployments/prefect.yaml"
_START_S = 120
_LOOK_EVERY_S = 0.5
_FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass(frozen=True)
class Ended:
    """One flow run that has come to its end.

    Attributes
    ----------
    seconds
        From when it was asked for to its end, as a person waits for it.
    waited_s
        Of these, until it ran: the worker's next look, a process, imports.
    task_runs
        All that were made meanwhile, its children's too.
    """

    id: str
    state: str
    message: str
    seconds: float
    waited_s: float
    task_runs: int


class Server:
    """A server that answers, the pool ``cpu`` and the deployments; see :func:`serving`."""

    def __init__(self, env: Mapping[str, str], process: psutil.Process) -> None:
        self.env, self.process = dict(env), process
        self._api = httpx.Client(base_url=env["PREFECT_API_URL"], timeout=30)

    def run(self, name: str, **parameters: Any) -> Ended:
        """Run a deployment, and wait for its end."""
        before = self._ask("task_runs/count", {})
        deployment = self._api.get(f"/deployments/name/{name}").raise_for_status().json()
        asked = {"parameters": parameters}
        run = self._ask(f"deployments/{deployment['id']}/create_flow_run", asked)
        while run["state"] is None or run["state"]["type"] not in _FINAL:
            time.sleep(_LOOK_EVERY_S)
            run = self._api.get(f"/flow_runs/{run['id']}").raise_for_status().json()
        created, began, ended = (
            datetime.fromisoformat(run[name]) for name in ("created", "start_time", "end_time")
        )
        return Ended(
            id=run["id"],
            state=run["state"]["name"],
            message=run["state"]["message"] or "",
            seconds=(ended - created).total_seconds(),
            waited_s=(began - created).total_seconds(),
            task_runs=self._ask("task_runs/count", {}) - before,
        )

    def count_children(self, run: Ended) -> int:
        """Count the flow runs that a run has started."""
        children = {"parent_flow_run_id": {"any_": [run.id]}}
        return int(self._ask("flow_runs/count", {"flow_runs": children}))

    def _ask(self, path: str, query: Mapping[str, Any]) -> Any:
        return self._api.post(f"/{path}", json=query).raise_for_status().json()


@contextmanager
def serving(folder: Path, root: str) -> Iterator[Server]:
    """Start a server on a free port with all that the project brings, and a worker of ``cpu``."""
    folder.mkdir(parents=True, exist_ok=True)
    env = _environment(folder, root)
    with _running(["server", "start"], env, folder / "server.log") as process:
        _await_health(env["PREFECT_API_URL"], process)
        _set_up(["deployments.apply"], env)
        _set_up(["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", _PREFECT_FILE], env)
        with _running(["worker", "start", "--pool", "cpu"], env, folder / "worker.log"):
            yield Server(env, psutil.Process(process.pid))


class MemoryWatch(threading.Thread):
    """Sample the resident memory of a process tree each second, until the block ends."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self.bytes: list[int] = []
        self._process, self._done = process, threading.Event()

    def __enter__(self) -> "MemoryWatch":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        """Sample."""
        while not self._done.wait(1):
            self.bytes.append(resident_bytes(self._process))


def _environment(folder: Path, root: str) -> dict[str, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    others = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return others | {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(folder / "ui"),
        "PHENOPIPE_HOME": str(_PROJECT),
        "PHENOPIPE_ROOT": root,
        "PHENOPIPE_LANDING": str(folder / "landing"),
    }


@contextmanager
def _running(command: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[Any]]:
    """Run a command of Prefect's as long as the block lasts, with all that it starts."""
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "prefect", *command],
            env=env,
            cwd=_PROJECT,
            stdout=output,
            stderr=output,
        )
    family = [psutil.Process(process.pid)]
    try:
        yield process
    finally:
        family += family[0].children(recursive=True)
        process.terminate()
        _, alive = psutil.wait_procs(family, timeout=15)
        for member in alive:
            member.kill()
        process.wait()


def _await_health(url: str, process: subprocess.Popen[Any]) -> None:
    for _ in range(_START_S * 2):
        if process.poll() is not None:
            raise SystemExit("the Prefect server stopped while it started: see its server.log")
        try:
            httpx.get(f"{url}/health", timeout=2).raise_for_status()
        except httpx.HTTPError:
            time.sleep(_LOOK_EVERY_S)
        else:
            return
    raise SystemExit(f"the Prefect server did not answer within {_START_S} s: see its server.log")


def _set_up(module: list[str], env: dict[str, str]) -> None:
    command = [sys.executable, "-m", *module]
    done = subprocess.run(  # noqa: S603 - our own command
        command, env=env, cwd=_PROJECT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
