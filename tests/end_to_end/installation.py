"""An installation as `docs/nightly.md` sets it up: its deployments, and what their runs say."""

import json
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from machines import PROJECT, Worker
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateName,
)

from deployments.apply import describe_automation, read_yaml
from phenopipe.lake import PATTERNS

# A night without waiting: plates count as complete at once. All else is the deployment's.
A_NIGHT = {"quiet_minutes": 0, "compute_kind": "threads"}
# What a backfill is asked for that makes what a night makes.
TO_THE_MAP = {"stages": ["embed", "map"], "map_name": "nightly", "compute_kind": "threads"}

# Tests cannot wait for three missed heartbeats: one, and as long again for a busy machine to bring
# it. No worker is left to report the crash a second time.
PATIENCE = {"zombie-to-crashed": timedelta(seconds=60), "rerun-crashed": timedelta(seconds=20)}

# How a plate's folder looked names the folder and its clock: no two deliveries are alike.
WHAT_WE_COMPARE = [kind for kind in PATTERNS if kind != "landing"]


class Installation:
    """A server with the project's deployments, and a worker of the pool ``cpu``."""

    def __init__(self, server, folder):
        self.server = server
        self.landing = folder / "landing"
        self.root = folder / "lake"
        self.landing.mkdir()
        self.client = server.connect()
        self.worker = Worker(server)

    def set_up(self):
        """Make pools, variables, automations and deployments with the project's own commands."""
        env = self.server.client_env | {
            "PHENOPIPE_LANDING": str(self.landing),
            "PHENOPIPE_ROOT": str(self.root),
        }
        for module in (["deployments.apply"], ["prefect", "--no-prompt", "deploy", "--all"]):
            done = subprocess.run(
                [sys.executable, "-m", *module],
                env=env,
                cwd=PROJECT,
                capture_output=True,
                text=True,
                timeout=400,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr

    def deliver(self, screen, *plates):
        """Put plates into the landing zone as a microscope's computer does, the platemap first."""
        shutil.copy2(screen / "platemap.csv", self.landing)
        for plate in plates:
            shutil.copytree(screen / plate, self.landing / plate)

    def start(self, deployment, **parameters):
        """Have a run of the deployment made, as the button *Run* of the UI does."""
        found = self.client.read_deployment_by_name(deployment)
        return self.client.create_flow_run_from_deployment(found.id, parameters=parameters)

    def end_of(self, run, *, within_s=600):
        """Wait until the run has ended as a person would call it: a crash is no end."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            found = self.client.read_flow_run(run.id)
            if found.state.is_completed() or found.state.is_failed() or found.state.is_cancelled():
                return found
            time.sleep(0.5)
        raise AssertionError(f"{found.name} is {found.state.name} after {within_s} s")

    def await_planned(self, deployment, *, within_s=200):
        """Wait until the server has planned runs of a deployment by its schedule."""
        of_deployment = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
        planned = FlowRunFilter(
            state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Scheduled"]))
        )
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            found = self.client.read_flow_runs(
                deployment_filter=of_deployment, flow_run_filter=planned
            )
            by_schedule = [run for run in found if run.auto_scheduled]
            if by_schedule:
                return by_schedule
            time.sleep(1)
        raise AssertionError(f"no run of {deployment.name} was planned within {within_s} s")

    def finish(self, deployment, **parameters):
        return self.end_of(self.start(deployment, **parameters))

    def children(self, run):
        parent = FlowRunFilterParentFlowRunId(any_=[run.id])
        return self.client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parent))

    def tasks(self, run):
        """Give the names of a run's tasks and of its subflows', with their states' names."""
        both = [run.id, *(child.id for child in self.children(run))]
        runs = FlowRunFilter(id=FlowRunFilterId(any_=both))
        found = self.client.read_task_runs(flow_run_filter=runs)
        return {task.name: task.state.name for task in found}

    def table(self, key, run):
        """Read the rows of the run's table."""
        wanted = ArtifactFilter(
            key=ArtifactFilterKey(any_=[key]),
            flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]),
        )
        (artifact,) = self.client.read_artifacts(artifact_filter=wanted)
        return json.loads(artifact.data)

    def shorten_patience(self):
        """Have silent runs called crashed, and begun again, sooner; all else is the project's."""
        specs = {spec["name"]: spec for spec in read_yaml("automations.yaml")}
        for name, within in PATIENCE.items():
            (found,) = self.client.read_automations_by_name(name)
            shortened = describe_automation(specs[name], None)
            shortened.trigger.within = within
            self.client.update_automation(found.id, shortened)


def published(lake):
    """Give the bytes of all that is published: each thing's key, and each file's digest."""
    things = [thing for kind in WHAT_WE_COMPARE for thing in lake.published(kind)]
    manifests = {thing.path: lake.manifest(thing) for thing in things}
    return {path: (manifest.key, manifest.files) for path, manifest in manifests.items()}


def half_written(lake):
    return [thing.path for kind in PATTERNS for thing in lake.unpublished(kind)]


def await_work(root, kind, *, within_s=400):
    """Wait until a run is writing a thing of the kind: its lock is there."""
    deadline = time.monotonic() + within_s
    while not any(Path(root, ".locks", kind).rglob("*.lock")):
        assert time.monotonic() < deadline, f"nobody began to write {kind} within {within_s} s"
        time.sleep(0.02)
