"""The nightly flow as lab operations meet it: on a real server, plates that come and change."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tifffile

from phenopipe.lake import Lake, plate_image
from phenopipe.plates import PlateKey

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def run_flow(prefect_server, tmp_path):
    """Run the flow once on ``landing``; returns its exit code and what it printed."""

    def run():
        command = [sys.executable, "-m", "flows.ingest", str(tmp_path / "landing")]
        options = ["--root", str(tmp_path / "lake"), "--compute", "threads"]
        done = subprocess.run(
            [*command, *options, "--quiet-minutes", "0"],
            env=prefect_server,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def write_plate(folder):
    (folder / "TimePoint_1").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for wave in (1, 2):
        image = rng.integers(100, 300, (40, 50)).astype("uint16")
        image[10:20, 10:30] += 2000
        tifffile.imwrite(folder / f"TimePoint_1/{folder.name}_B02_s1_w{wave}.TIF", image)


def last_table(env):
    request = urllib.request.Request(  # noqa: S310 - our own server
        f"{env['PREFECT_API_URL']}/artifacts/filter",
        data=json.dumps(
            {"sort": "CREATED_DESC", "artifacts": {"key": {"any_": ["landing"]}}}
        ).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return json.loads(json.load(answer)[0]["data"])


@pytest.mark.timeout(600)
def test_two_nights_at_a_landing_zone(run_flow, prefect_server, tmp_path):
    batch = tmp_path / "landing/Batch1"
    write_plate(batch / "Plate1")
    code, said = run_flow()
    assert (code, "1 plate: 1 ingested" in said) == (0, True), said
    assert Lake(tmp_path / "lake").manifest(plate_image(PlateKey("Batch1", "Plate1")))

    write_plate(batch / "Plate2")
    write_plate(batch / "Torn")
    for path in (batch / "Torn").rglob("*.TIF"):
        path.write_bytes(b"torn")
    changed = batch / "Plate1/TimePoint_1/Plate1_B02_s1_w1.TIF"
    tifffile.imwrite(changed, np.ones((40, 50), "uint16"))
    code, said = run_flow()
    assert code == 1
    assert "3 plates: 1 changed, 1 failed, 1 ingested" in said
    assert "Batch1/Plate1 changed: 1 file changed" in said
    assert "Traceback" not in said
    table = {row["plate"]: row["state"] for row in last_table(prefect_server)}
    assert table == {
        "Batch1/Plate1": "changed",
        "Batch1/Plate2": "ingested",
        "Batch1/Torn": "failed",
    }
