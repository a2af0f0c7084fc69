"""The audit tells vulnerabilities from an advisory service that cannot be reached."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[2] / ".ci" / "audit.py"
SOUND = {"name": "numpy", "version": "2.4.6", "vulns": []}
FLAWED = {
    "name": "pillow",
    "version": "9.0.0",
    "vulns": [{"id": "PYSEC-2022-10", "fix_versions": ["9.0.1"]}],
}
UNREACHED = {"name": "zarr", "skip_reason": "Dependency not found on PyPI"}


@pytest.fixture
def audit(tmp_path):
    """Run the audit with a tool that prints what pip-audit would."""

    def run(printed):
        tool = tmp_path / "pip-audit"
        tool.write_text(f"#!{sys.executable}\nprint({printed!r})\n")
        tool.chmod(0o755)
        command = [sys.executable, AUDIT, tool, "constraints.txt"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def found(*dependencies):
    return json.dumps({"dependencies": dependencies, "fixes": []})


def test_a_vulnerability_is_named_with_the_version_that_mends_it(audit):
    told = audit(found(SOUND, FLAWED, UNREACHED))
    assert told.returncode == 1
    assert "pillow 9.0.0: PYSEC-2022-10, mended in 9.0.1" in told.stdout
    assert "not audited: zarr" in told.stdout


def test_sound_packages_pass(audit):
    told = audit(found(SOUND))
    assert (told.returncode, told.stdout) == (0, "audit: 1 of 1 locked packages were audited\n")


def test_advisories_that_cannot_be_reached_are_told_of(audit):
    told = audit(found(UNREACHED))
    assert told.returncode == 0
    assert "NOT DONE" in told.stdout


def test_a_tool_that_fails_is_no_audit(audit):
    told = audit("no JSON")
    assert told.returncode == 2
    assert "pip-audit failed" in told.stderr
