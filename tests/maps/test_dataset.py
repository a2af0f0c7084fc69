import json

import numpy as np
import pandas as pd

from phenopipe.config import MapConfig
from phenopipe.genome import chromosome_arms
from phenopipe.maps import correct_arms
from phenopipe.maps.aggregate import Profiles
from phenopipe.maps.dataset import make_dataset
from phenopipe.maps.guides import check_guides
from phenopipe.schema import check_map

ON_4Q = [gene for gene, arm in sorted(chromosome_arms().items()) if arm == "4q"][:8]


def make(genes, levels, **config):
    x = np.random.default_rng(0).normal(size=(len(genes), 3))
    rows = pd.DataFrame(
        {
            "label": [gene or f"drug {k}" for k, gene in enumerate(genes)],
            "gene": genes,
            "kind": ["gene" if gene else "compound" for gene in genes],
            "compound": ["" if gene else f"drug {k}" for k, gene in enumerate(genes)],
            "concentration_um": [np.nan if gene else 1.0 for gene in genes],
            "n_wells": 4,
            "n_guides": [2 if gene else 0 for gene in genes],
        }
    )
    agreement = check_guides(Profiles(rows.assign(guide=""), x))
    dataset = make_dataset(Profiles(rows, x), agreement, levels, MapConfig(**config))
    return check_map(dataset, where="here"), x.astype(np.float32)


def test_a_gene_by_an_older_name_is_on_its_arm_and_counted():
    genes = ["MARCH1", "TP53", "nonsense", "1-Mar", ""]
    dataset, _ = make(genes, {})
    assert dataset["arm"].to_numpy().tolist() == ["4q", "17p", "", "", ""]
    assert dataset["gene"].to_numpy().tolist() == genes  # names stay the screen's
    assert json.loads(dataset.attrs["symbols"]) == {
        "approved": 1, "date": 1, "previous": 1, "unknown": 1
    }  # fmt: skip


def test_expression_is_found_by_the_screens_name_or_the_approved_one():
    dataset, _ = make(["MARCH1", "SEPT9", "TP53"], {"MARCHF1": -5.0, "SEPT9": -4.0, "TP53": 2.0})
    assert dataset["unexpressed"].to_numpy().tolist() == [True, True, False]


def test_arms_are_corrected_by_their_silent_genes_and_others_stay():
    genes = [*ON_4Q, "TP53", ""]
    levels = dict.fromkeys(ON_4Q[:5], -4.0)
    dataset, x = make(genes, levels, min_reference=4)
    arms = ["4q"] * 8 + ["17p", ""]
    silent = np.arange(10) < 5
    np.testing.assert_array_equal(dataset["embedding"], correct_arms(x, arms, silent, 4))
    np.testing.assert_array_equal(dataset["embedding_uncorrected"], x)
    told = {row["arm"]: row["why"] for row in json.loads(dataset.attrs["arms"])}
    assert told == {"4q": "", "17p": "0 unexpressed genes, needs more than 4"}


def test_without_expression_it_is_said_of_each_arm():
    dataset, _ = make(["TP53", *ON_4Q], {})
    why = {row["why"] for row in json.loads(dataset.attrs["arms"])}
    assert why == {"no gene's expression is known"}
