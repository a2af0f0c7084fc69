from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from phenopipe.errors import InputError
from phenopipe.genome import chromosome_arms, find_arm, unexpressed, zfpkm


def _arms_from_positions(folder: Path) -> pd.Series:
    """Arm = q where the gene's end lies past the middle of the chromosome's centromere."""
    columns = ["gene", "chrom", "start", "end"]
    genes = pd.read_csv(
        folder / "hg38_gencode_v27.txt", sep=r"\s+", names=columns, on_bad_lines="skip"
    )
    genes = genes.drop_duplicates("gene", keep=False)
    centromeres = pd.read_csv(folder / "centromeres_hg38.tsv", sep="\t").groupby("chrom")
    middle = (centromeres["chromStart"].min() + centromeres["chromEnd"].max()) / 2
    genes = genes[genes["chrom"].isin(middle.index)]
    side = np.where(genes["end"] > genes["chrom"].map(middle), "q", "p")
    return pd.Series(genes["chrom"].str.removeprefix("chr").to_numpy() + side, index=genes["gene"])


def test_arms_agree_with_gene_positions(shared):
    positions = _arms_from_positions(shared("genes"))
    arms = pd.Series(dict(chromosome_arms()))
    both = arms.index.intersection(positions.index)
    assert len(both) > 15_000
    assert (arms[both] == positions[both]).mean() > 0.995


def test_every_arm_is_a_chromosome_and_a_side():
    assert pd.Series(chromosome_arms().values()).str.fullmatch(r"(\d{1,2}|X|Y)[pq]").all()


@pytest.mark.parametrize(("gene", "arm"), [("TP53", "17p"), ("MYC", "8q"), ("XIST-not", "")])
def test_find_arm(gene, arm):
    assert find_arm(gene) == arm


def test_the_table_cannot_be_changed_by_a_caller():
    with pytest.raises(TypeError):
        chromosome_arms()["TP53"] = "1p"


@pytest.mark.parametrize("share_silent", [0.3, 0.6])
def test_zfpkm_recovers_the_expressed_peak_of_a_mixture(share_silent):
    rng = np.random.default_rng(0)
    silent = rng.normal(-6, 1.2, size=int(20_000 * share_silent))
    expressed = rng.normal(4, 2, size=20_000 - len(silent))
    x = np.concatenate([silent, expressed])
    line = np.polyfit(x, zfpkm(2**x), 1)
    assert 1 / line[0] == pytest.approx(2, rel=0.1)
    assert -line[1] / line[0] == pytest.approx(4, abs=0.25)


def test_samples_are_standardised_one_by_one():
    rng = np.random.default_rng(1)
    fpkm = 2 ** rng.normal([2, 5], [1, 2], size=(2000, 2))
    both = zfpkm(fpkm)
    assert np.array_equal(both[:, 1], zfpkm(fpkm[:, 1]))
    assert np.abs(both.mean(0)).max() < 0.2


def test_a_gene_that_was_not_seen_is_unexpressed():
    fpkm = np.append(2 ** np.random.default_rng(2).normal(4, 2, size=500), 0.0)
    assert zfpkm(fpkm)[-1] == -np.inf
    assert unexpressed(zfpkm(fpkm))[-1]


@pytest.mark.parametrize("fpkm", [[1.0, -1.0, 2.0], [1.0, np.nan, 2.0], [0.0, 0.0, 1.0]])
def test_unusable_fpkm_say_what_to_do(fpkm):
    with pytest.raises(InputError, match="expected"):
        zfpkm(fpkm)
