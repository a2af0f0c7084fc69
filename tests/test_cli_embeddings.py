"""`phenopipe embeddings` as a user meets it, in a process of its own."""

import subprocess
import sys

import pytest


def export(*arguments):
    main = "from phenopipe.cli import main; main()"
    command = [sys.executable, "-c", main, "embeddings", "export", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("x.xlsx", "--root", "nowhere", "--format", "xlsx"), "xlsx"),
        (("x.csv", "--root", "nowhere", "--format", "csv"), "phenopipe embed"),
    ],
)
def test_what_cannot_be_exported_ends_with_2_and_a_sentence(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = export(*arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
