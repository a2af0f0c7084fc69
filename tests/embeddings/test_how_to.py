"""The how-to's code runs as it stands, from top to bottom."""

import json
import shlex

from phenopipe.cli import app
from tests.pages import read_blocks

HOW_TO = "embeddings.md"


def test_the_how_to_runs(open_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("LAKE")
    facts = {"model": "classical", "feature_names": json.dumps(["DNA_mean", "ER_mean", "ER_std"])}
    for where in ("HUVEC-1/Plate1", "HUVEC-1/Plate2", "HUVEC-2/Plate1"):
        store.publish(where, model="classical", facts=facts)
    names: dict[str, object] = {}
    for language, code in read_blocks(HOW_TO):
        if language == "python":
            exec(code, names)  # noqa: S102, our own page
        for line in code.splitlines() if language == "sh" else ():
            program, *arguments = shlex.split(line, comments=True)
            if program == "phenopipe":
                app(arguments, standalone_mode=False)
    assert {file.name for file in tmp_path.iterdir()} == {
        "LAKE", "crops.parquet", "wells.csv.gz", "huvec.h5ad", "profiles.parquet",
    }  # fmt: skip
