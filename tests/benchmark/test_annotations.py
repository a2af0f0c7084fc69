import logging

import pytest

from phenopipe.benchmark.annotations import read_annotations
from phenopipe.digests import digest_bytes
from phenopipe.errors import InputError


def write(folder, **tables):
    for name, text in tables.items():
        (folder / name.replace("_", ".", 1)).write_text(text)
    return folder


def test_a_folder_of_tables(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write(
        tmp_path,
        B_txt="entity1,entity2\nNA,TP53\n",
        A_csv="source,entity2,entity1\nx,MDM2,TP53\n",
        LICENSE_txt="Be kind, please",
        clusters_tsv="entity1\tentity2\n",
    )
    first, second = read_annotations(tmp_path)
    assert (first.source, second.source) == ("A", "B")
    assert first.pairs.to_numpy().tolist() == [["TP53", "MDM2"]]
    assert second.pairs.to_numpy().tolist() == [["NA", "TP53"]]  # a name, not a gap
    assert second.digest == digest_bytes((tmp_path / "B.txt").read_bytes())
    assert "ignored LICENSE.txt, clusters.tsv" in caplog.text


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


def test_the_public_sources(shared):
    sources = read_annotations(shared("annotations"))
    names = ["CORUM", "HuMAP", "Reactome", "SIGNOR", "StringDB"]
    assert [annotation.source for annotation in sources] == names
