import numpy as np
import pyarrow as pa
import pytest

from phenopipe.errors import InputError
from phenopipe.maps.edges import EDGES, find_edges
from phenopipe.maps.relations import top_neighbours

KINDS = np.array(["gene", "gene", "compound"])[np.arange(90) % 3]
NAMES = [f"{kind[0].upper()}{i:02d}" for i, kind in enumerate(KINDS)]


def draw():
    """Ninety unrelated ones; ten share a direction, and five show its opposite."""
    x = np.random.default_rng(3).normal(size=(90, 40))
    x[:10] += 2
    x[10:15] -= 2
    return x


def collect(**asked):
    return pa.concat_tables([EDGES.empty_table(), *find_edges(draw(), NAMES, kinds=KINDS, **asked)])


@pytest.mark.parametrize("max_fdr", [0.01, 0.2, 1.0])
def test_edges_are_the_neighbours_with_that_rate_each_pair_once(max_fdr):
    edges = collect(max_fdr=max_fdr).to_pandas()
    every = top_neighbours(draw(), NAMES, kinds=KINDS, top=90).to_pandas()
    every = every[(every.side == "alike") & (every.fdr <= max_fdr)]
    gene_first = every.perturbation.str.startswith("G") | every.neighbour.str.startswith("C")
    by_name = (every.perturbation < every.neighbour) | (every.relation == "gene-compound")
    expected = every[gene_first & by_name].sort_values(["relation", "perturbation", "neighbour"])
    edges = edges.sort_values(["relation", "perturbation", "neighbour"])
    assert len(edges) > 20
    assert edges.to_numpy().tolist() == expected[EDGES.names].to_numpy().tolist()


def test_opposites_are_edges_too():
    edges = collect(max_fdr=0.05).to_pandas()
    assert (edges.cosine > 0.5).sum() > 20
    assert (edges.cosine < -0.5).sum() > 20


def test_blocks_do_not_matter():
    whole, parts = collect(max_fdr=0.1), collect(max_fdr=0.1, block=7)
    exact = ["perturbation", "neighbour", "relation", "cosine"]
    assert parts.select(exact) == whole.select(exact)
    np.testing.assert_allclose(parts["fdr"], whole["fdr"], rtol=5e-3)


@pytest.mark.parametrize("max_fdr", [0, -1, 1.5])
def test_a_rate_that_is_none_is_refused(max_fdr):
    with pytest.raises(InputError, match="over 0 and at most 1"):
        collect(max_fdr=max_fdr)
