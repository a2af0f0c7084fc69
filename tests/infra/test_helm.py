"""Values for Prefect's own charts: they say what the compose file says, and what we deploy."""

import re
from typing import Any

import pytest
from recipes import INFRA, ROOT, compose, is_pinned, load_all, named, values

CHARTS = ["server", "worker-cpu", "worker-gpu-cloud"]
SERVER = values("server")
WORKERS = {name: values(name)["worker"] for name in CHARTS[1:]}


def test_server_and_compose_agree_wherever_both_speak() -> None:
    here = named(SERVER["global"]["prefect"]["env"])
    there = compose()["services"]["server"]["environment"]
    both = here.keys() & there.keys()
    assert len(both) > 12
    by_hand = {  # what differs by its nature: addresses and the secrets' way in
        "PREFECT_UI_URL",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS",
        "PREFECT_SERVER_DOCKET_URL",
        "PREFECT_SERVER_ENCRYPTION_KEY",
    }
    assert {name: here[name] for name in both - by_hand} == {
        name: there[name] for name in both - by_hand
    }
    secrets = {value["secretKeyRef"]["name"] for value in here.values() if isinstance(value, dict)}
    assert secrets == {"prefect-encryption", "prefect-redis"}


def test_the_same_prefect_everywhere() -> None:
    versions = {
        SERVER["global"]["prefect"]["image"]["prefectTag"].split("-")[0],
        WORKERS["worker-gpu-cloud"]["image"]["prefectTag"].split("-")[0],
        compose()["services"]["server"]["image"].split(":")[1].split("-")[0],
        re.search(r"prefect==([\d.]+)", (ROOT / "pyproject.toml").read_text())[1],  # type: ignore[index]
    }
    assert len(versions) == 1


def test_one_version_of_the_charts_stands_in_every_command() -> None:
    texts = [(INFRA / f"helm/{name}.yaml").read_text() for name in CHARTS]
    texts.append((ROOT / "docs/production.md").read_text())
    assert len(set(re.findall(r"--version (\S+)", "".join(texts)))) == 1


def test_images_are_pinned() -> None:
    images = [SERVER["global"]["prefect"]["image"], *(w["image"] for w in WORKERS.values())]
    assert all(is_pinned(f"{image['repository']}:{image['prefectTag']}") for image in images)


def test_nobody_comes_in_without_the_secret() -> None:
    secret = {"enabled": True, "existingSecret": "prefect-auth"}
    assert SERVER["server"]["basicAuth"] == secret
    assert [worker["basicAuth"] for worker in WORKERS.values()] == [secret, secret]


def test_the_kubernetes_worker_hands_jobs_the_secret_and_not_its_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kubernetes = pytest.importorskip(
        "prefect_kubernetes.settings", reason="needs pip install 'phenopipe[infra]'"
    )
    for name, value in named(WORKERS["worker-gpu-cloud"]["extraEnvVars"]).items():
        monkeypatch.setenv(name, value)
    settings = kubernetes.KubernetesSettings()
    handed = (
        settings.worker.api_auth_string_secret_name,
        settings.worker.api_auth_string_secret_key,
    )
    assert handed == ("prefect-auth", "auth-string")
    assert settings.observer.namespaces == {"phenopipe"}


def test_the_state_outlives_pods() -> None:
    assert SERVER["postgresql"] == {"enabled": False}
    assert SERVER["redis"] == {"enabled": False}
    assert SERVER["secret"] == {"create": False, "name": "prefect-database"}


@pytest.mark.parametrize(
    "container",
    [
        SERVER["server"]["containerSecurityContext"],
        SERVER["migrations"]["securityContext"],
        SERVER["backgroundServices"]["containerSecurityContext"],
        *(worker["containerSecurityContext"] for worker in WORKERS.values()),
    ],
)
def test_containers_may_do_what_the_namespace_allows(container: dict[str, Any]) -> None:
    # What the pod security standard `restricted` asks of a container.
    assert container["runAsNonRoot"] is True
    assert container["runAsUser"] > 0
    assert container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert container["readOnlyRootFilesystem"] is True


def test_workers_poll_the_pools_that_there_are() -> None:
    polled = {worker["config"]["workPool"]: worker["config"]["type"] for worker in WORKERS.values()}
    pools = load_all("deployments")
    made = next(file["pools"] for file in pools if "pools" in file)
    assert polled == {name: made[name]["type"] for name in polled}
