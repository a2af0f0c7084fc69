"""Two lakes, in folders or buckets."""

import uuid
from pathlib import Path

import pytest

from phenopipe.lake import Lake, bucket
from tests.transfer.lakes import fill


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Try again at once what went wrong."""
    monkeypatch.setattr(bucket, "_WAITS_S", (0, 0))


@pytest.fixture(params=["folder to bucket", "bucket to folder", "folder to folder"])
def roots(request, tmp_path):
    """Give the roots of two empty lakes, by every way between folders and buckets."""
    kinds = request.param.split(" to ")
    return [
        make_root(kind, name, tmp_path, request) for kind, name in zip(kinds, "ab", strict=True)
    ]


def make_root(kind, name, tmp_path: Path, request):
    if kind == "folder":
        return str(tmp_path / name)
    request.getfixturevalue("emulator")
    return f"gs://lake/{uuid.uuid4().hex}"


@pytest.fixture
def lakes(roots):
    """Give a lake of three plates and a model, and an empty one."""
    return fill(Lake(roots[0])), Lake(roots[1])
