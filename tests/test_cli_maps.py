"""`phenopipe map`, `map diff`, `map export` and `query` as a user meets them."""

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from phenopipe.cli import app
from phenopipe.errors import InputError
from phenopipe.lake import Lake
from phenopipe.maps import open_map
from tests.maps.published import publish_map, publish_plate

NAMES = [*(f"RPS{i:02d}" for i in range(25)), *(f"drug {i}" for i in range(15))]
KINDS = ["gene"] * 25 + ["compound"] * 15


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps") / "lake"
    lake = Lake(folder)
    publish_plate(lake)
    x = np.random.default_rng(0).normal(size=(40, 8))
    publish_map(lake, "before", x, NAMES, kinds=KINDS)
    publish_map(lake, "after", x[:39] + 0.1, NAMES[:39], kinds=KINDS[:39])
    return folder


@pytest.fixture
def phenopipe(root, capsys):
    def run(*arguments):
        app([*map(str, arguments), "--root", str(root)], standalone_mode=False)
        return capsys.readouterr().out

    return run


def test_a_map_is_built_by_the_command_without_a_subcommand(phenopipe, root):
    told = phenopipe("map", "--model", "classical", "--name", "m", "--align", "centerscale")
    assert "done" in told
    assert open_map(Lake(root), "m").attrs["align"] == "centerscale"


def test_settings_are_read_and_an_option_stands_above_them(phenopipe, root, tmp_path):
    settings = tmp_path / "assay.toml"
    settings.write_text('[map]\nalign = "centerscale"\ncorrect = "none"\ntop = 3\n')
    phenopipe("map", "--name", "set", "--settings", settings)
    table = pq.read_table(root / "maps" / "set" / "neighbours.parquet")
    assert max(table["rank"].to_pylist()) == 3
    phenopipe("map", "--name", "over", "--settings", settings, "--align", "none")
    lake = Lake(root)
    attrs = [open_map(lake, name).attrs for name in ("set", "over")]
    assert [(one["align"], one["correct"]) for one in attrs] == [
        ("centerscale", "none"),
        ("none", "none"),
    ]


def test_query_prints_one_json_document(phenopipe):
    rows = json.loads(phenopipe("query", "--map", "before", "rps03", "--top", 3, "--json"))
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert {(row["perturbation"], row["side"]) for row in rows} == {("RPS03", "alike")}


def test_query_is_narrowed_to_a_relation_and_turned_to_opposites(phenopipe):
    asked = ("query", "--map", "before", "RPS03", "--relation", "gene-compound", "--json")
    alike, opposite = (json.loads(phenopipe(*asked, *more)) for more in ((), ("--opposite",)))
    assert {row["neighbour"].split()[0] for row in alike + opposite} == {"drug"}
    assert alike[0]["cosine"] > 0 > opposite[0]["cosine"]


def test_querys_table_says_what_it_lists(phenopipe):
    told = phenopipe("query", "--map", "before", "rps03", "--opposite", "--top", 1)
    assert told.startswith("Most opposite to RPS03 in before")
    assert "gene" in told


def test_diff_tells_what_moved_and_what_chance_gives(phenopipe):
    told = phenopipe("map", "diff", "before", "after")
    assert "39 perturbations in both; 1 only in before (drug 14); 0 only in after" in told
    assert "mismatched" in told
    assert "What moved furthest" in told


def test_diff_prints_one_json_document_of_all_perturbations(phenopipe):
    told = json.loads(phenopipe("map", "diff", "before", "after", "--top", 5, "--json"))
    assert (told["shared"], told["lost"], told["gained"], told["top"]) == (39, ["drug 14"], [], 5)
    assert len(told["perturbations"]) == 39
    assert told["correlation"]["low"] <= told["correlation"]["mean"] <= 1
    assert {row["rank_a"] for row in told["pairs"]} >= {1, 2, 3, 4, 5}


def test_tables_of_genes_are_given_to_a_map(phenopipe, root, tmp_path):
    positions, centromeres = tmp_path / "positions.tsv", tmp_path / "centromeres.tsv"
    phenopipe("map", "--model", "classical", "--name", "hgnc", "--align", "none")
    genes = [gene for gene in open_map(Lake(root), "hgnc")["gene"].to_numpy() if gene]
    lines = [f"{gene}\tchrZ\t1\t2\n" for gene in genes]
    positions.write_text("gene\tchrom\tstart\tend\n" + "".join(lines))
    centromeres.write_text("chrom\tchromStart\tchromEnd\nchrZ\t5\t7\n")
    files = "--positions", positions, "--centromeres", centromeres
    phenopipe("map", "--model", "classical", "--name", "own", "--align", "none", *files)
    dataset = open_map(Lake(root), "own")
    arms = dataset["arm"].to_numpy()[(dataset["gene"] != "").to_numpy()]
    assert set(arms) == {"Zp"}
    with pytest.raises(InputError, match="positions without centromeres: give both"):
        phenopipe("map", "--model", "classical", "--name", "own", *files[:2])


def test_export_says_what_it_wrote(phenopipe, tmp_path):
    out = tmp_path / "edges.parquet"
    told = phenopipe("map", "export", "--map", "before", "--to", out, "--max-fdr", 1)
    assert told == f"40 perturbations, {40 * 39 // 2} edges in {out}\n"
    assert pq.read_metadata(out).num_rows == 40 * 39 // 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("map", "--name", "m"), "--root ROOT"),
        (("map", "--root", "lake"), "--name MAP"),
        (("map", "--name", "m", "diff", "a", "b", "--root", "lake"), "--name before it: move"),
        (("map", "--root", "lake", "--name", "m", "--settings", "none.toml"), "none.toml"),
        (("query", "--root", "lake", "--map", "none", "TP53"), "phenopipe map"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        app(list(arguments), standalone_mode=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("query", "--map", "before", "RPS0"), "the closest names are RPS"),
        (("map",), "Usage"),
        (("map", "--name", "m"), "--root ROOT"),
    ],
)
def test_unusable_input_ends_with_2_and_no_traceback(root, arguments, said):
    lake = ["--root", str(root)] if arguments[0] == "query" else []
    command = [sys.executable, "-c", "from phenopipe.cli import main; main()", *arguments, *lake]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
