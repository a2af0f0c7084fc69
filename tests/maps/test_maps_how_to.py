"""The how-to on queries, differences and exports runs as it stands, from top to bottom."""

import json
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from phenopipe.cli import app
from phenopipe.lake import Lake
from tests.maps.published import publish_map
from tests.pages import read_blocks

HOW_TO = "maps.md"


def run(line):
    """Run a line of shell: one command, with its output to a file where it says so."""
    command, _, target = line.partition(" > ")
    program, *arguments = shlex.split(command, comments=True)
    assert program == "phenopipe"
    with Path(target.strip() or "told.txt").open("w") as out, redirect_stdout(out):
        app(arguments, standalone_mode=False)


def test_the_how_to_runs(tmp_path, monkeypatch):
    pytest.importorskip("anndata")
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 12))
    x[:8] += 2
    x[8:12] -= 2
    names = [*(f"RPS{i:02d}" for i in range(50)), *(f"drug {i}" for i in range(10))]
    kinds = ["gene"] * 50 + ["compound"] * 10
    lake = Lake("LAKE")
    publish_map(lake, "screen", x, names, kinds=kinds)
    publish_map(lake, "corrected", x + 0.2 * random.normal(size=x.shape), names, kinds=kinds)
    known: dict[str, object] = {}
    for language, code in read_blocks(HOW_TO):
        if language == "python":
            exec(code, known)  # noqa: S102, our own page
        for line in code.splitlines() if language == "sh" else ():
            run(line)
    assert {file.name for file in tmp_path.iterdir()} == {
        "LAKE", "opposite.json", "diff.json", "screen.h5ad", "screen.graphml", "edges.parquet",
        "edges.csv", "told.txt",
    }  # fmt: skip
    assert json.loads(Path("diff.json").read_text())["shared"] == 60
    assert len(known["edges"]) > 10
