"""Slurm: a Dask cluster whose workers are jobs, each put in line again when it is lost."""

import asyncio
import logging
import math
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dask
from distributed import Adaptive, Security

from phenopipe.errors import InputError

_log = logging.getLogger(__name__)

# What a site says of its jobs: a file of Dask-Jobqueue's.
_SETTINGS = "jobqueue.slurm"
_WHERE = (
    "in ~/.config/dask/jobqueue.yaml, or the folder that DASK_CONFIG names: "
    "infra/slurm/jobqueue.yaml is one to start from"
)

# Between two looks at Slurm's line of jobs, which all users of a site share.
_LOOK_EVERY_S = 30.0
# So many jobs end before the first worker is there: their own start is at fault.
_MOST_LOST = 2

# Bash would end on the SIGTERM that cancels or preempts a job, and the job with it, before the
# worker has published what it has in hand.
_WAIT_FOR_WORKER = "trap : TERM"


def start_jobs(jobs: int | None, *, environ: Mapping[str, object]) -> Any:
    """Submit jobs of one Dask worker each, and wait for the first.

    Whatever ends a job (its time, an operator, a preemption, a node), another is submitted for it.
    Only who holds this process's certificate can join: a Dask scheduler runs what it is sent.

    Parameters
    ----------
    jobs
        Their number; by default what Dask's settings say of ``distributed.adaptive``: at least
        ``minimum``, and as the work asks for up to ``maximum``.
    environ
        Environment variables of the workers.

    Raises
    ------
    InputError
        If Slurm is not here or refuses such a job, a setting lacks, or jobs end at their start.
    """
    from dask_jobqueue.slurm import SLURMCluster  # noqa: PLC0415 - an extra

    least, most = _count_jobs(jobs)
    _check_settings()
    cluster: Any = SLURMCluster(
        processes=1,
        silence_logs=logging.CRITICAL,  # as of a cluster on this machine
        security=Security.temporary(),
        scheduler_options={"dashboard_address": "127.0.0.1:0"} | _setting("scheduler-options", {}),
        shared_temp_directory=_folder("shared-temp-directory"),
        log_directory=_folder("log-directory"),
        job_script_prologue=[
            *_setting("job-script-prologue", []),
            *(f"export {name}={value}" for name, value in environ.items()),
            _WAIT_FOR_WORKER,
        ],
    )
    try:
        _check_accepted(cluster.job_script())
        keeper = cluster.adapt(Adaptive=KeepJobs, minimum=least, maximum=most)
        _wait_for_worker(cluster, keeper)
    except BaseException:
        cluster.close()
        raise
    return cluster


class KeepJobs(Adaptive):
    """Has jobs that ended before their worker joined submitted again.

    Dask does so for workers that it saw. Of a job that is cancelled in line, or fails as it starts,
    it never hears, and waits for ever (dask/dask-jobqueue#611).
    """

    cluster: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        self.lost: list[str] = []
        self._joined: set[str] = set()
        self._missing: dict[str, str] = {}
        self._looked = time.monotonic()
        super().__init__(*args, **options)

    async def recommendations(self, target: int) -> dict[str, Any]:
        """Forget the jobs that are lost; what Dask then finds lacking, it submits."""
        jobs = self.cluster.workers
        self._joined |= {jobs[name].job_id for name in self.cluster.observed & jobs.keys()}
        if time.monotonic() - self._looked > _LOOK_EVERY_S:
            listed = await asyncio.to_thread(_list_jobs)
            self._looked = time.monotonic()
            if listed is not None:
                self._forget_lost(listed)
        found: dict[str, Any] = await super().recommendations(target)
        return found

    def _forget_lost(self, listed: set[str]) -> None:
        """Forget jobs that are missed a second time: at first they may be new since the look."""
        missing = {
            name: str(job.job_id or "(refused)")
            for name, job in self.cluster.workers.items()
            if job.job_id not in listed | self._joined
        }
        for name, job in missing.items() & self._missing.items():
            _log.warning("Slurm's job %s ended before its worker joined: submitted again", job)
            del self.cluster.workers[name]
            self.lost.append(job)
        self._missing = missing


def _count_jobs(jobs: int | None) -> tuple[int, int]:
    """Give the least and the most jobs there are to be."""
    if jobs:
        return jobs, jobs
    least, most = (dask.config.get(f"distributed.adaptive.{end}") for end in ("minimum", "maximum"))
    if math.isinf(most) or most < max(least, 1):
        raise InputError(
            "expected how many jobs there may be on Slurm as distributed.adaptive.minimum and "
            f"maximum, found {least} and {most}: set them {_WHERE}"
        )
    return least, most


def _check_settings() -> None:
    """Refuse what would fail later, or in other words."""
    if not shutil.which("sbatch"):
        raise InputError(
            "expected Slurm's commands on this machine, found no sbatch on the PATH: "
            "run this where jobs are submitted, or choose another --compute"
        )
    for name in ("cores", "memory"):
        if not _setting(name, None):
            raise InputError(f"expected {_SETTINGS}.{name}, a job's, found none: set it {_WHERE}")
    if (processes := _setting("processes", None) or 1) != 1:
        raise InputError(
            f"expected {_SETTINGS}.processes to be 1, found {processes}: Dask does not replace a "
            "lost job of several; ask for more and smaller jobs"
        )


def _setting(name: str, default: Any) -> Any:
    found = dask.config.get(f"{_SETTINGS}.{name}", default)
    return default if found is None else found


def _folder(name: str) -> str:
    """Give a folder that nodes see too: the site's, or one at home."""
    folder = Path(_setting(name, Path.home() / ".phenopipe/slurm"))
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _check_accepted(script: str) -> None:
    """Submit a job for later, and take it back: `--test-only` would refuse while nodes are away."""
    told = _call("sbatch", "--begin=now+1hour", "--parsable", given=script)
    if told.returncode:
        raise InputError(
            f"expected settings that Slurm accepts, found: {' '.join(told.stderr.split())}: "
            f"change {_SETTINGS} {_WHERE}"
        )
    _call("scancel", told.stdout.partition(";")[0].strip())


def _list_jobs() -> set[str] | None:
    """List this user's jobs that wait or run; None where Slurm does not answer."""
    states = "PENDING,CONFIGURING,RUNNING,SUSPENDED"
    told = _call("squeue", "--me", "--noheader", "--format=%A", f"--states={states}")
    return None if told.returncode else set(told.stdout.split())


def _call(command: str, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    # The command is Slurm's own, and what it is given the site's.
    return subprocess.run(  # noqa: S603
        [shutil.which(command) or command, *arguments],
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )


def _wait_for_worker(cluster: Any, keeper: KeepJobs) -> None:
    _log.info("waiting for Slurm to start a job; squeue --me says where they stand")
    while not cluster.observed:
        if len(keeper.lost) > _MOST_LOST:
            raise InputError(
                f"expected a worker from Slurm, found that jobs {', '.join(keeper.lost)} ended "
                f"before theirs joined: their output is in {_folder('log-directory')}"
            )
        time.sleep(0.2)
