"""`phenopipe benchmark` and `phenopipe leaderboard` as a user meets them."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from phenopipe.benchmark import benchmark_map
from phenopipe.cli import app
from phenopipe.config import BenchmarkConfig
from phenopipe.digests import digest_file
from phenopipe.lake import Lake
from tests.benchmark.lake import publish_map, write_annotations
from tests.report.conftest import build_lake

FAST = BenchmarkConfig(n_bootstrap=100, n_shuffles=20, n_null=100)


def phenopipe(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def annotations(tmp_path_factory):
    folder = tmp_path_factory.mktemp("known") / "annotations"
    write_annotations(folder)
    pairs = "\n".join(f"GENE{i:03d},GENE{i + 10:03d}" for i in range(50, 140))
    (folder / "pathways.txt").write_text(f"entity1,entity2\n{pairs}\n")
    return folder


@pytest.fixture(scope="module")
def settings(annotations):
    path = annotations.parent / "settings.toml"
    path.write_text(
        "[benchmark]\nn_bootstrap = 100\nn_shuffles = 20\nn_null = 100\n"
        f'[benchmark.pins]\n"pathways.txt" = "{digest_file(annotations / "pathways.txt")}"\n'
    )
    return path


@pytest.fixture
def scored(tmp_path, annotations):
    lake = Lake(tmp_path / "lake")
    for name, noise in (("good", 0.0), ("noisy", 3.0)):
        publish_map(lake, name=name, noise=noise)
        benchmark_map(lake, name=name, annotations=annotations, config=FAST)
    return lake.root


def test_a_map_is_scored_reported_and_compared_with_another(tmp_path, annotations, settings):
    lake = build_lake(tmp_path / "lake")
    genes = [f"GENE{i:03d}" for i in range(50, 110)]
    publish_map(lake, name="other", genes=genes)
    known = ("--annotations", annotations, "--settings", settings)
    done = phenopipe(
        "benchmark", "--root", lake.root, "--map", "demo", *known, "--against", "other"
    )
    assert done.exit_code == 0, done.output
    assert "Report: " in done.stdout
    assert "relationship recall: demo less other" in done.stdout
    assert (tmp_path / "lake/maps/demo/against-other.parquet.json").is_file()


def test_an_annotation_that_is_not_as_pinned_fails_and_is_named(tmp_path, settings):
    lake = build_lake(tmp_path / "lake")
    changed = write_annotations(tmp_path / "annotations")
    known = ("--annotations", changed, "--settings", settings)
    done = phenopipe("benchmark", "--root", lake.root, "--map", "demo", *known)
    assert done.exit_code == 1
    assert "benchmark.pins" in done.stdout


def test_the_leaderboard_ranks_and_draws(scored, tmp_path):
    picture = tmp_path / "maps.png"
    done = phenopipe("leaderboard", "--root", scored, "--json", "--picture", picture)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert {row["map"] for row in rows} == {"good", "noisy"}
    assert min(row["rank"] for row in rows) == 1
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_the_leaderboard_is_a_table_a_metric(scored):
    done = phenopipe("leaderboard", "--root", scored)
    assert "proximity bias on genome" in done.stdout
    first = done.stdout.split("cluster separation on complexes")[1]
    assert first.index("good") < first.index("noisy")


def test_a_lake_without_scores_ends_with_2_and_a_sentence(tmp_path):
    command = "from phenopipe.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "leaderboard", "--root", tmp_path / "nowhere"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert "run `phenopipe benchmark`" in done.stderr
    assert "Traceback" not in done.stderr
