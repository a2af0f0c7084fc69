import pandas as pd
import pytest

from phenopipe.errors import InputError
from phenopipe.genome import chromosome_arms, locate_genes, read_symbols, shipped_symbols

# As HGNC writes it: tab-separated, several values quoted and between bars, many more columns.
COMPLETE_SET = """\
hgnc_id\tsymbol\tname\tstatus\tlocation\talias_symbol\tprev_symbol
HGNC:26077\tMARCHF1\ta finger\tApproved\t4q32.2-q32.3\t"RNF171|MARCH-I"\tMARCH1
HGNC:7323\tSEPTIN9\tseptin 9\tApproved\t17q25.3\t"MSF|PNUTL4|AF17q25"\tSEPT9
HGNC:11998\tTP53\ttumor protein p53\tApproved\t17p13.1\t"p53|LFS1"\t
HGNC:1\tAAA1\tfirst\tApproved\t1p1.1\tTWIN\tOLD1
HGNC:2\tBBB1\tsecond\tApproved\t2q1.1\tTWIN\tMOVED
HGNC:3\tCCC1\tthird\tApproved\t3q1.1\tMOVED\t
HGNC:4\tC9orf9\tfourth\tApproved\t9q1.1\t\tAAA1
HGNC:5\tPAR1\tfifth\tApproved\tXp22.33 and Yp11.32\t\t
HGNC:6\tNA\tsixth\tApproved\t6q1.1\t\tNAN
"""
WITHDRAWN = """\
HGNC_ID\tSTATUS\tWITHDRAWN_SYMBOL\tMERGED_INTO_REPORT(S) (i.e HGNC_ID|SYMBOL|STATUS)
HGNC:7\tEntry Withdrawn\tGONE\t
HGNC:8\tMerged/Split\tMERGED\tHGNC:1|AAA1|Approved
HGNC:9\tMerged/Split\tSPLIT\tHGNC:1|AAA1|Approved, HGNC:2|BBB1|Approved
HGNC:10\tMerged/Split\tDEADEND\tHGNC:7|GONE|Entry Withdrawn
"""


@pytest.fixture
def symbols(tmp_path):
    complete, withdrawn = tmp_path / "hgnc_complete_set.txt", tmp_path / "withdrawn.txt"
    complete.write_text(COMPLETE_SET)
    withdrawn.write_text(WITHDRAWN)
    return read_symbols(complete, withdrawn=withdrawn)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("TP53", ("TP53", "17p", "approved")),
        ("p53", ("TP53", "17p", "alias")),
        ("MARCH1", ("MARCHF1", "4q", "previous")),
        ("AF17q25", ("SEPTIN9", "17q", "alias")),
        ("AAA1", ("AAA1", "1p", "approved")),  # though another gene was called so before
        ("C9ORF9", ("C9orf9", "9q", "capitals")),
        ("NA", ("NA", "6q", "approved")),
        ("NAN", ("NA", "6q", "previous")),
        ("MERGED", ("AAA1", "1p", "previous")),
        ("PAR1", ("PAR1", "", "no arm")),
        ("TWIN", ("", "", "ambiguous")),
        ("MOVED", ("", "", "ambiguous")),  # one gene's former symbol, another's alias
        ("SPLIT", ("", "", "ambiguous")),
        ("GONE", ("", "", "withdrawn")),
        ("DEADEND", ("", "", "withdrawn")),
        ("1-Mar", ("", "", "date")),
        ("Sep-02", ("", "", "date")),
        ("Tp53", ("", "", "unknown")),  # a gene of the mouse
        ("nonsense", ("", "", "unknown")),
    ],
)
def test_a_name_is_resolved_or_lost_for_a_reason(symbols, name, found):
    row = locate_genes([name], symbols=symbols).iloc[0]
    assert (row.symbol, row.arm, row.how) == found


def test_losses_are_counted_and_order_is_kept(symbols):
    table = locate_genes(["TWIN", "TP53", "TWIN", "nonsense"], symbols=symbols)
    assert table.gene.tolist() == ["TWIN", "TP53", "TWIN", "nonsense"]
    assert table.how.value_counts().to_dict() == {"ambiguous": 2, "approved": 1, "unknown": 1}


def test_the_shipped_renames_are_right(shared):
    """Former symbols lay where the genes lie, in an annotation that still had them."""
    known = shipped_symbols()
    assert len(known.previous) == 26
    names = ["gene", "chrom", "start", "end"]
    old = pd.read_csv(shared("genes/hg38_gencode_v27.txt"), sep="\t", names=names, usecols=range(4))
    chromosome = old.set_index("gene").chrom.str.removeprefix("chr")
    for former in known.previous:
        symbol, how = known.resolve(former)
        assert how == "previous"
        assert former not in chromosome_arms()
        assert chromosome_arms()[symbol][:-1] == chromosome[former]


def test_what_the_package_knows_of_a_real_screen(shared):
    screen = pd.read_csv(shared("maps/HeLa_HPLM_hit_list_PCA.csv"), usecols=[0]).iloc[:, 0]
    counts = locate_genes(screen).how.value_counts()
    assert counts.sum() == len(screen)
    # The library is some years old: one gene in fourteen has another symbol now.
    assert counts.to_dict() == {"approved": 3195, "unknown": 254, "previous": 5}


def test_a_file_of_another_format_is_refused(tmp_path):
    with pytest.raises(InputError, match="found no file"):
        read_symbols(tmp_path / "none.txt")
    (tmp_path / "other.txt").write_text("Approved symbol\tStatus\nTP53\tApproved\n")
    with pytest.raises(InputError, match="found no symbol, location, alias_symbol, prev_symbol"):
        read_symbols(tmp_path / "other.txt")
