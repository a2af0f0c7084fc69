"""`phenopipe watch` as a user meets it, in a process of its own."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile


@pytest.fixture
def watch(tmp_path):
    def watch(*options):
        main = "from phenopipe.cli import main; main()"
        command = [sys.executable, "-c", main, "watch", str(tmp_path / "landing"), "--once"]
        return subprocess.run(
            [*command, "--root", str(tmp_path / "lake"), "--compute", "threads", *options],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
            env={"COLUMNS": "200"},
        )

    return watch


def test_a_plate_is_ingested_once_and_its_changes_end_with_1(watch, tmp_path):
    folder = tmp_path / "landing/Batch1/Plate1/TimePoint_1"
    folder.mkdir(parents=True)
    image = np.random.default_rng(0).integers(100, 300, (40, 50)).astype("uint16")
    image[10:20, 10:30] += 2000
    tifffile.imwrite(folder / "Plate1_B02_s1_w1.TIF", image)

    done = watch("--quiet-minutes", "0")
    assert (done.returncode, "1 wells" in done.stdout) == (0, True), done.stderr

    tifffile.imwrite(folder / "Plate1_B02_s1_w1.TIF", image + 1)
    done = watch("--quiet-minutes", "0")
    assert done.returncode == 1
    assert "changed" in done.stdout
    assert "--replace" in done.stdout


def test_a_landing_zone_that_is_not_there_ends_with_2(watch):
    done = watch()
    assert done.returncode == 2
    assert "landing" in done.stderr
    assert "Traceback" not in done.stderr
