"""The how-to's code runs as it stands, from top to bottom."""

import shlex

from phenopipe.cli import app
from phenopipe.config import read_settings
from phenopipe.lake import Lake
from tests.hits.screens import NEGATIVE, compound, draw_wells, knock_out, publish_map
from tests.pages import read_blocks

HOW_TO = "hits.md"


def test_the_how_to_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    screen = [
        *[(NEGATIVE, 0.0)] * 12,
        *[(knock_out("TP53"), 2.0)] * 2,
        (knock_out("TP53", compound="nutlin", concentration_um=1.0), 1.0),
        (compound("nutlin", 1.0, gene="MDM2"), -1.0),
    ]
    publish_map(Lake("LAKE"), *draw_wells(screen), name="screen")
    names: dict[str, object] = {}
    for language, code in read_blocks(HOW_TO):
        if language == "python":
            exec(code, names)  # noqa: S102, our own page
        if language == "toml":
            (tmp_path / "settings.toml").write_text(code)
            assert read_settings("settings.toml").hits.min_wells == 5
        for line in code.splitlines() if language == "sh" else ():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "phenopipe"
            app(arguments, standalone_mode=False)
    assert len(names["hits"]) == 3
    assert len(names["rescue"]) == 2
