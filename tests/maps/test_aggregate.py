import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phenopipe.errors import InputError
from phenopipe.maps.aggregate import (
    Profiles,
    average_groups,
    average_guides,
    average_perturbations,
    average_wells,
    name_perturbations,
    split_wells,
)
from phenopipe.schema import embeddings_schema

BLANK = {
    "perturbation": "", "perturbation_type": "", "gene": "", "guide": "", "compound": "",
    "smiles": "", "concentration_um": None, "control_type": "",
}  # fmt: skip


def crispr(gene, guide, **more):
    return {"perturbation": f"{gene}_{guide}", "perturbation_type": "crispr", "gene": gene,
            "guide": guide, **more}  # fmt: skip


def compound(name, dose, **more):
    return {"perturbation": name, "perturbation_type": "compound", "compound": name,
            "concentration_um": dose, **more}  # fmt: skip


def make_wells(*treatments):
    rows = [
        {"experiment": "E", "plate": "P", "well": f"A{i:02d}"} | BLANK | treatment
        for i, treatment in enumerate(treatments, start=1)
    ]
    return Profiles(pd.DataFrame(rows), np.arange(1.0, len(rows) + 1)[:, None])


def test_wells_are_means_of_their_crops():
    x = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    wells = ["A01"] * 4 + ["B03"] * 3
    rows = [
        {"experiment": "E", "plate": "P", "well": well, "field": 1, "y": 0, "x": i, **BLANK,
         "embedding": vector.tolist()}
        for i, (well, vector) in enumerate(zip(wells, x, strict=True))
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=embeddings_schema(3))
    found = average_wells(table, where="here")
    assert found.rows["well"].tolist() == ["A01", "B03"]
    expected = [x[:4].mean(axis=0, dtype=float), x[4:].mean(axis=0, dtype=float)]
    np.testing.assert_allclose(found.values, expected)

    rows[5]["embedding"] = [0.0, float("nan"), 1.0]
    table = pa.Table.from_pylist(rows, schema=embeddings_schema(3))
    with pytest.raises(InputError, match=r"1 of 7 rows \(wells B03\)"):
        average_wells(table, where="here")


def test_a_table_of_fields_averages_like_one_of_crops():
    rows = [
        {"experiment": "E", "plate": "P", "well": "A01", "field": field, **BLANK,
         "embedding": [field, 0.0]}
        for field in (1, 4)
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=embeddings_schema(2, per="field"))
    assert average_wells(table, where="here").values.tolist() == [[2.5, 0.0]]


def test_a_guide_with_many_wells_weighs_no_more():
    wells = make_wells(*[crispr("TP53", "g1")] * 3, crispr("TP53", "g2"))
    found = average_perturbations(average_guides(name_perturbations(wells)))
    assert found.values.tolist() == [[((1 + 2 + 3) / 3 + 4) / 2]]
    assert found.rows[["label", "n_wells", "n_guides"]].values.tolist() == [["TP53", 4, 2]]


def test_a_gene_goes_by_its_symbol_and_all_else_by_the_platemaps_name():
    wells = make_wells(
        crispr("TP53", "g1"),
        compound("aspirin", 1.0, gene="PTGS2"),
        {"perturbation": "mock", "perturbation_type": "control", "control_type": "positive"},
    )
    rows = name_perturbations(wells).rows
    assert rows["label"].tolist() == ["TP53", "aspirin", "mock"]
    assert rows["gene"].tolist() == ["TP53", "", ""]  # a compound's target was not perturbed


def test_doses_and_types_under_one_name_stay_apart():
    wells = make_wells(
        compound("aspirin", 1.0),
        compound("aspirin", 10.0),
        compound("ibuprofen", 5.0),
        crispr("TP53", "g1"),
        crispr("TP53", "", perturbation_type="orf"),
        crispr("PLK1", "g1"),
        crispr("PLK1", "g1", perturbation_type="control", control_type="positive"),
    )
    labels = name_perturbations(wells).rows["label"].tolist()
    assert labels == [
        "aspirin (1 uM)", "aspirin (10 uM)", "ibuprofen", "TP53 (crispr)", "TP53 (orf)",
        "PLK1", "PLK1",
    ]  # fmt: skip


def test_what_is_left_out_is_counted():
    wells = make_wells(
        crispr("TP53", "g1"),
        {},
        {"perturbation_type": "empty"},
        {"perturbation_type": "compound"},
        crispr("NTC", "n1", control_type="negative"),
        crispr("NTC", "n2", control_type="negative"),
        crispr("PLK1", "g1", control_type="positive"),
    )
    controls, perturbed, exclusions = split_wells(wells)
    assert controls.rows["guide"].tolist() == ["n1", "n2"]
    assert perturbed.rows["gene"].tolist() == ["TP53", "PLK1"]
    assert [(item["what"], item["count"]) for item in exclusions] == [
        ("wells without a platemap row", 1),
        ("empty wells", 1),
        ("wells without a perturbation's name", 1),
        ("negative control wells", 2),
    ]
    assert len(controls.rows) + len(perturbed.rows) + 3 == len(wells.rows)


@settings(max_examples=30, deadline=None)
@given(labels=st.lists(st.sampled_from("abcd"), min_size=1, max_size=40))
def test_group_means_are_pandas(labels):
    x = np.random.default_rng(0).normal(size=(len(labels), 2))
    found = average_groups(Profiles(pd.DataFrame({"label": labels}), x), ["label"])
    expected = pd.DataFrame(x).groupby(labels).mean()
    assert found.rows["label"].tolist() == expected.index.tolist()
    np.testing.assert_allclose(found.values, expected.to_numpy(), atol=1e-12)
