import gzip

import numpy as np
import pandas as pd
import pytest

from phenopipe.errors import InputError
from phenopipe.genome import read_expression, unexpressed, zfpkm


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


@pytest.fixture
def fpkm():
    """Draw two samples of 800 genes; the last is not seen in the first."""
    values = 2 ** np.random.default_rng(3).normal([3, 4], [2, 1.5], size=(800, 2))
    values[-1, 0] = 0
    genes = pd.Index([f"G{i}" for i in range(800)], name="gene")
    return pd.DataFrame(values, index=genes, columns=["fpkm_1", "fpkm_2"])


def expect(fpkm):
    levels = zfpkm(fpkm.to_numpy())
    levels[-1, 0] = levels[:-1, 0].min()
    return dict(zip(fpkm.index, levels.mean(axis=1), strict=True))


def test_fpkm_becomes_zfpkm_sample_by_sample(fpkm, tmp_path):
    fpkm.to_csv(tmp_path / "table.csv")
    assert read_expression(tmp_path / "table.csv") == pytest.approx(expect(fpkm))


def test_tpm_gives_what_fpkm_gives(fpkm, tmp_path):
    tpm = (fpkm / fpkm.sum() * 1e6).rename(columns=lambda name: name.replace("fpkm", "TPM"))
    tpm.to_csv(tmp_path / "table.tsv.gz", sep="\t")
    assert read_expression(tmp_path / "table.tsv.gz") == pytest.approx(expect(fpkm))


def test_a_long_table_is_that_of_its_samples(fpkm, tmp_path):
    long = fpkm.reset_index().melt("gene", var_name="sample", value_name="fpkm")
    long.sample(frac=1, random_state=0).to_csv(tmp_path / "long.csv", index=False)
    assert read_expression(tmp_path / "long.csv") == pytest.approx(expect(fpkm))
    pd.concat([long, long[:1]]).to_csv(tmp_path / "twice.csv", index=False)
    with pytest.raises(InputError, match="found G0 twice in fpkm_1"):
        read_expression(tmp_path / "twice.csv")


def test_a_unit_that_is_not_told_is_asked_for(fpkm, tmp_path):
    path = tmp_path / "table.csv"
    fpkm.set_axis(["rep1", "rep2"], axis=1).to_csv(path)
    with pytest.raises(InputError, match="found rep1, rep2: name the columns so, or say which"):
        read_expression(path)
    assert read_expression(path, unit="tpm") == pytest.approx(expect(fpkm))
    with pytest.raises(InputError, match="expected one of zfpkm, fpkm, tpm as unit, found 'rpkm'"):
        read_expression(path, unit="rpkm")


def test_units_that_contradict_are_refused(fpkm, tmp_path):
    fpkm.to_csv(tmp_path / "table.csv")
    with pytest.raises(InputError, match=r"expected tpm in .*, found columns named fpkm_1, fpkm_2"):
        read_expression(tmp_path / "table.csv", unit="tpm")
    fpkm.set_axis(["fpkm_1", "tpm_1"], axis=1).to_csv(tmp_path / "mixed.csv")
    with pytest.raises(InputError, match="and one of these, found fpkm_1, tpm_1"):
        read_expression(tmp_path / "mixed.csv")


def test_logarithms_are_not_taken_for_fpkm(fpkm, tmp_path):
    np.log2(fpkm + 1e-3).to_csv(tmp_path / "table.csv")
    with pytest.raises(InputError, match=r"expected fpkm of 0 or more .* not its logarithm"):
        read_expression(tmp_path / "table.csv")


def test_zfpkm_is_taken_as_it_is_and_averaged(tmp_path):
    path = tmp_path / "levels.csv.gz"
    path.write_bytes(gzip.compress(b"gene,zfpkm,note\nA,-4,x\nB,1,\nA,-3,y\nC,,z\nNA,2,\n"))
    assert read_expression(path) == {"A": -3.5, "B": 1.0}
    (tmp_path / "text.csv").write_text("gene,zfpkm\nA,low\n")
    with pytest.raises(InputError, match=r"expected numbers as zfpkm in .*, found 'low'"):
        read_expression(tmp_path / "text.csv")


def test_the_table_of_u2os_is_read_as_published(shared):
    path = shared("genes/Recursion_U2OS_expression_data.csv.gz")
    levels = read_expression(path)
    assert len(levels) == 19_696
    table = pd.read_csv(path, keep_default_na=False)
    silent = set(table.groupby("gene").zfpkm.mean().loc[lambda mean: mean < -3].index)
    assert {gene for gene, level in levels.items() if level < -3} == silent
    assert len(silent) > 4_000


def test_a_table_without_genes_is_refused(tmp_path):
    with pytest.raises(InputError, match="found no file"):
        read_expression(tmp_path / "none.csv")
    (tmp_path / "table.csv").write_text("symbol,zfpkm\nA,1\n")
    with pytest.raises(InputError, match="expected a column gene and columns of values"):
        read_expression(tmp_path / "table.csv")


def test_rows_without_a_gene_are_left_out_and_those_of_one_gene_averaged(tmp_path):
    (tmp_path / "table.csv").write_text("gene,zfpkm_1,zfpkm_2\nA,1,3\nB,5,\n,7,7\nA,5,7\n")
    assert read_expression(tmp_path / "table.csv") == {"A": 4.0, "B": 5.0}
