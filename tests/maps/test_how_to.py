"""The how-to on proximity bias runs as it stands, on a screen whose arms share a phenotype."""

import numpy as np
import pandas as pd
import pytest

from phenopipe.genome import chromosome_arms
from tests.pages import read_blocks

HOW_TO = "proximity-bias.md"
ARMS = ("1p", "2q", "8p", "17p")


@pytest.fixture
def screen(tmp_path, monkeypatch):
    """Draw 4 arms of 120 genes, half silent; what a cut loses is less towards the telomere."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(7)
    genes, arms, starts = [], np.repeat(ARMS, 120), np.tile(np.arange(120), len(ARMS))
    for arm in ARMS:
        genes += [gene for gene, found in chromosome_arms().items() if found == arm][:120]
    silent = rng.random(len(genes)) < 0.5
    lost = np.where(arms == "2q", 1 - starts / 120, starts / 120) * 2
    of_arm = rng.normal(size=(len(ARMS), 16))[pd.factorize(arms)[0]]
    own = rng.normal(size=(len(genes), 16)) * np.where(silent, 0.7, 1)[:, None]
    genes[0] = "1-Mar"
    index = pd.Index(genes, name="gene")
    pd.DataFrame(own + of_arm * lost[:, None], index=index).to_csv("profiles.csv")
    log_tpm = np.where(silent, rng.normal(-7, 1, len(genes)), rng.normal(4, 2, len(genes)))
    tpm = 2 ** (log_tpm[:, None] + rng.normal(0, 0.1, (len(genes), 2)))
    pd.DataFrame(tpm, index=index, columns=["tpm_rep1", "tpm_rep2"]).to_csv("expression.csv")
    chrom = np.char.add("chr", np.char.rstrip(arms, "pq"))
    starts = starts + np.where(arms == "2q", 1000, 0)
    positions = pd.DataFrame({"gene": genes, "chrom": chrom, "start": starts, "end": starts + 1})
    positions.to_csv("positions.tsv", sep="\t", index=False)
    centromeres = {"chrom": np.unique(chrom), "chromStart": 400, "chromEnd": 600}
    pd.DataFrame(centromeres).to_csv("centromeres.tsv", sep="\t", index=False)
    return silent


def test_the_how_to_runs_and_the_bias_falls(screen):
    names = {}
    for code in [text for language, text in read_blocks(HOW_TO) if language == "python"]:
        exec(code, names)  # noqa: S102, our own page
    assert names["genes"].how.value_counts().to_dict() == {"approved": 479, "date": 1}
    assert names["arms"].tolist() == np.repeat(ARMS, 120).tolist()
    assert (names["silent"] == screen).mean() > 0.98
    assert (names["along"].high < -0.2).all()
    genome = {name: table.loc["genome"] for name, table in names["table"].items()}
    assert genome["before"].low > 0.6
    assert genome["after"].probability < genome["before"].low
    assert names["left"].empty
    held_back = [scores.probability["genome"] for scores in names["held_back_scores"]]
    assert held_back[1] < held_back[0] - 0.1
