"""The whole journey with its root in a bucket: the same bytes as in a folder."""

import json

import pytest
from typer.testing import CliRunner

from phenopipe.cli import app
from phenopipe.lake import PATTERNS, Lake
from phenopipe.simulate import simulate_screen
from phenopipe.simulate.design import ScreenDesign


def phenopipe(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def travel(screen, root, *, embed_on="threads"):
    phenopipe("ingest", screen, "--root", root, "--compute", "threads")
    phenopipe("embed", "--root", root, "--compute", embed_on)
    phenopipe("map", "--root", root, "--name", "m")
    annotations = screen / "truth" / "annotations"
    phenopipe("benchmark", "--root", root, "--map", "m", "--annotations", annotations)


def published(root):
    lake = Lake(root)
    things = [thing for kind in PATTERNS for thing in lake.published(kind)]
    return {thing.path: (lake.manifest(thing).key, lake.manifest(thing).files) for thing in things}


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bucket") / "screen"
    return simulate_screen(folder, plates=1, wells=96, seed=2, design=ScreenDesign(sites=1))


def test_a_bucket_holds_what_a_folder_holds(screen, tmp_path, bucket_root, emulator):
    travel(screen, tmp_path / "lake")
    travel(screen, bucket_root, embed_on="local")
    assert published(bucket_root) == published(tmp_path / "lake")

    told = json.loads(phenopipe("status", "--root", bucket_root, "--json"))
    assert {row["state"] for row in told["things"]} == {"published"}
    assert "every published file" in phenopipe("verify", "--root", bucket_root)
    assert phenopipe("gc", "--root", bucket_root) == ""
    queries = [
        phenopipe("query", "--root", root, "--map", "m", "RPS27", "--json")
        for root in (tmp_path / "lake", bucket_root)
    ]
    assert queries[0] == queries[1]

    emulator.count()
    travel(screen, bucket_root)
    assert emulator.count().keys() == {"GET"}, "a second journey writes nothing"
