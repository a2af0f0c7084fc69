"""`phenopipe hits` and `phenopipe rescue`, as a user meets them."""

import json

import pytest

from phenopipe.cli import app
from phenopipe.lake import Lake
from tests.hits.screens import NEGATIVE, compound, draw_wells, knock_out, publish_map

DOSES = (0.1, 1.0, 10.0, 100.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hits")
    screen = [
        *[(NEGATIVE, 0.0)] * 12,
        *[(knock_out("TP53"), 2.0)] * 2,
        (knock_out("SILENT"), 0.0),
        *[(compound("nutlin", dose), -2.0 * dose / (1 + dose)) for dose in DOSES],
    ]
    rows, values = draw_wells(screen)
    kept = ~((rows["label"] == "SILENT") & (rows["plate"] > "P0")).to_numpy()
    publish_map(Lake(folder), rows[kept], values[kept])
    settings = folder / "quick.toml"
    settings.write_text("[hits]\nn_permutations = 500\nn_bootstrap = 100\n")
    return folder


def run(root, *arguments):
    told = ["--root", str(root), "--map", "m", "--settings", str(root / "quick.toml")]
    app([arguments[0], *told, *arguments[1:]], standalone_mode=False)


def test_hits_are_told_in_plain_words(root, capsys):
    run(root, "hits", "--fdr", "0.1")
    told = capsys.readouterr().out
    assert "Active in m" in told
    assert "TP53" in told
    assert "of 6 perturbations and doses differ from their negative controls at FDR 0.1" in told
    assert "1 not tested: 1 well, fewer than 3" in told


def test_a_screen_of_genes_has_no_columns_of_doses(root, tmp_path, capsys):
    (tmp_path / "quick.toml").write_text((root / "quick.toml").read_text())
    publish_map(Lake(tmp_path), *draw_wells([*[(NEGATIVE, 0.0)] * 12, (knock_out("TP53"), 3.0)]))
    run(tmp_path, "hits")
    told = capsys.readouterr().out
    assert "TP53" in told
    assert not any(column in told for column in ("dose uM", "compound", "EC50"))


def test_hits_are_one_json_document(root, capsys):
    run(root, "hits", "--json")
    rows = json.loads(capsys.readouterr().out)
    assert {row["perturbation"]: row["active"] for row in rows}["TP53"]
    assert [row["why"] for row in rows if row["perturbation"] == "SILENT"] == [
        "1 well, fewer than 3"
    ]


def test_rescue_says_what_the_disease_is_and_ranks(root, capsys):
    run(root, "rescue", "--disease", "TP53", "--top", "2")
    told = capsys.readouterr().out
    assert "Disease: TP53, 8 wells, Z'" in told
    assert "Predicted from compounds alone" in told
    assert "of 4 compounds and doses move cells towards health at FDR 0.05" in told


def test_rescue_is_one_json_document_by_rank(root, capsys):
    run(root, "rescue", "--disease", "TP53", "--json")
    rows = json.loads(capsys.readouterr().out)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["concentration_um"] in (10.0, 100.0)
    assert rows[-1]["concentration_um"] == 0.1
