from collections import Counter

import numpy as np
import pytest

from phenopipe.errors import InputError
from phenopipe.genome import find_arm
from phenopipe.plates import PLATE_SHAPES
from phenopipe.simulate.library import list_genes, list_perturbations, place_wells


@pytest.mark.parametrize("wells", [96, 384])
def test_every_gene_lies_on_its_real_arm(wells):
    assert all(gene.arm == find_arm(gene.symbol) for gene in list_genes(wells))


def test_each_arm_has_more_silent_genes_than_arm_correction_asks_for():
    silent = Counter(gene.arm for gene in list_genes(384) if gene.unexpressed)
    assert len(silent) == 4
    assert min(silent.values()) > 20


def test_silent_genes_are_silent_in_u2os(shared):
    pandas = pytest.importorskip("pandas")
    table = pandas.read_csv(shared("genes/Recursion_U2OS_expression_data.csv.gz"))
    mean = table.groupby("gene")["zfpkm"].mean()
    genes = list_genes(384)
    assert all((mean[gene.symbol] < -3) == gene.unexpressed for gene in genes)


@pytest.mark.parametrize("wells", [96, 384])
def test_pathways_spread_over_arms(wells):
    arms: dict[str, set[str]] = {}
    for gene in list_genes(wells):
        if gene.pathway:
            arms.setdefault(gene.pathway, set()).add(gene.arm)
    assert len(arms) >= 4
    assert min(map(len, arms.values())) >= 3


@pytest.mark.parametrize("wells", [96, 384])
def test_a_plate_is_full_and_each_gene_has_two_guides(wells):
    perturbations = list_perturbations(wells)
    assert len(perturbations) == wells
    guides = Counter(p.gene for p in perturbations if p.gene and not p.control_type)
    assert set(guides.values()) == {2}
    assert {p.control_type for p in perturbations} == {"", "negative", "positive"}


def test_controls_lie_at_the_edge_too():
    rows, columns = PLATE_SHAPES[384]
    placed = place_wells(list_perturbations(384), np.random.default_rng(0))
    controls = [well for well, p in placed.items() if p.control_type == "negative"]
    at_edge = [w for w in controls if w.row in (0, rows - 1) or w.column in (0, columns - 1)]
    assert len(controls) >= 32
    assert len(at_edge) >= 3


def test_other_plates_are_refused():
    with pytest.raises(InputError, match="96 or 384 wells, found 24"):
        list_genes(24)
