"""Real data beside the project, where they are there; threads of BLAS pinned to one."""

from collections.abc import Callable
from pathlib import Path

import pytest

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
