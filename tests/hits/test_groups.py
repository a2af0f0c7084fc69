import numpy as np
import pytest

from phenopipe.hits.groups import describe_wells, list_groups, read_groups
from tests.hits.screens import NEGATIVE, compound, draw_wells, knock_out, open_drawn

SCREEN = [
    (NEGATIVE, 0.0),
    (knock_out("TP53"), 0.0),
    (knock_out("TP53", compound="DMSO", concentration_um=0.1), 0.0),
    (knock_out("TP53", compound="nutlin", concentration_um=1.0), 0.0),
    (knock_out("TP53", compound="nutlin", concentration_um=10.0), 0.0),
    (compound("nutlin", 1.0, gene="MDM2"), 0.0),
    (compound("nutlin", 10.0, gene="MDM2"), 0.0),
    (compound("aspirin"), 0.0),
]


@pytest.fixture
def drawn(tmp_path):
    with open_drawn(tmp_path / "wells.parquet", *draw_wells(SCREEN)) as wells:
        yield wells, describe_wells(wells.rows, vehicles=["dmso"])


def test_a_group_is_a_gene_a_compound_or_both_at_one_dose(drawn):
    _, facts = drawn
    found = [(g.kind, g.gene, g.compound, g.concentration_um, len(g.wells))
             for g in list_groups(facts)]  # fmt: skip
    named = [
        ("gene", "TP53", "", 8),
        ("gene + compound", "TP53", "nutlin", 4),
        ("gene + compound", "TP53", "nutlin", 4),
        ("compound", "", "aspirin", 4),
        ("compound", "", "nutlin", 4),
        ("compound", "", "nutlin", 4),
    ]
    assert [(kind, gene, name, n) for kind, gene, name, _, n in found] == named
    np.testing.assert_array_equal([g[3] for g in found], [np.nan, 1, 10, np.nan, 1, 10])


def test_a_compounds_gene_is_its_target(drawn):
    _, facts = drawn
    told = facts[facts["compound"] == "nutlin"].groupby("kind")[["gene", "target"]].first()
    assert told.to_dict("index") == {
        "compound": {"gene": "", "target": "MDM2"},
        "gene + compound": {"gene": "TP53", "target": ""},
    }


@pytest.mark.parametrize("limit", [1, 9, 1000])
def test_groups_are_read_in_blocks_of_any_size(drawn, limit):
    wells, facts = drawn
    groups = list_groups(facts)
    for group, values in read_groups(wells, groups, limit=limit):
        np.testing.assert_array_equal(values, wells.take(group.wells))
    assert sum(1 for _ in read_groups(wells, groups, limit=limit)) == len(groups)


def test_a_groups_seed_does_not_depend_on_the_others(drawn):
    _, facts = drawn
    groups = list_groups(facts)
    alone = list_groups(facts[facts["compound"] == "aspirin"])
    assert alone[0].seed(3) == groups[3].seed(3)
    assert len({tuple(group.seed(3)) for group in groups}) == len(groups)
