import numpy as np
import pytest

from phenopipe.errors import InputError
from phenopipe.lake import Lake
from phenopipe.maps.query import query_map
from phenopipe.schema import NEIGHBOURS
from tests.maps.published import publish_map

GENES = [f"GENE{i:02d}" for i in range(30)]
COMPOUNDS = ["aspirin", "Taxol", "taxol", "DMSO-like"]
NAMES = GENES + COMPOUNDS
KINDS = ["gene"] * 30 + ["compound"] * 4
X = np.random.default_rng(0).normal(size=(34, 6))


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    lake = Lake(tmp_path_factory.mktemp("query"))
    publish_map(lake, "demo", X, NAMES, kinds=KINDS, top=5)
    return lake


def rank_by_hand(name, *, among=NAMES, sign=1):
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    cosines = dict(zip(NAMES, unit @ unit[NAMES.index(name)], strict=True))
    return sorted((n for n in among if n != name), key=lambda n: -sign * cosines[n])


def test_neighbours_of_any_kind_are_ranked_together(lake):
    found = query_map(lake, "demo", "GENE03", top=5)
    assert found.schema == NEIGHBOURS
    assert found["neighbour"].to_pylist() == rank_by_hand("GENE03")[:5]
    assert found["rank"].to_pylist() == [1, 2, 3, 4, 5]


def test_a_relation_is_asked_for_in_either_order(lake):
    for relation in ("gene-compound", "compound-gene"):
        found = query_map(lake, "demo", "GENE03", top=3, relation=relation)
        assert found["neighbour"].to_pylist() == rank_by_hand("GENE03", among=COMPOUNDS)[:3]
    found = query_map(lake, "demo", "aspirin", top=3, relation="gene-compound")
    assert found["neighbour"].to_pylist() == rank_by_hand("aspirin", among=GENES)[:3]


def test_the_most_opposite_come_with_the_lowest_cosine_first(lake):
    found = query_map(lake, "demo", "GENE03", top=4, side="opposite")
    assert found["neighbour"].to_pylist() == rank_by_hand("GENE03", sign=-1)[:4]
    assert np.all(np.diff(found["cosine"]) >= 0)


def test_no_more_are_told_than_are_known_to_be_the_nearest(lake):
    """Five of each relation are kept: what is sixth of all may not be among them."""
    found = query_map(lake, "demo", "GENE03", top=50)
    assert found["neighbour"].to_pylist() == rank_by_hand("GENE03")[:5]


def test_a_name_is_found_in_upper_or_lower_case(lake):
    found = query_map(lake, "demo", "gene03", top=1)
    assert found["perturbation"].to_pylist() == ["GENE03"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"perturbation": "GENE3"}, "closest names are GENE"),
        ({"perturbation": "TAXOL"}, "closest names are Taxol, taxol"),
        ({"perturbation": "xyz"}, "none that is close"),
        ({"perturbation": "GENE01", "relation": "gene-orf"}, "gene-compound or gene-gene, found"),
        ({"perturbation": "GENE01", "name": "other"}, "phenopipe map"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(lake, asked, said):
    with pytest.raises(InputError, match=said):
        query_map(lake, **{"name": "demo", **asked})
