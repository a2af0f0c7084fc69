"""The cloud's parts: well written, private, and kept when somebody slips."""

import re
import shutil
import subprocess
from typing import Any

import pytest
from recipes import INFRA

FILES = sorted((INFRA / "gcp").glob("*.tf"))
TEXT = "\n".join(file.read_text() for file in FILES)


def resources(kind: str) -> dict[str, Any]:
    """Give the resources of a kind by their name, as python-hcl2 reads them."""
    hcl2 = pytest.importorskip("hcl2", reason="needs pip install 'phenopipe[infra]'")
    read = hcl2.loads(TEXT)
    found = [each[key] for each in read["resource"] for key in each if key.strip('"') == kind]
    return {name.strip('"'): body for each in found for name, body in each.items()}


def test_is_formatted() -> None:
    terraform = shutil.which("terraform") or shutil.which("tofu")
    if terraform is None:
        pytest.skip("needs terraform or tofu on the PATH")
    checked = subprocess.run(
        [terraform, "fmt", "-check", "-diff", INFRA / "gcp"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "", "CHECKPOINT_DISABLE": "1"},
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_variable_is_used_and_says_what_it_is() -> None:
    declared = re.findall(r'^variable "(\w+)"', TEXT, flags=re.MULTILINE)
    assert set(re.findall(r"\bvar\.(\w+)", TEXT)) == set(declared)
    assert len(re.findall(r"^  description = ", TEXT, flags=re.MULTILINE)) >= len(declared)


def test_the_lake_is_private_and_outlives_a_slip() -> None:
    lake = resources("google_storage_bucket")["lake"]
    assert lake["public_access_prevention"].strip('"') == "enforced"
    assert lake["uniform_bucket_level_access"] is True
    assert lake["force_destroy"] is False
    assert lake["lifecycle"][0]["prevent_destroy"] is True


def test_nothing_has_a_public_address() -> None:
    cluster = resources("google_container_cluster")["this"]
    assert cluster["private_cluster_config"][0]["enable_private_nodes"] is True
    assert cluster["private_cluster_config"][0]["enable_private_endpoint"] is True
    database = resources("google_sql_database_instance")["prefect"]
    assert database["settings"][0]["ip_configuration"][0]["ipv4_enabled"] is False
    assert database["deletion_protection"] is True


def test_gpus_are_spot_and_gone_when_nothing_runs() -> None:
    pool = resources("google_container_node_pool")["gpu"]
    assert pool["node_config"][0]["spot"] is True
    assert pool["autoscaling"][0]["total_min_node_count"] == 0


def test_no_secret_reaches_the_state() -> None:
    # Ephemeral values may go into write-only arguments alone; Terraform refuses all else.
    assert re.findall(r'^resource "random_password"', TEXT, flags=re.MULTILINE) == []
    assert re.findall(r"^\s+(?:password|secret_data)\s+=", TEXT, flags=re.MULTILINE) == []
    assert "google_service_account_key" not in TEXT
