"""systemd reads the units, and they name pools that there are."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from recipes import INFRA

ONPREM = INFRA / "onprem"
UNITS = sorted(ONPREM.glob("*.service"))


def test_systemd_takes_the_units(tmp_path):
    verify = shutil.which("systemd-analyze")
    if not verify:
        pytest.skip("needs systemd on this machine: apt-get install systemd")
    for unit in UNITS:
        # It looks for the programs, and these are installed elsewhere here.
        text = unit.read_text().replace("/opt/phenopipe/.venv/bin", str(Path(sys.prefix) / "bin"))
        (tmp_path / unit.name).write_text(text)
    told = subprocess.run(
        [verify, "verify", *tmp_path.glob("*.service")], capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stderr) == (0, "")


def command(unit: Path) -> list[str]:
    (line,) = re.findall(r"^ExecStart=(.*)", unit.read_text(), re.MULTILINE)
    return shlex.split(line)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_worker_of_a_pool_that_there_is(unit):
    pools = yaml.safe_load((INFRA.parent / "deployments/server.yaml").read_text())["pools"]
    _, *arguments = command(unit)
    assert arguments[:3] == ["worker", "start", "--pool"]
    assert pools[arguments[3]]["type"] == "process"


def test_a_worker_whose_runs_start_others_and_wait_for_them_has_no_limit():
    assert "--limit" not in command(ONPREM / "phenopipe-cpu.service")


def test_what_is_shipped_holds_no_password():
    lines = (ONPREM / "worker.env").read_text().splitlines()
    assert "PREFECT_API_AUTH_STRING=" in lines
