"""A real Slurm of one node, from Debian's packages: infra/slurm/one-node.sh."""

import asyncio
import logging
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import dask
import pytest
import yaml
from distributed.comm import connect

from phenopipe import compute, slurm
from phenopipe.config import EmbedConfig
from phenopipe.embed import embed_plate
from phenopipe.errors import InputError
from phenopipe.lake import Lake, embeddings
from tests.embed.conftest import KEY, PlateWriter

INFRA = Path(__file__).parents[1] / "infra/slurm"
THING = embeddings("classical", KEY)
DENSE = EmbedConfig(crop=16, stride=4)
WELLS = tuple(f"{row}{column:02d}" for row in "ABCD" for column in range(1, 7))
SITE = yaml.safe_load((INFRA / "jobqueue.yaml").read_text())

dask_jobqueue = pytest.importorskip("dask_jobqueue", reason="needs phenopipe[slurm]")


def shipped():
    return dask.config.set(dask.config.merge(dask.config.config, SITE))


@pytest.fixture(scope="module")
def one_node():
    """Start Slurm, in a folder whose path is short enough for a socket."""
    if not shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.skip("needs Slurm on this machine: apt-get install slurm-wlm munge")
    folder = tempfile.mkdtemp(prefix="slurm-")
    try:
        subprocess.run([INFRA / "one-node.sh", "start", folder], check=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", f"{folder}/slurm.conf")
            yield
    finally:
        subprocess.run([INFRA / "one-node.sh", "stop", folder], check=True)
        shutil.rmtree(folder)


@pytest.fixture
def site(one_node, tmp_path, monkeypatch):  # noqa: ARG001
    """The settings that the project ships, with small jobs."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(slurm, "_LOOK_EVERY_S", 1.0)
    small = {"jobqueue.slurm.cores": 1, "jobqueue.slurm.memory": "1 GiB"}
    two = {"distributed.adaptive.minimum": 2, "distributed.adaptive.maximum": 2}
    soon = {"distributed.deploy.lost-worker-timeout": "2s"}
    with shipped(), dask.config.set(small | two | soon):
        yield tmp_path


@pytest.fixture
def plate(tmp_path):
    plate = PlateWriter(Lake(tmp_path / "lake"), wells=WELLS)
    plate.publish()
    return plate


@pytest.fixture
def logged():
    """Collect what phenopipe logs; a cluster silences the handlers of pytest's caplog."""
    lines = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("phenopipe")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def list_jobs(*states):
    told = subprocess.run(
        [shutil.which("squeue"), "--noheader", "--format=%A", f"--states={','.join(states)}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.split()


def cancel(job):
    subprocess.run([shutil.which("scancel"), job], check=True)


def wait_until(happened, *, seconds=30.0):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def embed(plate, client, **options):
    embed_plate(plate.lake, KEY, client=client, config=DENSE, **options)
    files = plate.lake.require(THING, remedy="").files
    plate.lake.clear(THING)
    return files


@pytest.mark.usefixtures("site")
def test_jobs_embed_the_same_bytes_as_threads_though_one_is_cancelled(plate):
    with compute.client("threads", workers=1) as client:
        undisturbed = embed(plate, client)
    cancelled = []
    with compute.client("slurm") as client:
        client.wait_for_workers(2, timeout=30)

        def cancel_one(done, total):
            if 0 < done < total and not cancelled:
                cancelled.append(list_jobs("RUNNING")[0])
                cancel(cancelled[0])
                wait_until(lambda: len(client.nthreads()) == 1)

        assert embed(plate, client, on_progress=cancel_one) == undisturbed
        assert cancelled
        wait_until(lambda: len({*list_jobs("RUNNING")} - {*cancelled}) == 2)
    wait_until(lambda: not list_jobs("PENDING", "RUNNING"))


@pytest.mark.usefixtures("site")
def test_a_cluster_lets_in_only_who_has_its_certificate():
    with compute.client("slurm", workers=1) as client:
        address = compute.scheduler_address(client)
        assert address.startswith("tls://")
        for stranger in (address, address.replace("tls", "tcp")):
            with pytest.raises((OSError, TypeError)):
                asyncio.run(connect(stranger, timeout=2))
        with compute.client(address) as joined:
            assert joined.submit(pow, 2, 3).result() == 8
        environ = client.run(lambda: dict(os.environ))
    (environ,) = environ.values()
    assert environ["MALLOC_TRIM_THRESHOLD_"] == str(16 * 2**20)  # as of workers on this machine
    assert environ["OMP_NUM_THREADS"] == "1"
    assert environ["DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL"] == "500ms"
    assert environ["DASK_DISTRIBUTED__WORKER__MEMORY__MONITOR_INTERVAL"] == "500ms"


@pytest.mark.usefixtures("site")
def test_a_job_that_is_cancelled_in_line_is_submitted_again(logged):
    # A job takes the whole node: the second waits.
    cores = max(2, compute.usable_cores())
    with dask.config.set({"jobqueue.slurm.cores": cores}), compute.client("slurm", workers=2):
        (waiting,) = list_jobs("PENDING")
        cancel(waiting)
        wait_until(lambda: set(list_jobs("PENDING")) - {waiting})
    assert any(f"job {waiting} ended before its worker joined" in line for line in logged)


def test_jobs_that_end_at_their_start_are_told_with_where_their_output_is(site):
    fails = dask.config.set({"jobqueue.slurm.job-script-prologue": ["echo no such node", "exit 1"]})
    told = pytest.raises(InputError, match=r"jobs \d+, .* ended .* output is in .*/slurm")
    with fails, told, compute.client("slurm"):
        pass
    logs = [path.read_text() for path in (site / ".phenopipe/slurm").glob("*.out")]
    assert "no such node\n" in logs
    wait_until(lambda: not list_jobs("PENDING", "RUNNING"))


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("queue", "elsewhere", "invalid partition specified: elsewhere"),
        ("memory", "900 TiB", "Memory specification can not be satisfied"),
    ],
)
def test_what_slurm_refuses_is_told_in_its_words(setting, value, told):
    refused = pytest.raises(InputError, match=told)
    with dask.config.set({f"jobqueue.slurm.{setting}": value}), refused, compute.client("slurm"):
        pass
    assert list_jobs("PENDING", "RUNNING") == []


def test_without_slurm_it_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="no sbatch"), compute.client("slurm", workers=1):
        pass


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"jobqueue.slurm.cores": None}, "jobqueue.slurm.cores, a job's, found none"),
        ({"jobqueue.slurm.memory": None}, "jobqueue.slurm.memory, a job's, found none"),
        ({"jobqueue.slurm.processes": 4}, "processes to be 1, found 4"),
        ({"distributed.adaptive.maximum": float("inf")}, "maximum, found 8 and inf"),
        ({"distributed.adaptive.maximum": 4}, "maximum, found 8 and 4"),
    ],
)
def test_a_setting_that_lacks_is_named(settings, told, tmp_path, monkeypatch):
    (tmp_path / "sbatch").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        shipped(),
        dask.config.set(settings),
        pytest.raises(InputError, match=told),
        compute.client("slurm"),
    ):
        pass


def test_the_shipped_settings_are_ones_that_dask_knows():
    known = yaml.safe_load((Path(dask_jobqueue.__file__).parent / "jobqueue.yaml").read_text())
    assert SITE["jobqueue"]["slurm"].keys() <= known["jobqueue"]["slurm"].keys()


def test_shipped_workers_leave_before_their_job_is_out_of_time():
    settings = SITE["jobqueue"]["slurm"]
    hours, minutes, _ = map(int, settings["walltime"].split(":"))
    options = " ".join(settings["worker-extra-args"])
    lifetime, stagger = map(int, re.findall(r"--lifetime(?:-stagger)? (\d+)m", options))
    assert lifetime + stagger < 60 * hours + minutes
