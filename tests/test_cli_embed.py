"""`phenopipe embed`: its options, in this process."""

import sys
from pathlib import Path

import pytest

from phenopipe.cli import main
from phenopipe.lake import Lake, embeddings
from tests.embed.conftest import KEY, PlateWriter
from tests.embed.graphs import add_model


@pytest.fixture
def plate(tmp_path):
    return PlateWriter(Lake(tmp_path / "lake"))


def test_options_of_embed_override_the_settings_file(plate, monkeypatch):
    plate.publish()
    add_model(plate.lake)
    settings = Path(plate.lake.root).parent / "assay.toml"
    settings.write_text('[embed]\ncrop = 48\nedge = "pad"\nper = "crop"\n')
    command = f"phenopipe embed --root {plate.lake.root} --model sums --compute threads"
    options = f"--settings {settings} --edge shift --turns 4 --per field --provider cpu"
    monkeypatch.setattr(sys, "argv", [*command.split(), *options.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    found = plate.lake.require(embeddings("sums", KEY), remedy="").parameters
    given = {"crop": 48, "edge": "shift", "turns": 4, "per": "field", "provider": "cpu"}
    assert {name: found[name] for name in given} == given


@pytest.mark.parametrize("option", ["--turns 3", "--edge round", "--per well", "--provider tpu"])
def test_an_option_that_is_not_allowed_ends_with_2(option, plate, monkeypatch, capsys):
    command = f"phenopipe embed --root {plate.lake.root} --compute threads {option}"
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert option.split()[1] in capsys.readouterr().err
