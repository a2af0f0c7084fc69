"""The models' commands as a user meets them, and the how-to's example as it stands there."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from phenopipe.cli_models import models
from phenopipe.errors import InputError
from phenopipe.lake import Lake
from phenopipe.models import ensure_classical, open_session
from tests.embed.conftest import KEY, PlateWriter
from tests.models.graphs import card_of, projection
from tests.pages import read_block, read_blocks

HOW_TO = "own-model.md"


def phenopipe(line, *, where):
    command = [sys.executable, "-c", "from phenopipe.cli import main; main()"]
    # As the installed script: without the folder where it is run.
    return subprocess.run(
        [*command, *line.split()],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=where,
        env=os.environ | {"PYTHONSAFEPATH": "1", "COLUMNS": "200"},
    )


def test_the_how_tos_model_is_added_listed_used_and_verified(tmp_path):
    module, card = read_block(HOW_TO, "python"), read_block(HOW_TO, "json")
    (tmp_path / "my_model.py").write_text(module)
    (tmp_path / "card.json").write_text(card)
    PlateWriter(Lake(tmp_path / "LAKE"), wells=("A01", "B02"), paths=("1",)).publish()
    told = []
    first = next(code for language, code in read_blocks(HOW_TO) if language == "sh")
    for line in first.splitlines():
        quick = " --compute threads" if " embed " in line else ""
        done = phenopipe(line.removeprefix("phenopipe ") + quick, where=tmp_path)
        assert done.returncode == 0, done.stderr
        told.append(done.stdout)
    assert "1.000000" in told[0]
    assert "DNA, ER, AGP" in told[1]
    assert (tmp_path / "LAKE/embeddings/mine" / f"{KEY}.parquet").is_file()
    assert "CPUExecutionProvider: cosine 1.000000" in told[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as the how-to says, with a lake beside it."""
    where = tmp_path_factory.mktemp("ready")
    ready, content = where / "FOLDER", projection()
    ready.mkdir()
    (ready / "model.onnx").write_bytes(content)
    (ready / "card.json").write_text(card_of(content).model_dump_json())
    crops = np.random.default_rng(0).integers(0, 4000, (2, 2, 16, 16), np.uint16)
    np.savez(ready / "reference.npz", crops=crops, embeddings=open_session(content).embed(crops))
    return where


def test_a_ready_model_is_added_and_goes_out_again(folder):
    for line in ("models add FOLDER --root LAKE", "models export mine OUT --root LAKE"):
        done = phenopipe(line, where=folder)
        assert done.returncode == 0, done.stderr
    assert {path.name for path in (folder / "OUT").iterdir()} == {
        "card.json",
        "model.onnx",
        "reference.npz",
    }
    done = phenopipe("models add OUT --root OTHER --precision fp16", where=folder)
    assert done.returncode == 0, done.stderr
    (card,) = json.loads(phenopipe("models list --root OTHER --json", where=folder).stdout)
    assert (card["name"], card["precision"]) == ("mine-fp16", "fp16")
    assert 0.9999 < card["parity"]["cosine_given"] <= 1


def test_verify_ends_with_1_where_a_byte_differs(tmp_path):
    ensure_classical(Lake(tmp_path / "LAKE"))
    assert phenopipe("models verify classical --root LAKE", where=tmp_path).returncode == 0
    path = tmp_path / "LAKE/models/classical/1/model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    done = phenopipe("models verify classical --root LAKE --json", where=tmp_path)
    assert done.returncode == 1
    assert [row["outcome"] for row in json.loads(done.stdout)] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("add nowhere --root LAKE", "expected openphenom, a folder"),
        ("add openphenom --root LAKE", "expected --checkpoint PATH"),
        ("add openphenom --root LAKE --checkpoint .", "expected model.safetensors in"),
        ("add mine:build --root LAKE", "expected --card PATH"),
        ("add FOLDER --root NEW --plate E/P", "expected --precision beside --plate"),
        ("add FOLDER --root NEW --precision fp16 --plate E/P", "run phenopipe ingest on E/P first"),
        ("add FOLDER --root NEW --precision bf16", "found cpu, for which ONNX Runtime"),
        ("add FOLDER --root NEW --provider tpu", "found 'tpu'"),
        ("verify vit --root NEW", "expected a model vit"),
        ("export vit OUT2 --root NEW", "expected a model vit"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_published(folder, line, said, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=said):
        CliRunner().invoke(models, line.split(), catch_exceptions=False)
    assert not (folder / "NEW/models").exists()
