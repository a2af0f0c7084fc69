"""The recipes below infra/, read as what they are."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
INFRA = ROOT / "infra"


def load(path: str) -> Any:
    """Give a YAML or JSON file's one document, by its path in the project."""
    return yaml.safe_load((ROOT / path).read_text())


def load_all(folder: str) -> list[Any]:
    """Give every document of a folder's YAML files."""
    files = sorted((ROOT / folder).glob("*.yaml"))
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


def compose() -> dict[str, Any]:
    return load("infra/compose/compose.yaml")


def filled(service: str, given: dict[str, str]) -> dict[str, str]:
    """Give a service's environment with what its user put into ``.env``, as compose does."""
    asked = re.compile(r"\$\{(\w+)(?::[?-][^}]*)?\}")
    return {
        name: asked.sub(lambda match: given[match[1]], value)
        for name, value in compose()["services"][service]["environment"].items()
    }


def values(chart: str) -> dict[str, Any]:
    return load(f"infra/helm/{chart}.yaml")


def named(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Give Kubernetes' list of environment variables as a mapping; secrets as their reference."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}


def job_template() -> dict[str, Any]:
    return json.loads((ROOT / "deployments/pools/gpu-cloud.json").read_text())


def is_pinned(image: str) -> bool:
    """Whether an image's name holds a version to the last place, or a digest.

    >>> is_pinned("postgres:17.6-bookworm"), is_pinned("postgres:17"), is_pinned("postgres")
    (True, False, False)
    """
    return bool(re.search(r"@sha256:[0-9a-f]{64}$|:\d+\.\d+(\.\d+)?-[\w.-]+$", image))
