import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phenopipe.maps import aggregate
from phenopipe.maps.aggregate import (
    Profiles,
    aggregate_guides,
    aggregate_perturbations,
    biweight,
    name_kinds,
    name_perturbations,
)
from tests.maps.screens import NEGATIVE, compound, crispr, opened_wells

TEXTS = ["perturbation", "perturbation_type", "gene", "guide", "compound", "control_type"]


def label_wells(*treatments):
    """Wells with the label that the map gives them, as a list of dicts."""
    frame = pd.DataFrame(treatments).reindex(columns=[*TEXTS, "concentration_um"])
    frame[TEXTS] = frame[TEXTS].astype(object).where(frame[TEXTS].notna(), "")
    label = name_perturbations(frame).where(frame["control_type"] != "negative", "")
    frame["concentration_um"] = frame["concentration_um"].astype(object)
    frame = frame.where(frame.notna(), None)
    return frame.assign(label=label).to_dict("records")


def aggregated(folder, wells, x, how="mean", *, plates=1):
    with opened_wells(folder, wells, np.asarray(x, np.float32), plates=plates) as opened:
        guides = aggregate_guides(opened, how)
    return guides, aggregate_perturbations(guides, how)


def test_a_guide_with_many_wells_weighs_no_more(tmp_path):
    wells = label_wells(*[crispr("TP53", 1)] * 3, crispr("TP53", 2), NEGATIVE)
    _, found = aggregated(tmp_path, wells, [[1.0], [2.0], [3.0], [4.0], [99.0]])
    assert found.values.tolist() == [[((1 + 2 + 3) / 3 + 4) / 2]]
    assert found.rows[["label", "n_wells", "n_guides"]].values.tolist() == [["TP53", 4, 2]]


def test_what_is_known_of_a_perturbation(tmp_path):
    wells = label_wells(
        compound("aspirin", 1.0, gene="PTGS2"),
        compound("aspirin", 10.0, gene="PTGS2"),
        crispr("TP53", 1),
        {"perturbation": "mock", "perturbation_type": "control", "control_type": "positive"},
        crispr("PLK1", 1),
        crispr("PLK1", 2, perturbation_type="control", control_type="positive"),
    )
    _, found = aggregated(tmp_path, wells, np.ones((6, 2)))
    rows = found.rows.drop(columns="concentration_um").set_index("label")
    assert rows.to_dict("index") == {
        "PLK1": {"gene": "PLK1", "kind": "gene", "compound": "", "n_wells": 2, "n_guides": 2},
        "TP53": {"gene": "TP53", "kind": "gene", "compound": "", "n_wells": 1, "n_guides": 1},
        "aspirin (1 uM)": {"gene": "", "kind": "compound", "compound": "aspirin", "n_wells": 1,
                           "n_guides": 0},
        "aspirin (10 uM)": {"gene": "", "kind": "compound", "compound": "aspirin", "n_wells": 1,
                            "n_guides": 0},
        "mock": {"gene": "", "kind": "control", "compound": "", "n_wells": 1, "n_guides": 0},
    }  # fmt: skip
    np.testing.assert_array_equal(found.rows["concentration_um"], [np.nan, np.nan, 1, 10, np.nan])


def test_a_gene_goes_by_its_symbol_and_all_else_by_the_platemaps_name():
    wells = label_wells(
        crispr("TP53", 1),
        compound("aspirin", 1.0, gene="PTGS2"),
        {"perturbation": "mock", "perturbation_type": "control", "control_type": "positive"},
    )
    assert [well["label"] for well in wells] == ["TP53", "aspirin", "mock"]


def test_doses_and_types_under_one_name_stay_apart():
    wells = label_wells(
        compound("aspirin", 1.0),
        compound("aspirin", 10.0),
        compound("ibuprofen", 5.0),
        crispr("TP53", 1),
        crispr("TP53", 1, perturbation_type="orf"),
        crispr("PLK1", 1),
        crispr("PLK1", 1, perturbation_type="control", control_type="positive"),
    )
    assert [well["label"] for well in wells] == [
        "aspirin (1 uM)", "aspirin (10 uM)", "ibuprofen", "TP53 (crispr)", "TP53 (orf)",
        "PLK1", "PLK1",
    ]  # fmt: skip


def test_a_gene_with_a_compound_on_top_is_neither_of_both(tmp_path):
    wells = label_wells(
        crispr("TP53", 1, compound="dmso"),
        crispr("TP53", 1, compound="nutlin", concentration_um=1.0),
        crispr("TP53", 2, compound="nutlin", concentration_um=10.0),
        crispr("MDM2", 1, compound="nutlin", concentration_um=10.0),
        crispr("MDM2", 1, perturbation_type="orf"),
        compound("nutlin", 10.0, gene="MDM2"),
    )
    assert [well["label"] for well in wells] == [
        "TP53", "TP53 + nutlin (1 uM)", "TP53 + nutlin (10 uM)", "MDM2 (crispr) + nutlin",
        "MDM2 (orf)", "nutlin",
    ]  # fmt: skip
    _, found = aggregated(tmp_path, wells, np.arange(6.0)[:, None])
    columns = ["label", "gene", "kind", "compound", "concentration_um"]
    both = found.rows.loc[found.rows["label"].str.contains(r"\+"), columns]
    assert both.values.tolist() == [
        ["MDM2 (crispr) + nutlin", "", "gene + compound", "nutlin", 10.0],
        ["TP53 + nutlin (1 uM)", "", "gene + compound", "nutlin", 1.0],
        ["TP53 + nutlin (10 uM)", "", "gene + compound", "nutlin", 10.0],
    ]
    alone = dict(zip(found.rows["label"], found.values[:, 0], strict=True))
    assert alone["TP53"] == 0.0, "what the compound does is not the gene's"


def test_what_has_no_type_is_of_another_kind():
    rows = pd.DataFrame({"gene": ["", ""], "compound": ["", "aspirin"]})
    assert name_kinds(rows.assign(perturbation_type="")).tolist() == ["other", "compound"]


CENTRES = {
    "mean": lambda x: x.mean(axis=0),
    "median": lambda x: np.median(x, axis=0),
    "tukey": biweight,
}


@pytest.mark.parametrize("how", CENTRES)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    picks=st.lists(st.integers(0, 8), min_size=1, max_size=40),
    plates=st.integers(1, 4),
    block=st.integers(1, 50),
)
def test_groups_out_of_core_are_pandas_groups(tmp_path, how, picks, plates, block):
    genes = ["B", "A", "C"]
    wells = label_wells(*[crispr(genes[k // 3], k % 3) for k in picks], NEGATIVE)
    x = np.random.default_rng(len(picks)).normal(size=(len(wells), 2)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregate, "_BLOCK_WELLS", block)
        guides, genes_found = aggregated(tmp_path, wells, x, how, plates=plates)

    frame = pd.DataFrame(wells).iloc[:-1]
    by_guide = frame.groupby(["label", "guide"])
    centres = {key: CENTRES[how](x[rows].astype(float)) for key, rows in by_guide.indices.items()}
    assert list(zip(guides.rows["label"], guides.rows["guide"], strict=True)) == sorted(centres)
    np.testing.assert_allclose(guides.values, [centres[key] for key in sorted(centres)], atol=1e-12)
    assert guides.rows["n_wells"].tolist() == by_guide.size().tolist()

    labels = sorted({label for label, _ in centres})
    expected = [
        CENTRES[how](np.array([centres[key] for key in sorted(centres) if key[0] == label]))
        for label in labels
    ]
    assert genes_found.rows["label"].tolist() == labels
    np.testing.assert_allclose(genes_found.values, expected, atol=1e-12)


def by_hand(x):
    """Tukey's biweight of one column, term by term."""
    middle = np.median(x)
    spread = np.median([abs(value - middle) for value in x])
    if not spread:
        return middle
    terms = [((value - middle) / (6 * spread), value - middle) for value in x]
    weighted = [((1 - u**2) ** 2, away) for u, away in terms if abs(u) < 1]
    return middle + sum(w * away for w, away in weighted) / sum(w for w, _ in weighted)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30))
def test_the_biweight_is_its_formula(x):
    column = np.array(x)[:, None]
    np.testing.assert_allclose(biweight(column)[0], by_hand(x), rtol=1e-9, atol=1e-9)


def test_the_biweight_is_astropys():
    x = [[0.12, 13.44, -0.42], [1.5, -0.29, -17.37], [-8.64, -1.35, -0.91], [0.34, -0.35, -0.76],
         [1.4, -0.5, -0.34], [-1.78, -0.14, 0.23], [-0.59, 2.0, -1.19]]  # fmt: skip
    # What astropy.stats.biweight_location (8.0.2) answers, and on [1, 2, 3, 100].
    expected = [0.18082232025346212, -0.3407731644970402, -0.6019993678479676]
    np.testing.assert_allclose(biweight(x), expected, rtol=1e-12)
    assert biweight([[1.0], [2.0], [3.0], [100.0]]) == pytest.approx(2.0376164944268726, rel=1e-12)


def test_a_broken_well_moves_the_mean_and_no_robust_centre(tmp_path):
    wells = label_wells(*[crispr("TP53", 1)] * 9)
    x = np.random.default_rng(0).normal(size=(9, 3))
    clean = {how: aggregated(tmp_path, wells, x, how)[1].values for how in CENTRES}
    x[4] = 1e6
    broken = {how: aggregated(tmp_path, wells, x, how)[1].values for how in CENTRES}
    assert np.abs(broken["mean"] - clean["mean"]).min() > 1e5
    assert np.abs(broken["median"] - clean["median"]).max() < 1
    assert np.abs(broken["tukey"] - clean["tukey"]).max() < 1


def test_profiles_are_selected_by_a_mask():
    profiles = Profiles(pd.DataFrame({"label": list("abc")}), np.arange(3.0)[:, None])
    kept = profiles.select(np.array([True, False, True]))
    assert kept.rows["label"].to_dict() == {0: "a", 1: "c"}
    assert kept.values.tolist() == [[0.0], [2.0]]
