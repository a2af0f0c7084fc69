import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from phenopipe.benchmark import MapData, score_compounds
from phenopipe.benchmark.annotations import Annotation
from phenopipe.benchmark.compound_gene import CompoundGene, choose_genes
from tests.benchmark.screens import FAST

GENES = [f"G{i:02d}" for i in range(60)]
DOSES = (0.25, 2.5)


def draw_screen(seed=0, *, strength=2.0, compounds=6, targets=3):
    """Draw genes, and compounds at two doses of which the higher looks like its targets."""
    rng = np.random.default_rng(seed)
    genes = rng.normal(size=(60, 40))
    rows, names, doses, activities = [*genes], [""] * 60, [np.nan] * 60, []
    for number in range(compounds):
        own = slice(number * targets, (number + 1) * targets)
        for dose in DOSES:
            share = strength if dose > 1 else 0
            sign = (-1) ** number  # a compound may do the opposite of a knock-out
            rows.append(sign * share * genes[own].mean(axis=0) + 0.5 * rng.normal(size=40))
            names.append(f"drug {number}")
            doses.append(dose)
        activities += [(f"drug {number}", gene, 0.1) for gene in GENES[own]]
        activities += [(f"drug {number}", GENES[-1], 5.0)]
    activities += [("another", gene, 100.0) for gene in GENES]
    known = pd.DataFrame(activities, columns=["compound", "gene", "activity_um"])
    is_gene = np.array([*GENES, *[""] * (len(names) - 60)], dtype=object)
    return np.array(rows), np.array(names, dtype=object), np.array(doses), is_gene, known


def test_values_are_sklearns_on_the_genes_of_the_protocol():
    x, names, doses, genes, known = draw_screen()
    table = score_compounds(x, names, doses, genes, known, seed=7)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for compound, rows in table.groupby("compound"):
        own = known[known.compound == compound]
        targets, negatives = choose_genes(compound, own, GENES, seed=7)
        assert (len(targets), len(negatives)) == (3, 20)
        assert GENES[-1] not in negatives  # 5 uM is neither active nor inactive
        chosen = [GENES.index(gene) for gene in targets + negatives]
        labels = [1] * len(targets) + [0] * len(negatives)
        at = np.flatnonzero(names == compound)
        cosines = np.abs(unit[at] @ unit[chosen].T)
        measures = dict(zip(["0.25 uM", "2.5 uM"], cosines, strict=True))
        measures["max"] = cosines.max(axis=0)
        for row in rows.itertuples():
            expected = average_precision_score(labels, measures[row.dose])
            assert row.average_precision == pytest.approx(expected)
            assert row.auc == pytest.approx(roc_auc_score(labels, measures[row.dose]))
    assert table.groupby("dose").average_precision.mean()["2.5 uM"] > 0.8


@pytest.mark.parametrize(
    ("activity", "target", "negative"),
    [(1.0, True, False), (1.001, False, False), (10.0, False, False), (10.001, False, True)],
)
def test_the_limits_of_active_and_inactive(activity, target, negative):
    own = pd.DataFrame({"gene": ["G00", "G01"], "activity_um": [0.5, activity]})
    targets, negatives = choose_genes("drug", own, GENES[: 23 if target else 22], seed=0)
    assert ("G01" in targets) is target
    # All that may be drawn are few: every negative that there is is drawn or one of one.
    drawn = {gene for seed in range(40) for gene in choose_genes("drug", own, GENES, seed=seed)[1]}
    assert ("G01" in drawn) is negative
    assert len(negatives) == 20


def test_negatives_are_twice_the_targets_or_twenty_and_the_same_whatever_stands_beside():
    own = pd.DataFrame({"gene": GENES[:15], "activity_um": 0.1})
    assert len(choose_genes("drug", own, GENES, seed=0)[1]) == 30
    assert choose_genes("drug", own, GENES[:44], seed=0) is None
    assert choose_genes("drug", own.assign(activity_um=50.0), GENES, seed=0) is None
    x, names, doses, genes, known = draw_screen()
    table = score_compounds(x, names, doses, genes, known)
    few = known[~known.compound.isin(["drug 0", "drug 3"])]
    again = score_compounds(x, names, doses, genes, few)
    pd.testing.assert_frame_equal(
        again, table[~table.compound.isin(["drug 0", "drug 3"])].reset_index(drop=True)
    )


def test_the_lowest_activity_of_a_pair_counts():
    x, names, doses, genes, known = draw_screen()
    worse = pd.concat([known, known.assign(activity_um=known.activity_um * 500)])
    pd.testing.assert_frame_equal(
        score_compounds(x, names, doses, genes, worse),
        score_compounds(x, names, doses, genes, known),
    )


def make_data(strength=2.0):
    x, names, doses, genes, known = draw_screen(strength=strength)
    labels = [
        gene or f"{name} ({dose:g} uM)"
        for gene, name, dose in zip(genes, names, doses, strict=True)
    ]
    n = len(labels)
    return MapData(
        embeddings={"none": x},
        labels=np.array(labels, dtype=object),
        arms=np.full(n, "", dtype=object),
        unexpressed=np.zeros(n, dtype=bool),
        annotations=[Annotation("targets", "ab", known, "compound_genes")],
        kinds=np.where(names == "", "gene", "compound").astype(object),
        genes=genes,
        compounds=names,
        concentrations=doses,
    )


def test_a_score_a_dose_and_one_of_all_doses():
    scores = {(s.source, s.aspect): s for s in CompoundGene().score(make_data(), FAST)}
    sources = ("targets", "targets at 0.25 uM", "targets at 2.5 uM")
    assert set(scores) == {(source, aspect) for source in sources for aspect in ("ap", "auc")}
    best, weak = scores["targets at 2.5 uM", "ap"], scores["targets at 0.25 uM", "ap"]
    assert best.value > best.null_high > best.null > best.null_low
    assert best.p_value == pytest.approx(1 / 51)
    assert weak.null_low < weak.value < weak.null_high + 0.2
    assert best.low < best.value <= best.high
    assert (best.n, best.annotation_digest) == (6, "ab")
    assert scores["targets", "auc"].null == 0.5
    assert best.units.index.tolist() == [f"drug {i}" for i in range(6)]


def test_a_compound_without_an_effect_is_at_chance():
    scores = {(s.source, s.aspect): s for s in CompoundGene().score(make_data(strength=0.0), FAST)}
    found = scores["targets at 2.5 uM", "ap"]
    assert found.null_low <= found.value <= found.null_high


def test_a_source_without_the_maps_compounds_is_told(caplog):
    data = make_data()
    nowhere = data.annotations[0].table.assign(compound="elsewhere")
    other = Annotation("targets", "ab", nowhere, "compound_genes")
    assert CompoundGene().score(type(data)(**{**vars(data), "annotations": [other]}), FAST) == []
    assert "targets: no compound of the map has targets there" in caplog.text
