"""The compose file's services, by its own commands and settings, as processes of this machine.

What it takes from images (PostgreSQL, Redis, nginx) is Debian's here; all else is the recipe.
"""

import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from machines import Database, free_port, start_process, stop_process
from prefect.client.orchestration import SyncPrefectClient
from recipes import INFRA, compose, filled

pytest.importorskip("prefect_redis", reason="needs pip install 'phenopipe[infra]'")

SERVICES = compose()["services"]
AUTH = "lab:s3cret"


class OneMachine:
    """The services of the compose file; ``address`` is the proxy's, as people type it."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self.server, self.redis, self.http, self.https = (free_port() for _ in range(4))
        self.address = f"https://localhost:{self.https}"
        self.certificate = folder / "tls.crt"
        given = {
            "PUBLIC_URL": self.address,
            "PREFECT_AUTH": AUTH,
            "POSTGRES_PASSWORD": "not-asked-for-here",
            "REDIS_PASSWORD": "redispass",
            "ENCRYPTION_KEY": "k2w0zIWy0nPBnFj6mUoqOGVNYPGHRYyQo3rbUgC8s0A=",
        }
        own = filled("server", given)
        port, name = re.search(r":(\d+)/(\w+)$", database.url).groups()  # type: ignore[union-attr]
        self.env = own | {
            "HOME": str(folder),
            "PREFECT_SERVER_API_PORT": str(self.server),
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(folder / "ui"),
            "PREFECT_SERVER_DATABASE_HOST": "127.0.0.1",
            "PREFECT_SERVER_DATABASE_PORT": port,
            "PREFECT_SERVER_DATABASE_NAME": name,
            "PREFECT_REDIS_MESSAGING_HOST": "127.0.0.1",
            "PREFECT_REDIS_MESSAGING_PORT": str(self.redis),
            "PREFECT_SERVER_DOCKET_URL": own["PREFECT_SERVER_DOCKET_URL"].replace(
                "redis:6379", f"127.0.0.1:{self.redis}"
            ),
        }

    def prefect(self, service: str) -> list[str]:
        return [sys.executable, "-m", *SERVICES[service]["command"]]

    def redis_command(self) -> list[str]:
        script = SERVICES["redis"]["command"][-1].replace("$$", "$")
        return ["sh", "-c", script.replace("dir /data", f"dir {self.folder}\nport {self.redis}")]

    def nginx_command(self) -> list[str]:
        self._certify()
        text = (INFRA / "compose/nginx.conf").read_text()
        for there, here in {
            "/tmp/": f"{self.folder}/",  # noqa: S108
            "resolver 127.0.0.11 valid=10s;": "",
            "http://server:4200": f"http://127.0.0.1:{self.server}",
            "listen 8080": f"listen {self.http}",
            "listen 8443": f"listen {self.https}",
            "/etc/nginx/tls": str(self.folder),
        }.items():
            assert there in text
            text = text.replace(there, here)
        (self.folder / "nginx.conf").write_text(text)
        return ["nginx", "-c", str(self.folder / "nginx.conf"), "-g", "daemon off;"]

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs on the database, as the service ``backup`` does."""
        env = {
            "PATH": "/usr/bin:/bin",
            "PGHOST": "127.0.0.1",
            "PGUSER": SERVICES["backup"]["environment"]["PGUSER"],
            "PGPORT": self.env["PREFECT_SERVER_DATABASE_PORT"],
            "PGDATABASE": self.env["PREFECT_SERVER_DATABASE_NAME"],
        }
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True)

    def _certify(self) -> None:
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        made = ["-keyout", self.folder / "tls.key", "-out", self.certificate]
        subprocess.run(
            ["/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *made],
            check=True,
            capture_output=True,
        )

    def connect(self) -> SyncPrefectClient:
        trust = ssl.create_default_context(cafile=str(self.certificate))
        return SyncPrefectClient(
            f"{self.address}/api", auth_string=AUTH, httpx_settings={"verify": trust}
        )


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneMachine]:
    for program in ("redis-server", "nginx", "openssl"):
        if shutil.which(program, path="/usr/sbin:/usr/bin") is None:
            pytest.skip(f"needs {program}: .ci/debian.sh installs it")
    with Database() as database, ExitStack() as running:
        folder = tmp_path_factory.mktemp("one-machine")
        one = OneMachine(folder, database)

        def start(name: str, command: list[str], **more: str) -> None:
            path = "/usr/sbin:/usr/bin:/bin"
            env = one.env | {"PATH": path, **more}
            running.callback(
                stop_process, start_process(command, env=env, log=folder / f"{name}.log")
            )

        start("redis", one.redis_command(), REDISCLI_AUTH="redispass")
        subprocess.run(one.prefect("migrate"), env=one.env, check=True, capture_output=True)
        start("server", one.prefect("server"))
        start("services", one.prefect("services"))
        start("proxy", one.nginx_command())
        await_ready(one)
        yield one


def await_ready(one: OneMachine) -> None:
    for _ in range(180):
        try:
            if httpx.get(f"{one.address}/api/ready", verify=False).is_success:  # noqa: S501
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    pytest.fail((one.folder / "server.log").read_text()[-4000:])


def call(machine: OneMachine, method: str, path: str, **more: Any) -> httpx.Response:
    trust = ssl.create_default_context(cafile=str(machine.certificate))
    return httpx.request(method, f"{machine.address}{path}", verify=trust, **more)


def test_plain_http_is_sent_to_tls(machine: OneMachine) -> None:
    answer = httpx.get(f"http://localhost:{machine.http}/runs?late=1")
    assert answer.status_code == 308
    assert answer.headers["location"] == "https://localhost/runs?late=1"


def test_the_api_wants_the_password(machine: OneMachine) -> None:
    assert call(machine, "GET", "/api/variables/name/x").status_code == 401
    assert call(machine, "GET", "/api/variables/name/x", auth=("lab", "guess")).status_code == 401
    assert call(machine, "GET", "/api/variables/name/x", auth=("lab", "s3cret")).status_code == 404


def test_a_forged_form_is_refused_and_prefects_own_client_is_not(machine: OneMachine) -> None:
    forged = call(machine, "POST", "/api/flows/filter", auth=("lab", "s3cret"), json={})
    assert forged.status_code == 403
    with machine.connect() as client:
        assert client.read_flows() == []


def test_answers_tell_browsers_to_stay_with_tls(machine: OneMachine) -> None:
    answer = call(machine, "GET", "/api/health")
    assert answer.is_success
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    assert answer.headers["x-frame-options"] == "DENY"
    assert "nginx/" not in answer.headers["server"]


def test_the_ui_calls_the_address_in_the_browser(machine: OneMachine) -> None:
    assert call(machine, "GET", "/ui-settings").json()["api_url"] == f"{machine.address}/api"


def test_an_event_goes_through_proxy_redis_and_services_to_the_database(
    machine: OneMachine,
) -> None:
    emitted = "phenopipe.test.one-machine"
    client = {
        "PREFECT_API_URL": f"{machine.address}/api",
        "PREFECT_API_AUTH_STRING": AUTH,
        "PREFECT_API_SSL_CERT_FILE": str(machine.certificate),
        "SSL_CERT_FILE": str(machine.certificate),
        "PREFECT_HOME": str(machine.folder / "client"),
        "PATH": "/usr/bin:/bin",
    }
    subprocess.run(
        [sys.executable, "-m", "prefect", "event", "emit", emitted, "--resource-id", "phenopipe.x"],
        env=client,
        check=True,
        capture_output=True,
    )
    wanted = {"filter": {"event": {"name": [emitted]}}}
    with machine.connect() as api:
        for _ in range(60):
            found = api._client.post("/events/filter", json=wanted).json()["events"]
            if found:
                break
            time.sleep(0.5)
    assert [event["event"] for event in found] == [emitted]


def test_a_backup_is_restored_with_what_was_there(machine: OneMachine) -> None:
    command = SERVICES["backup"]["command"]
    (*shell, script) = command
    script = script.replace("$$", "$").replace("/backups", str(machine.folder))
    machine.run([*shell, script])
    (dump,) = machine.folder.glob("prefect-*.dump")
    machine.run(["createdb", "restored"])
    machine.run(["pg_restore", "--clean", "--if-exists", "--dbname", "restored", str(dump)])
    counted = "select count(*) from events where event = 'phenopipe.test.one-machine'"
    told = machine.run(["psql", "--tuples-only", "--dbname", "restored", "--command", counted])
    assert told.stdout.strip() == "1"
