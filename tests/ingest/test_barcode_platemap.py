"""Against LINCS's and JUMP's own tables, read by pandas."""

import pandas as pd
import pytest

from phenopipe.errors import InputError
from phenopipe.ingest.platemap import find_platemap, platemap_table, read_plate_rows, read_platemap
from phenopipe.ingest.tables import join_rows
from phenopipe.plates import PlateKey

LINCS = "plates/tables/lincs/barcode_platemap.csv"
MAP = "well_position\tbroad_sample\tsolvent\nA01\tBRD-1\tDMSO\nA02\t\tDMSO\n"


@pytest.fixture
def metadata(tmp_path):
    """Write a folder as cytomining keeps one: two plates of one map, one plate of another."""
    (tmp_path / "barcode_platemap.csv").write_text(
        "Assay_Plate_Barcode,Plate_Map_Name\nBR1,one\nBR2,one\nBR 3,two\nBR4,absent\n"
    )
    (tmp_path / "platemap").mkdir()
    (tmp_path / "platemap/one.txt").write_text(MAP)
    (tmp_path / "platemap/two.txt").write_text(MAP.replace("BRD-1", "BRD-2"))
    return tmp_path


def rows_of(folder, plate):
    return read_plate_rows(folder / "barcode_platemap.csv", PlateKey("E", plate))


@pytest.mark.parametrize("number", ["001", "017"])
def test_each_barcode_of_lincs_gets_every_row_of_its_map(shared, number):
    path = shared(LINCS)
    barcodes = pd.read_csv(path).set_index("Assay_Plate_Barcode")
    name = f"C-7161-01-LM6-{number}"
    raw = pd.read_csv(shared(f"plates/tables/lincs/platemap/{name}.txt"), sep="\t")
    plates = barcodes.index[barcodes["Plate_Map_Name"] == name]
    assert len(plates) == 5
    for plate in plates:
        rows = read_plate_rows(path, PlateKey("LINCS", plate))
        assert rows["well"].tolist() == raw["well_position"].tolist()
        assert (rows["control_type"] == "negative").tolist() == raw["broad_sample"].isna().tolist()
        assert set(rows["plate_map_name"]) == {name}
        assert set(rows["Batch_Number"]) == {str(barcodes.loc[plate, "Batch_Number"])}
        assert platemap_table(rows).num_rows == 384


def test_a_map_that_is_not_there_is_named(shared):
    with pytest.raises(InputError, match=r"map 'C-7161-01-LM6-018' at .*018\.txt"):
        read_plate_rows(shared(LINCS), PlateKey("LINCS", "SQ00015202"))


def test_a_folder_or_the_table_in_it_may_be_given(metadata):
    assert find_platemap(metadata) == metadata / "barcode_platemap.csv"
    by_folder = read_plate_rows(metadata, PlateKey("E", "BR1"))
    assert by_folder.equals(rows_of(metadata, "BR1"))
    assert by_folder["compound"].tolist() == ["BRD-1", ""]


def test_only_the_map_that_is_needed_is_read(metadata):
    (metadata / "platemap/two.txt").write_bytes(b"\xff\xfe no text")
    assert len(rows_of(metadata, "BR2")) == 2
    with pytest.raises(InputError, match=r"two\.txt"):
        rows_of(metadata, "BR-3")


def test_a_plate_that_no_barcode_names_has_no_row(metadata, caplog):
    assert rows_of(metadata, "BR9").empty
    assert "does not name this plate's barcode" in caplog.text


def test_a_barcode_with_two_maps_is_refused_but_not_one_that_stands_twice(metadata):
    table = metadata / "barcode_platemap.csv"
    table.write_text(table.read_text() + "BR1,one\nBR2,two\n")
    assert len(rows_of(metadata, "BR1")) == 2
    with pytest.raises(InputError, match=r"expected one map for plate BR2 .* \(one, two\)"):
        rows_of(metadata, "BR2")


def test_a_name_cannot_lead_out_of_the_folder(metadata):
    (metadata / "secret.txt").write_text(MAP)
    table = metadata / "barcode_platemap.csv"
    table.write_text("Assay_Plate_Barcode,Plate_Map_Name\nBR1,../secret\n")
    with pytest.raises(InputError, match=r"'\.\./secret'"):
        rows_of(metadata, "BR1")


def test_a_file_that_holds_another_map_is_refused_and_of_several_its_own_is_kept(metadata):
    text = "plate_map_name\twell_position\tbroad_sample\none\tA01\tBRD-1\ntwo\tA01\tBRD-2\n"
    for name in ("one", "two"):
        (metadata / f"platemap/{name}.txt").write_text(text)
    assert rows_of(metadata, "BR-3")["compound"].tolist() == ["BRD-2"]
    (metadata / "platemap/one.txt").write_text(text.replace("one\t", "three\t"))
    with pytest.raises(InputError, match=r"wells of map one in .* found three, two"):
        rows_of(metadata, "BR1")


def test_jump_targets_own_metadata_name_its_compounds_and_controls(shared, tmp_path):
    """The map and the table about its compounds, as published, against their join by pandas."""
    table = "plates/tables/jumptarget_JUMP-Target-1_compound_{}.tsv"
    (tmp_path / "external_metadata").mkdir()
    told = shared(table.format("metadata"))
    (tmp_path / "external_metadata/compounds.tsv").symlink_to(told)
    path = tmp_path / "platemap.tsv"
    path.symlink_to(shared(table.format("platemap")))
    frame = read_platemap(path)
    raw = pd.read_csv(path, sep="\t").merge(
        pd.read_csv(told, sep="\t"), how="left", on="broad_sample"
    )
    assert len(frame) == 384
    named = raw["broad_sample"].notna() & raw["pert_iname"].notna()
    assert named.sum() == 320
    assert frame.loc[named, "compound"].tolist() == raw.loc[named, "pert_iname"].tolist()
    assert frame.loc[named, "smiles"].tolist() == raw.loc[named, "smiles"].tolist()
    positive = raw["control_type"].fillna("").str.startswith("poscon")
    assert (frame["control_type"] == "positive").tolist() == positive.tolist()
    dmso = raw["broad_sample"].isna()
    assert (frame["control_type"] == "negative").tolist() == dmso.tolist()


def test_jumps_table_of_controls_types_its_wells(shared, tmp_path):
    (tmp_path / "external_metadata").mkdir()
    table = shared("plates/tables/jump_perturbation_control.csv")
    (tmp_path / "external_metadata/controls.csv").symlink_to(table)
    path = tmp_path / "well.csv"
    path.write_text(
        "Metadata_Source,Metadata_Plate,Metadata_Well,Metadata_JCP2022\n"
        "source_1,BR1,A01,JCP2022_033924\nsource_1,BR1,A02,JCP2022_805264\n"
        "source_1,BR1,A03,JCP2022_000001\n"
    )
    rows = read_plate_rows(path, PlateKey("E", "BR1"))
    assert rows["control_type"].tolist() == ["negative", "positive", ""]
    assert rows["perturbation_type"].tolist() == ["compound", "crispr", "compound"]
    assert rows["Metadata_Name"].tolist() == ["DMSO", "PLK1", ""]


def test_a_join_never_multiplies_rows():
    rows = pd.DataFrame({"well": ["A01", "A02"], "id": ["x", "x"]})
    twice = pd.DataFrame({"id": ["x", "x"], "name": ["ex", "why"]})
    with pytest.raises(InputError, match=r"one row for each id in names\.csv, found more for x"):
        join_rows(rows, twice, on="id", where="names.csv")
