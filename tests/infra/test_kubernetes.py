"""What is applied to the cluster, and the jobs that the worker makes in it."""

import ipaddress
import json
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas import FlowRun
from prefect.utilities.templating import apply_values
from recipes import ROOT, job_template, load_all, values

VERSION = "1.33"
MANIFESTS = load_all("infra/kubernetes")
POLICIES = {m["metadata"]["name"]: m["spec"] for m in MANIFESTS if m["kind"] == "NetworkPolicy"}


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    """Give the job that the worker makes for a flow run, by the pool's template."""
    kubernetes = pytest.importorskip(
        "prefect_kubernetes.worker", reason="needs pip install 'phenopipe[infra]'"
    )
    template = job_template()
    given = {
        name: variable["default"]
        for name, variable in template["variables"]["properties"].items()
        if "default" in variable
    }
    given["image"] = "registry.example/phenopipe:0.1.0-gpu"
    made = apply_values(template["job_configuration"], given)
    config = kubernetes.KubernetesWorkerJobConfiguration(**made)
    config.prepare_for_flow_run(FlowRun(id=uuid4(), name="plates", flow_id=uuid4()))
    return config.job_manifest


@pytest.fixture(scope="module")
def pod(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def labels(job: dict[str, Any]) -> dict[str, str]:
    return job["spec"]["template"]["metadata"]["labels"]


def check(manifest: dict[str, Any]) -> None:
    kubernetes = pytest.importorskip(
        "kubernetes_validate", reason="needs pip install 'phenopipe[infra]'"
    )
    kubernetes.validate(manifest, VERSION, strict=True)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda m: m["metadata"]["name"])
def test_kubernetes_would_take_it(manifest: dict[str, Any]) -> None:
    check(manifest)


def test_kubernetes_would_take_a_flow_runs_job(job: dict[str, Any]) -> None:
    check(job)


def test_nothing_is_open_that_no_policy_opens() -> None:
    closed = POLICIES["nothing-by-default"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    opened = [name for name, spec in POLICIES.items() if "ingress" in spec]
    assert opened == ["to-the-server"]


def test_flow_runs_reach_the_server_the_lake_and_nothing_else(labels: dict[str, str]) -> None:
    mine = {name: spec for name, spec in POLICIES.items() if selects(spec["podSelector"], labels)}
    assert set(mine) == {
        "nothing-by-default",
        "names",
        "clients-to-the-server",
        "runs-to-the-lake",
    }
    web = ipaddress.ip_address("93.184.216.34")
    assert not any(web in block for spec in mine.values() for block in blocks(spec, "egress"))


def test_the_server_lets_in_workers_and_runs(labels: dict[str, str]) -> None:
    worker = {"app.kubernetes.io/name": "prefect-worker"}
    (rule,) = POLICIES["to-the-server"]["ingress"]
    pods = [peer["podSelector"] for peer in rule["from"] if "podSelector" in peer]
    assert all(any(selects(pod, found) for pod in pods) for found in (labels, worker))


def test_addresses_are_those_of_the_network() -> None:
    hcl2 = pytest.importorskip("hcl2", reason="needs pip install 'phenopipe[infra]'")
    text = (ROOT / "infra/gcp/variables.tf").read_text()
    ranges = json.dumps(hcl2.loads(text))
    own = {
        str(block)
        for spec in POLICIES.values()
        for way in ("ingress", "egress")
        for block in blocks(spec, way)
        if block.is_private and block.prefixlen > 12 and not block.is_link_local
    }
    assert own == {"10.80.16.0/23", "10.80.32.0/20", "172.16.0.0/28"}
    assert [block for block in own if block not in ranges] == []


def test_runs_have_the_account_that_may_write_to_the_lake(
    job: dict[str, Any], pod: dict[str, Any]
) -> None:
    (account,) = [m for m in MANIFESTS if m["kind"] == "ServiceAccount"]
    name, space = account["metadata"]["name"], account["metadata"]["namespace"]
    assert pod["serviceAccountName"] == name
    assert values("worker-cpu")["serviceAccount"] == {"create": False, "name": name}
    assert f"subject/ns/{space}/sa/{name}" in (ROOT / "infra/gcp/lake.tf").read_text()
    assert job["metadata"]["namespace"] == space
    assert account["automountServiceAccountToken"] is False


def test_runs_put_up_with_the_taints_of_spot_nodes(pod: dict[str, Any]) -> None:
    tolerated = {(each["key"], each["effect"]) for each in pod["tolerations"]}
    assert ("nvidia.com/gpu", "NoSchedule") in tolerated  # GKE's own, on every GPU node
    assert ("cloud.google.com/gke-spot", "NoSchedule") in tolerated
    assert 'key    = "cloud.google.com/gke-spot"' in (ROOT / "infra/gcp/cluster.tf").read_text()


def test_runs_may_do_what_the_namespace_allows(pod: dict[str, Any]) -> None:
    # What the pod security standard `restricted` asks of a pod.
    (space,) = [m for m in MANIFESTS if m["kind"] == "Namespace"]
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a pod's labels match a selector; ``In`` and ``NotIn`` are all that is used here."""
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for rule in selector.get("matchExpressions", []):
        if (labels.get(rule["key"]) in rule["values"]) is not (rule["operator"] == "In"):
            return False
    return True


def blocks(spec: dict[str, Any], way: str) -> list[ipaddress.IPv4Network]:
    """Give the address ranges that a policy opens; those that it excepts are not told."""
    peers = [
        peer for rule in spec.get(way, []) for peer in rule["from" if way == "ingress" else "to"]
    ]
    return [ipaddress.IPv4Network(peer["ipBlock"]["cidr"]) for peer in peers if "ipBlock" in peer]
