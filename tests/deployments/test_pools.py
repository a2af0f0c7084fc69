"""Work pools' job templates, read by Prefect's own workers."""

import asyncio
import json

import pytest
from prefect.server.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.utilities.templating import apply_values
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from deployments.apply import read_template, read_yaml

POOLS = read_yaml("server.yaml")["pools"]


@pytest.fixture
def as_worker(server):
    """Read a template as a worker of the server does."""

    def read(configuration, template, values):
        with temporary_settings(
            {PREFECT_API_URL: server.api, PREFECT_API_AUTH_STRING: server.password}
        ):
            return asyncio.run(configuration.from_template_and_values(template, values))

    return read


def fill_in(template):
    """Give the job that a template makes of its own defaults."""
    properties = template["variables"]["properties"]
    defaults = {name: one["default"] for name, one in properties.items() if "default" in one}
    return apply_values(template["job_configuration"], defaults)


@pytest.mark.parametrize("name", POOLS)
def test_the_server_takes_every_template(name):
    pool = {"name": name, "type": POOLS[name]["type"]}
    WorkPoolCreate(base_job_template=read_template(POOLS[name]["template"]), **pool)


def test_the_process_template_is_prefects_own_with_a_heartbeat(as_worker):
    ours, theirs = read_template("process.json"), ProcessWorker.get_default_base_job_template()
    assert ours["job_configuration"] == theirs["job_configuration"]
    assert set(ours["variables"]["properties"]) == set(theirs["variables"]["properties"])
    job = as_worker(ProcessJobConfiguration, ours, {})
    assert job.env == {
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "phenopipe,tasks,flows",
    }
    assert job.working_dir is None


def test_a_deployments_environment_is_added_to_the_heartbeat(as_worker):
    pinned = {"env": {"CUDA_VISIBLE_DEVICES": "1"}}
    job = as_worker(ProcessJobConfiguration, read_template("process.json"), pinned)
    assert job.env["CUDA_VISIBLE_DEVICES"] == "1"
    assert job.env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


@pytest.fixture(scope="module")
def job():
    return fill_in(read_template("gpu-cloud.json"))["job_manifest"]


@pytest.fixture(scope="module")
def pod(job):
    return job["spec"]["template"]["spec"]


def test_a_pod_gets_a_gpu_and_goes_to_spot_nodes(pod):
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["nodeSelector"] == {"cloud.google.com/gke-spot": "true"}
    assert {taint["key"] for taint in pod["tolerations"]} == {
        "nvidia.com/gpu",
        "cloud.google.com/gke-spot",
    }


def test_a_preempted_pod_hands_its_run_back_to_prefect_not_to_kubernetes(job, pod):
    assert job["spec"]["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never"
    assert pod["containers"][0]["args"] == "prefect flow-run execute"
    assert pod["terminationGracePeriodSeconds"] == 15


def test_shared_memory_is_more_than_a_containers_64_mb(pod):
    (volume,) = [one for one in pod["volumes"] if one["name"] == "shm"]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "4Gi"}
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts == {"shm": "/dev/shm", "scratch": "/scratch", "tmp": "/tmp"}  # noqa: S108


def test_a_pod_runs_as_nobody_special(pod):
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_servers_password_comes_from_a_secret_and_stands_in_no_manifest(as_worker):
    kubernetes = pytest.importorskip("prefect_kubernetes.worker", reason="needs prefect-kubernetes")
    image = "registry.lab.example/phenopipe@sha256:" + 64 * "0"
    template = read_template("gpu-cloud.json")
    job = as_worker(kubernetes.KubernetesWorkerJobConfiguration, template, {"image": image})
    # What a worker that knows the password does before it makes the job.
    job.env = {"PREFECT_API_AUTH_STRING": "lab:secret"} | job.env
    job._populate_env_in_manifest()
    asyncio.run(
        kubernetes.KubernetesWorker._replace_env_variable_with_secret(
            None, "PREFECT_API_AUTH_STRING", job, "prefect-auth", "auth-string"
        )
    )
    (container,) = job.job_manifest["spec"]["template"]["spec"]["containers"]
    assert container["image"] == image
    assert "lab:secret" not in json.dumps(job.job_manifest)
    (auth,) = [one for one in container["env"] if one["name"] == "PREFECT_API_AUTH_STRING"]
    assert auth["valueFrom"]["secretKeyRef"] == {"name": "prefect-auth", "key": "auth-string"}
