import gzip
import re
from pathlib import Path

import pandas as pd
import pytest

import phenopipe
from phenopipe.errors import InputError
from phenopipe.genome import arm_of_locus, arms_from_positions, chromosome_arms, find_arm


def read_positions(shared):
    names = ["gene", "chrom", "start", "end"]
    genes = pd.read_csv(
        shared("genes/hg38_gencode_v27.txt"), sep="\t", names=names, usecols=range(4)
    )
    centromeres = pd.read_csv(shared("genes/centromeres_hg38.tsv"), sep="\t")
    return arms_from_positions(genes, centromeres)


def test_positions_and_loci_agree_on_nearly_every_gene(shared):
    positions = read_positions(shared)
    arms = pd.Series(dict(chromosome_arms()))
    both = arms.index.intersection(positions.index[positions != ""])
    assert len(both) > 30_000
    assert (arms[both] == positions[both]).mean() > 0.9975


def test_the_shipped_table_is_that_of_the_loci_of_hgnc(shared):
    table = pd.read_csv(
        shared("genes/gene_chromosome_map.tsv"), sep="\t", keep_default_na=False, dtype=str
    ).set_index("Approved_symbol")
    # Read otherwise: all arms that a locus names, the chromosome before it or HGNC's column.
    simple = table[table.Locus.str.fullmatch(r"(\d+|X|Y)[pq][\d.]*(-[pq][\d.]*)?")]
    sides = simple.Locus.str.findall("[pq]").map(set)
    expected = (simple.Chromosome + sides.map("".join))[sides.map(len) == 1]
    of_symbol = expected.groupby(level=0)  # LHFPL4 stands on two arms
    expected = of_symbol.first()[of_symbol.nunique() == 1]
    shipped = pd.Series(dict(chromosome_arms()))
    assert shipped[expected.index].to_dict() == expected.to_dict()
    # What is left names its arm in a longer way.
    rest = table.Locus[table.index.isin(shipped.index.difference(expected.index))]
    assert len(rest) < 200
    assert rest.str.contains("ter|reference|and|or|-").all()


def test_every_arm_is_a_chromosome_and_a_side():
    assert pd.Series(chromosome_arms().values()).str.fullmatch(r"(\d{1,2}|X|Y)[pq]").all()


def test_the_readme_counts_the_shipped_genes():
    data = Path(phenopipe.__file__).parent / "data"
    lines = gzip.decompress((data / "gene_arms.tsv.gz").read_bytes()).decode().splitlines()
    count = len([line for line in lines if not line.startswith("#")]) - 1
    assert len(chromosome_arms()) == count
    assert f"{count:,} genes" in (data / "README.md").read_text()


@pytest.mark.parametrize(
    ("locus", "arm"),
    [
        ("19q13.43", "19q"), ("Yp11.2", "Yp"), ("6p", "6p"), ("22q11.2-qter", "22q"),
        ("1pter-p36.13", "1p"), ("11p15.5-p15.4", "11p"), ("3q21-3q22", "3q"),
        ("6p21.3 alternate reference locus", "6p"), ("12p13 not on reference assembly", "12p"),
        ("Xp22.33 and Yp11.32", ""), ("2p11-q11", ""), ("3 or 11p11-qter", ""), ("12", ""),
        ("mitochondria", ""), ("reserved", ""), ("unplaced", ""), ("HSCHR6_MHC_COXp21.33", ""),
        ("2cen-q13", ""), ("", ""),
    ],
)  # fmt: skip
def test_a_locus_names_one_arm_or_none(locus, arm):
    assert arm_of_locus(locus) == arm


@pytest.mark.parametrize(("gene", "arm"), [("TP53", "17p"), ("MYC", "8q"), ("XIST-not", "")])
def test_find_arm(gene, arm):
    assert find_arm(gene) == arm


def test_the_table_cannot_be_changed_by_a_caller():
    with pytest.raises(TypeError):
        chromosome_arms()["TP53"] = "1p"


CENTROMERES = pd.DataFrame(
    [("chr1", 40, 50), ("chr1", 50, 60), ("chrX", 10, 20), ("chrY", 10, 20)],
    columns=["chrom", "chromStart", "chromEnd"],
)


def test_a_gene_across_the_middle_is_on_q_and_one_on_two_arms_on_none():
    rows = [
        ("at", "chr1", 40, 50), ("past", "1", 40, 51), ("twice", "chrX", 1, 2),
        ("twice", "chrY", 1, 2), ("parts", "chr1", 60, 70), ("parts", "chr1", 80, 90),
        ("M", "chrM", 1, 2),
    ]  # fmt: skip
    genes = pd.DataFrame(rows, columns=["gene", "chrom", "start", "end"])
    assert arms_from_positions(genes, CENTROMERES).to_dict() == {
        "at": "1p", "past": "1q", "twice": "", "parts": "1q", "M": "",
    }  # fmt: skip


def test_positions_that_cannot_be_used_say_why():
    genes = pd.DataFrame({"gene": ["A"], "chrom": ["chr1"], "start": [1], "end": ["x"]})
    with pytest.raises(InputError, match="base pairs as end in gene positions, found 'x' in row 0"):
        arms_from_positions(genes, CENTROMERES)
    with pytest.raises(InputError, match=re.escape("expected columns gene, chrom, start, end")):
        arms_from_positions(genes.drop(columns="start"), CENTROMERES)
