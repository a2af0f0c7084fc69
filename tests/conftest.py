"""Real data beside the project, where they are there; a bucket on this machine."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from emulator import Emulator

from phenopipe.lake import bucket

SHARED = Path(__file__).parents[1] / "../shared/data"


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Give the path of a real file or folder, or skip the test and say which is not there."""

    def find(name: str) -> Path:
        path = (SHARED / name).resolve()
        if not path.exists():
            pytest.skip(f"needs real data that are not here: {name}")
        return path

    return find


@pytest.fixture(scope="session")
def _session_emulator() -> Iterator[Emulator]:
    with Emulator() as started, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", started.address)
        patch.setenv("NO_GCE_CHECK", "true")
        patch.setattr(bucket, "LEASE_S", 4.0)
        yield started


@pytest.fixture
def emulator(_session_emulator: Emulator) -> Iterator[Emulator]:
    """Google Cloud Storage on this machine, without faults until the test asks for some."""
    _session_emulator.count()
    yield _session_emulator
    _session_emulator.faults.clear()


@pytest.fixture
def bucket_root(emulator: Emulator) -> str:  # noqa: ARG001
    """Give a root in a bucket that no other test uses."""
    return f"gs://lake/{os.getpid()}/{uuid.uuid4().hex}"


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the root of a lake in a folder, then of one in a bucket."""
    return str(tmp_path) if request.param == "folder" else request.getfixturevalue("bucket_root")
