import logging

import pytest

from phenopipe.benchmark.annotations import read_annotations
from phenopipe.digests import digest_bytes
from phenopipe.errors import InputError


def write(folder, **tables):
    for name, text in tables.items():
        (folder / ".".join(name.rsplit("_", 1))).write_text(text)
    return folder


def test_a_folder_of_tables(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write(
        tmp_path,
        B_txt="entity1,entity2\nNA,TP53\n",
        A_csv="source,entity2,entity1\nx,MDM2,TP53\n",
        C_tsv="entity1\tentity2\nTP53\tMDM2\n",
        LICENSE_txt="Be kind, please",
        table_tsv="a\tb\tc\n1\t2\t3\n",
    )
    first, second, third = read_annotations(tmp_path)
    assert [table.source for table in (first, second, third)] == ["A", "B", "C"]
    assert {table.kind for table in (first, second, third)} == {"pairs"}
    assert first.pairs.to_numpy().tolist() == [["TP53", "MDM2"]]
    assert second.pairs.to_numpy().tolist() == [["NA", "TP53"]]  # a name, not a gap
    assert second.digest == digest_bytes((tmp_path / "B.txt").read_bytes())
    assert "ignored LICENSE.txt, table.tsv" in caplog.text


def test_clusters_as_corum_and_as_msigdb_write_them(tmp_path):
    write(
        tmp_path,
        complexes_tsv="one, two\tA B A\nsingle\tC\n",
        sets_gmt="GO_X\thttp://go/x\tA\tB\tC\nGO_Y\t\tD\tE\n",
    )
    complexes, sets = read_annotations(tmp_path)
    assert (complexes.kind, sets.kind) == ("clusters", "clusters")
    assert complexes.table.to_numpy().tolist() == [
        ["one, two", "A"],
        ["one, two", "B"],
        ["single", "C"],
    ]
    assert sets.table.groupby("cluster").member.agg("".join).to_dict() == {
        "GO_X": "ABC",
        "GO_Y": "DE",
    }
    with pytest.raises(TypeError, match="a source of pairs, found complexes of clusters"):
        _ = complexes.pairs


def test_compounds_and_their_targets_in_both_spellings(tmp_path):
    write(
        tmp_path,
        targets_csv="compound,gene,activity_um,assay\naspirin,PTGS1,0.5,Ki\naspirin,PTGS2,,Kd\n",
        RxRx3_csv="treatment,gene_symbol,nM_value\naspirin,PTGS1,500\n",
    )
    rxrx3, targets = read_annotations(tmp_path)
    assert (rxrx3.kind, targets.kind) == ("compound_genes", "compound_genes")
    expected = [["aspirin", "PTGS1", 0.5]]
    assert rxrx3.table.to_numpy().tolist() == targets.table.to_numpy().tolist() == expected


@pytest.mark.parametrize("activity", ["-1", "low", "inf?"])
def test_an_activity_that_is_no_number(tmp_path, activity):
    write(tmp_path, T_csv=f"compound,gene,activity_um\naspirin,PTGS1,{activity}\n")
    with pytest.raises(
        InputError, match=f"numbers from 0, found '{activity}' for aspirin".replace("?", ".")
    ):
        read_annotations(tmp_path)


def test_rows_without_an_entity_are_left_out_and_told(tmp_path, caplog):
    write(tmp_path, A_txt="entity1,entity2\nTP53,\nTP53,MDM2\n")
    assert len(read_annotations(tmp_path)[0].pairs) == 1
    assert "left out 1 rows without an entity" in caplog.text


def test_folders_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="expected a folder of annotations"):
        read_annotations(tmp_path / "none")
    with pytest.raises(InputError, match="found nothing: add one"):
        read_annotations(tmp_path)
    write(tmp_path, A_txt="entity1,entity2\na,b\n", A_csv="entity1,entity2\na,b\n")
    with pytest.raises(InputError, match=r"found A\.csv, A\.txt: rename one"):
        read_annotations(tmp_path)


def test_clusters_with_a_line_that_is_none(tmp_path):
    lines = [f"C{i}\tA B" for i in range(30)]
    write(tmp_path, A_tsv="\n".join([*lines, "no members"]))
    with pytest.raises(InputError, match=r"in line 31 of .*, found no tab"):
        read_annotations(tmp_path)


def test_a_file_that_is_not_as_pinned_is_refused(tmp_path):
    write(tmp_path, A_txt="entity1,entity2\na,b\n", B_txt="entity1,entity2\na,b\n")
    digest = digest_bytes((tmp_path / "A.txt").read_bytes())
    assert len(read_annotations(tmp_path, pins={"A.txt": digest})) == 2
    (tmp_path / "A.txt").write_text("entity1,entity2\na,c\n")
    with pytest.raises(InputError, match=f"digest {digest} that the settings pin .*: bring"):
        read_annotations(tmp_path, pins={"A.txt": digest})
    with pytest.raises(InputError, match=r"pinned annotation C.txt in .*, found A.txt, B.txt"):
        read_annotations(tmp_path, pins={"C.txt": digest})


def test_the_public_sources_are_recognised_by_their_bytes(shared, caplog):
    caplog.set_level(logging.INFO)
    sources = read_annotations(shared("annotations"))
    names = ["CORUM", "CORUM_clusters", "HuMAP", "Reactome", "SIGNOR", "StringDB"]
    assert [annotation.source for annotation in sources] == names
    (clusters,) = (annotation for annotation in sources if annotation.kind == "clusters")
    assert clusters.table.cluster.nunique() == 2696
    for name in names:
        suffix = "tsv" if name == "CORUM_clusters" else "txt"
        assert f"{name}.{suffix} is {name}.{suffix} of EFAAR_benchmarking 1.0" in caplog.text
