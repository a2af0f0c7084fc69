"""The compose file: what it says of itself, and what Prefect makes of its settings."""

import importlib
import re
import subprocess
import sys
from typing import Any

import prefect.settings
import pytest
from prefect.settings import Settings
from recipes import INFRA, compose, filled, is_pinned

FILE = INFRA / "compose/compose.yaml"
SERVICES = compose()["services"]
GIVEN = {
    "PUBLIC_URL": "https://prefect.lab.example",
    "PREFECT_AUTH": "lab:s3cret",
    "POSTGRES_PASSWORD": "p@ss/w:rd",
    "REDIS_PASSWORD": "redispass",
    "ENCRYPTION_KEY": "k2w0zIWy0nPBnFj6mUoqOGVNYPGHRYyQo3rbUgC8s0A=",
}


def test_is_a_compose_file() -> None:
    pytest.importorskip("check_jsonschema", reason="needs pip install 'phenopipe[infra]'")
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", FILE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_asks_for_what_the_example_lists_and_holds_no_secret() -> None:
    asked = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    example = (INFRA / "compose/example.env").read_text()
    listed = dict(re.findall(r"^(\w+)=(.*)$", example, flags=re.MULTILINE))
    assert asked == set(listed)
    secret = {name for name in listed if re.search("PASSWORD|AUTH|KEY", name)}
    assert secret == {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "PREFECT_AUTH", "ENCRYPTION_KEY"}
    assert {listed[name] for name in secret} == {""}
    # Compose stops and says which one is not set, rather than start a server without a password.
    for name in secret:
        assert re.search(rf"\$\{{{name}:\?", FILE.read_text())


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_has_more_rights_than_it_needs(service: str) -> None:
    config = SERVICES[service]
    assert config["read_only"] is True
    assert config["cap_drop"] == ["ALL"]
    assert config["security_opt"] == ["no-new-privileges:true"]
    assert re.match(r"\$\{PHENOPIPE_UID|[1-9]", config["user"])


@pytest.mark.parametrize("service", SERVICES)
def test_images_are_pinned(service: str) -> None:
    image = SERVICES[service]["image"]
    assert is_pinned(image) or re.fullmatch(
        r"\$\{PHENOPIPE_\w+_IMAGE:-phenopipe:[\d.]+-\w+\}", image
    )


def test_only_the_proxy_is_seen_from_outside_and_the_state_by_the_server_alone() -> None:
    assert [name for name, config in SERVICES.items() if "ports" in config] == ["proxy"]
    assert compose()["networks"]["data"] == {"internal": True}
    inside = {name for name, config in SERVICES.items() if "data" in config["networks"]}
    assert inside == {"postgres", "redis", "migrate", "server", "services", "backup"}
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["data"]


def test_prefect_understands_the_servers_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in filled("server", GIVEN).items():
        monkeypatch.setenv(name, value)
    server = Settings().server
    url = server.database.connection_url
    assert url is not None
    assert (
        url.get_secret_value()
        == "postgresql+asyncpg://prefect:p%40ss%2Fw%3Ard@postgres:5432/prefect"
    )
    assert server.api.auth_string is not None
    assert server.api.auth_string.get_secret_value() == "lab:s3cret"
    assert server.ui.api_url == "https://prefect.lab.example/api"
    assert server.services.db_vacuum.enabled_vacuum_types == {"events", "flow_runs", "orphans"}
    assert server.services.db_vacuum.retention_period.days == 90
    assert server.events.retention_period.days == 14
    assert not server.analytics_enabled


@pytest.mark.parametrize("service", ["server", "worker-cpu"])
def test_every_setting_is_one_that_prefect_has(service: str) -> None:
    # Prefect reads this past its settings, and so does prefect-redis.
    beside = ("PREFECT_SERVER_ENCRYPTION_KEY", "PREFECT_REDIS_MESSAGING_")
    named = [name for name in SERVICES[service]["environment"] if name.startswith("PREFECT_")]
    unknown = [name for name in named if not hasattr(prefect.settings, name)]
    assert [name for name in unknown if not name.startswith(beside)] == []


def test_the_modules_for_redis_are_there() -> None:
    pytest.importorskip("prefect_redis", reason="needs pip install 'phenopipe[infra]'")
    named = {
        value for value in filled("server", GIVEN).values() if value.startswith("prefect_redis.")
    }
    assert len(named) == 4
    assert all(importlib.import_module(module) for module in named)


def test_the_servers_own_services_have_its_settings() -> None:
    environments: list[dict[str, Any]] = [
        SERVICES[name]["environment"] for name in ("migrate", "server", "services")
    ]
    assert environments[0] == environments[1] == environments[2]
