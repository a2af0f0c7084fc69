"""The command line as a user meets it, in a process of its own."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from phenopipe.simulate import simulate_screen


def phenopipe(*arguments):
    command = [sys.executable, "-c", "from phenopipe.cli import main; main()"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=800, check=False
    )


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "screen"
    simulate_screen(folder, plates=2, wells=96, seed=2)
    return folder


@pytest.fixture(scope="module")
def lake(screen):
    """A lake made stage by stage from the shell."""
    root = screen.parent / "lake"
    annotations = screen / "truth" / "annotations"
    for stage in (
        ("ingest", screen, "--root", root),
        ("embed", "--root", root, "--model", "classical"),
        ("map", "--root", root, "--model", "classical", "--name", "m"),
        ("benchmark", "--root", root, "--map", "m", "--annotations", annotations),
    ):
        done = phenopipe(*stage)
        assert done.returncode == 0, done.stderr
    return root


def test_benchmark_told_again_ends_with_the_reports_path_and_five_lines(lake, screen):
    annotations = screen / "truth" / "annotations"
    done = phenopipe("benchmark", "--root", lake, "--map", "m", "--annotations", annotations)
    lines = done.stdout.splitlines()
    report = next(k for k, line in enumerate(lines) if line.startswith("Report: "))
    assert (lake / "maps" / "m" / "report.html").samefile(lines[report].removeprefix("Report: "))
    assert len(lines[report + 1 :]) == 5


def test_status_tells_plates_by_stages(lake):
    told = json.loads(phenopipe("status", "--root", lake, "--json").stdout)
    assert [row["plate"] for row in told["plates"]] == ["Plate1", "Plate2"]
    assert {row["embed:classical"] for row in told["plates"]} == {"published"}
    assert {row["state"] for row in told["things"]} == {"published"}


def test_verify_ends_with_1_where_a_byte_differs(lake):
    assert phenopipe("verify", "--root", lake).returncode == 0
    table = lake / "qc" / "Batch1" / "Plate1.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[:-1] + b"x")
    done = phenopipe("verify", "--root", lake)
    table.write_bytes(whole)
    assert done.returncode == 1
    assert "Plate1.parquet" in done.stdout


def test_gc_removes_what_is_half_written(lake):
    torn = lake / "maps" / "torn" / "map.zarr"
    torn.mkdir(parents=True)
    assert phenopipe("gc", "--root", lake, "--dry-run").stdout.split() == ["maps/torn/map.zarr"]
    assert torn.exists()
    assert phenopipe("gc", "--root", lake).returncode == 0
    assert not torn.exists()


def test_embeddings_are_exported_well_by_well(lake, tmp_path):
    out = tmp_path / "profiles.parquet"
    done = phenopipe("embeddings", "export", "--root", lake, "--format", "pycytominer", out)
    assert done.returncode == 0, done.stderr
    profiles = pd.read_parquet(out)
    assert done.stdout.startswith(f"{len(profiles)} wells, 2 plates, 2 experiments, ")
    keys = ["Metadata_Batch", "Metadata_Plate", "Metadata_Well"]
    assert list(profiles.columns[:3]) == keys
    assert not profiles[keys].duplicated().any()
    tables = [pd.read_parquet(path) for path in (lake / "embeddings/classical").glob("*/*.parquet")]
    assert len(profiles) == sum(table["well"].nunique() for table in tables)
    assert profiles.filter(regex="^DNA_").notna().to_numpy().all()


def test_models_are_listed(lake):
    (card,) = json.loads(phenopipe("models", "list", "--root", lake, "--json").stdout)
    assert card["name"] == "classical"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ingest", "nowhere", "--root", "lake"), "nowhere"),
        (("embed", "--root", "nowhere"), "phenopipe ingest"),
        (("map", "--root", "nowhere", "--name", "m"), "phenopipe embed"),
        (("embed", "--root", "s3://bucket"), "local folder"),
        (("simulate", "there", "--layout", "columbus"), "imagexpress"),
        (("simulate", "there", "--wells", "7"), "7"),
        (("frobnicate",), "frobnicate"),
    ],
)
def test_what_cannot_be_done_ends_with_2_and_one_sentence(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = phenopipe(*arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
