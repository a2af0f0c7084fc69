from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phenopipe.errors import InputError
from phenopipe.ingest.platemap import (
    find_platemap,
    orphans,
    platemap_table,
    read_plate_rows,
    read_platemap,
    rows_of_plate,
)
from phenopipe.ingest.spellings import read_well
from phenopipe.plates import PlateKey, Well
from phenopipe.schema import PLATEMAP_COLUMNS

# Rows from the documents of RxRx3 and RxRx1 (rxrx-datasets), as they stand there.
RXRX3 = """\
well_id,experiment_name,plate,address,gene,treatment,SMILES,concentration,perturbation_type,cell_type
gene-079_8_H29,gene-079,8,H29,RPLP2,RPLP2_guide_4,,,CRISPR,HUVEC
gene-060_9_P28,gene-060,9,P28,EMPTY_control,EMPTY_control,,,CRISPR,HUVEC
compound-001_19_D20,compound-001,19,D20,,Dequalinium,"CC1=[N+](C,C)C |c:1,13|",0.25,COMPOUND,HUVEC
compound-004_43_B08,compound-004,43,B08,,CRISPR_control,,,COMPOUND,HUVEC
"""
RXRX1 = """\
site_id,well_id,cell_type,dataset,experiment,plate,well,site,well_type,sirna,sirna_id
HUVEC-1_1_B02_1,HUVEC-1_1_B02,HUVEC,train,HUVEC-1,1,B02,1,negative_control,EMPTY,1138
HUVEC-1_1_B02_2,HUVEC-1_1_B02,HUVEC,train,HUVEC-1,1,B02,2,negative_control,EMPTY,1138
HUVEC-1_1_B03_1,HUVEC-1_1_B03,HUVEC,train,HUVEC-1,1,B03,1,treatment,s21721,513
HUVEC-1_1_B04_1,HUVEC-1_1_B04,HUVEC,train,HUVEC-1,1,B04,1,positive_control,s12279,840
"""


@pytest.fixture
def written(tmp_path):
    def write(text: str, name: str = "platemap.csv") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def row(frame: pd.DataFrame, well: str) -> dict[str, object]:
    return frame.set_index("well").loc[well].to_dict()


def test_own_spelling_is_kept_and_further_columns_are_carried_as_numbers_or_text(written):
    path = written(
        "well,perturbation,perturbation_type,gene,guide,concentration_um,control_type,zfpkm,lot\n"
        "b3,TP53,crispr,TP53,TP53_g1,,,-3.5,007\n"
        "AF48,NTC,control,,NTC_1,,negative,,008\n"
    )
    frame = read_platemap(path)
    assert list(frame.columns) == [*PLATEMAP_COLUMNS, "zfpkm", "lot"]
    assert row(frame, "B03")["gene"] == "TP53"
    assert row(frame, "AF48")["control_type"] == "negative"
    assert frame["zfpkm"].tolist() == pytest.approx([-3.5, np.nan], nan_ok=True)
    assert frame["lot"].tolist() == ["007", "008"]
    assert platemap_table(frame).schema.field("concentration_um").type == "double"


def test_jump_target_compounds_are_read_as_they_are(shared):
    path = shared("plates/tables/jumptarget_JUMP-Target-1_compound_platemap.tsv")
    frame = read_platemap(path)
    raw = pd.read_csv(path, sep="\t")
    blank = raw["broad_sample"].isna()
    assert (frame["control_type"] == "negative").tolist() == blank.tolist()
    assert (frame.loc[blank, "perturbation"] == "DMSO").all()
    assert frame.loc[~blank, "compound"].tolist() == raw.loc[~blank, "broad_sample"].tolist()
    assert set(frame.loc[~blank, "perturbation_type"]) == {"compound"}


def test_jump_target_guides_are_crispr_and_wells_with_nothing_are_empty(shared):
    frame = read_platemap(shared("plates/tables/jumptarget_JUMP-Target-1_crispr_platemap.tsv"))
    empty = frame[frame["perturbation_type"] == "empty"]
    assert empty["well"].tolist() == ["E01", "G04", "J05", "L08"]
    assert (frame["perturbation_type"] == "crispr").sum() == 380


def test_lincs_platemap_gives_its_millimoles_as_micromoles(shared):
    frame = read_platemap(shared("plates/tables/lincs/platemap/C-7161-01-LM6-017.txt"))
    a15 = row(frame, "A15")
    assert a15["concentration_um"] == pytest.approx(1111.11, abs=0.01)
    assert a15["perturbation"] == "BRD-A50764878-003-02-8"
    assert row(frame, "A01")["control_type"] == "negative"
    assert a15["plate_map_name"] == "C-7161-01-LM6-017"


def test_jump_wells_are_typed_by_their_accession_as_its_table_of_controls_says(shared, written):
    table = pd.read_csv(shared("plates/tables/jump_perturbation_control.csv"))
    wells = [f"A{number:02d}" for number in range(1, len(table) + 1)]
    text = "".join(
        f"BR1,{well},{code}\n" for well, code in zip(wells, table["Metadata_JCP2022"], strict=True)
    )
    frame = read_platemap(written("Metadata_Plate,Metadata_Well,Metadata_JCP2022\n" + text))
    expected = {"negcon": "negative", "poscon": "positive", "empty": ""}
    assert frame["control_type"].tolist() == table["Metadata_pert_type"].map(expected).tolist()
    positive = (table["Metadata_pert_type"] == "poscon").to_numpy()
    said = frame.loc[positive, "perturbation_type"].tolist()
    assert said == table.loc[positive, "Metadata_modality"].tolist()


def test_rxrx3_addresses_treatments_and_its_two_controls(written):
    frame = read_platemap(written(RXRX3))
    guide = row(frame, "H29")
    assert (guide["perturbation"], guide["gene"]) == ("RPLP2_guide_4", "RPLP2")
    assert guide["perturbation_type"] == "crispr"
    compound = row(frame, "D20")
    assert (compound["compound"], compound["concentration_um"]) == ("Dequalinium", 0.25)
    assert compound["smiles"] == "CC1=[N+](C,C)C |c:1,13|"
    for well in ("P28", "B08"):
        control = row(frame, well)
        assert (control["perturbation_type"], control["control_type"]) == ("control", "negative")
        assert control["gene"] == ""


def test_rxrx1_has_one_row_a_site_and_is_read_as_one_row_a_well(written):
    frame = read_platemap(written(RXRX1))
    assert frame["well"].tolist() == ["B02", "B03", "B04"]
    assert frame["perturbation"].tolist() == ["EMPTY", "s21721", "s12279"]
    assert frame["control_type"].tolist() == ["negative", "", "positive"]
    assert frame["perturbation_type"].tolist() == ["control", "sirna", "sirna"]


def test_rows_of_one_plate_are_taken_by_name_or_rxrx_number_and_sorted_by_well(written):
    frame = read_platemap(written(RXRX1))
    own = rows_of_plate(frame.iloc[::-1], PlateKey("HUVEC-1", "Plate1"))
    assert own["well"].tolist() == ["B02", "B03", "B04"]
    assert "plate" not in own
    assert rows_of_plate(frame, PlateKey("HUVEC-1", "Plate2")).empty


def test_a_plate_known_only_under_other_experiments_is_named(written):
    frame = read_platemap(written(RXRX1))
    with pytest.raises(InputError, match=r"HUVEC-2/Plate1 .* found Plate1 under .* HUVEC-1"):
        rows_of_plate(frame, PlateKey("HUVEC-2", "Plate1"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("well,gene\nA1,TP53\nA01,RB1\n", "more for A01"),
        ("well,gene\nA1,TP53\nA99,RB1\nfoo,RB1\n", "'A99', 'foo'"),
        ("well,gene,perturbation_type\nA1,TP53,magic\n", "crispr, sirna, .* found 'magic'"),
        ("well,gene,control_type\nA1,TP53,maybe\n", "negative, positive or nothing"),
        ("well,compound,concentration\nA1,DMSO,10 uM\n", "plain numbers .* '10 uM'"),
        ("wells,gene\nA1,TP53\n", "expected a column well or well_position"),
        ("well,gene\n17,TP53\n", "wells such as B03 .* '17'"),
        ("Row,Column,gene\n0,1,TP53\n", "wells such as B03 .* 'R0C1'"),
        ("well,dose\nA1,3\n", "expected a column perturbation"),
        ("", "expected a platemap as CSV or TSV"),
    ],
)
def test_bad_platemaps_are_refused_and_the_fault_named(written, text, said):
    with pytest.raises(InputError, match=said):
        read_platemap(written(text))


def test_of_many_wells_that_cannot_be_read_a_few_are_named_and_counted(written):
    text = "well,gene\n" + "".join(f"Z{number},TP53\n" for number in range(60, 80))
    with pytest.raises(InputError, match=r"'Z60'.*'Z64' and 15 more"):
        read_platemap(written(text))


def test_no_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv"):
        read_platemap(tmp_path / "nowhere.csv")


def test_rows_and_columns_of_a_well_in_two_columns(written):
    frame = read_platemap(written("Row,Column,gene\nA,01,TP53\nh,12,RB1\n"))
    assert frame["well"].tolist() == ["A01", "H12"]
    frame = read_platemap(written("Row,Column,gene\n1,1,TP53\n32,48,RB1\n"))
    assert frame["well"].tolist() == ["A01", "AF48"]


def test_a_real_table_of_doses_needs_only_the_name_of_what_was_dosed(shared, written):
    path = shared("plates/sbs96/ExampleSBSImages/1049_Metadata.csv")
    with pytest.raises(InputError, match=r"expected a column perturbation or .* or add one"):
        read_platemap(path)
    raw = pd.read_csv(path)
    raw["compound"] = "wortmannin"
    frame = read_platemap(written(raw.to_csv(index=False)))
    names = raw["Row"] + raw["Column"].map("{:02d}".format)
    assert frame["well"].tolist() == names.tolist()
    assert frame["SBS_Doses"].tolist() == raw["SBS_Doses"].tolist()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("jump_plate.csv.gz", "expected a column well"),
        ("jump_perturbation_control.csv", "expected a column well"),
        ("jumptarget_JUMP-Target-1_compound_metadata.tsv", "expected a column well"),
        ("jump_microscope_config.csv", "expected a column well"),
        ("load_data_version1.csv", "expected a column perturbation"),
    ],
)
def test_real_tables_that_are_no_platemaps_are_refused_by_the_column_they_lack(shared, name, said):
    with pytest.raises(InputError, match=said):
        read_platemap(shared(f"plates/tables/{name}"))


def test_only_the_rows_of_the_plate_are_judged(written):
    path = written("plate,well,gene\nP1,A1,TP53\nP2,Z99,RB1\nP2,A1,RB1\nP2,A01,MYC\n")
    assert read_plate_rows(path, PlateKey("E", "P1"))["gene"].tolist() == ["TP53"]
    assert read_plate_rows(path, PlateKey("E", "P3")).empty
    with pytest.raises(InputError, match="'Z99'"):
        read_plate_rows(path, PlateKey("E", "P2"))


def test_no_platemap_gives_no_row_of_the_canonical_types():
    rows = read_plate_rows(None, PlateKey("E", "P1"))
    assert platemap_table(rows).num_rows == 0
    assert list(rows.columns) == list(PLATEMAP_COLUMNS)


def test_the_platemap_beside_the_plates_is_found_and_a_folder_stands_for_it(written, tmp_path):
    assert find_platemap(tmp_path) is None
    (tmp_path / "metadata.csv").write_text("instrument,serial\nPhenix,7\n")
    assert find_platemap(tmp_path) is None
    path = written(RXRX1, "metadata.csv")
    assert find_platemap(tmp_path) == path
    rows = read_plate_rows(tmp_path, PlateKey("HUVEC-1", "Plate1"))
    assert rows["well"].tolist() == ["B02", "B03", "B04"]


def test_of_two_platemaps_none_is_chosen(written, tmp_path):
    written("well,gene\nA1,TP53\n", "platemap.csv")
    written(RXRX1, "metadata.csv")
    with pytest.raises(InputError, match=r"found platemap\.csv, metadata\.csv: name the one"):
        find_platemap(tmp_path)


def test_a_folder_without_a_platemap_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected platemap\.csv or .* found none of them"):
        read_plate_rows(tmp_path, PlateKey("E", "P1"))


wells = st.builds(Well, st.integers(0, 31), st.integers(0, 47))
spellings = st.sampled_from(
    [
        "{letters}{number}",
        "{letters}{number:02d}",
        "{letters}{number:03d}",
        "{letters}-{number:02d}",
        "{letters}:{number}",
        "Well {letters}{number}",
        "R{row}C{number}",
        "r{row:02d}c{number:02d}",
    ]
)


@given(wells, spellings, st.booleans())
def test_a_well_in_any_spelling_is_the_same_well(well, spelling, lower):
    number = well.column + 1
    text = spelling.format(letters=well.row_name, row=well.row + 1, number=number)
    assert read_well(text.lower() if lower else text) == well


@given(st.sets(wells, max_size=20), st.sets(wells, max_size=20))
def test_orphans_part_the_wells_both_ways_and_lose_none(imaged, named):
    found = orphans(pd.DataFrame({"well": [str(well) for well in named]}), imaged)
    assert {Well.parse(well) for well in found.without_row} == imaged - named
    assert {Well.parse(well) for well in found.without_image} == named - imaged


def test_wells_that_the_plate_does_not_have_are_named_and_counted():
    found = orphans(pd.DataFrame({"well": ["A01", "P24"]}), [Well.parse("A01")], shape=(8, 12))
    assert found.off_plate == ("P24",)
    assert "1 platemap rows for wells that the plate does not have (P24)" in str(found)
    assert not orphans(pd.DataFrame({"well": ["A01"]}), [Well.parse("A01")], shape=(8, 12))


def test_only_what_has_no_counterpart_is_said():
    rows = pd.DataFrame({"well": ["A01"]})
    found = orphans(rows, [Well.parse("A01"), Well.parse("A03")])
    assert str(found) == "1 imaged wells without a platemap row (A03)"
