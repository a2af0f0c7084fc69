"""How alignments treat real profiles of few controls: CPJUMP1, four plates, 64 DMSO wells each."""

import numpy as np
import pandas as pd
import pytest

from phenopipe.maps import TVN, PCACenterScale, Sphering


@pytest.fixture(scope="module")
def plates(shared):
    """Profiles (normalised to DMSO by their makers), plate, DMSO flag and treatment of wells."""
    files = sorted(shared("maps/cpjump1").glob("*.csv.gz"))
    wells = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    features = [name for name in wells if not name.startswith("Metadata_")]
    treatment = wells["Metadata_broad_sample"].where(wells["Metadata_pert_type"] == "trt", "")
    return (
        wells[features].to_numpy(),
        wells["Metadata_Plate"].to_numpy(str),
        (wells["Metadata_control_type"] == "negcon").to_numpy(),
        treatment.to_numpy(str),
    )


@pytest.fixture(scope="module")
def raw(plates):
    x, _, _, treatment = plates
    return consistent_share(x, treatment)


def align(alignment, plates, *, by_plate):
    x, plate, control, treatment = plates
    batch = plate if by_plate else None
    aligned = alignment.fit(x, batch=batch, control=control).transform(x, batch=batch)
    return consistent_share(aligned, treatment)


@pytest.mark.parametrize("by_plate", [True, False])
@pytest.mark.parametrize("kind", [TVN, PCACenterScale, Sphering])
def test_auto_leaves_compounds_as_consistent_as_they_were(kind, by_plate, plates, raw):
    assert raw == pytest.approx(0.815, abs=0.01)
    # All controls as one batch support twice the components, of which the least cost more.
    assert align(kind("auto"), plates, by_plate=by_plate) > raw - (0.05 if by_plate else 0.2)


def test_more_components_than_controls_support_cost_consistency(plates, raw):
    auto, hundred, everything = (align(TVN(n), plates, by_plate=True) for n in ("auto", 100, None))
    assert auto == pytest.approx(0.781, abs=0.01)
    assert hundred == pytest.approx(0.62, abs=0.04)
    assert everything == pytest.approx(0.52, abs=0.04)
    assert raw > auto > hundred > everything


def consistent_share(x, treatment, *, n_null=2000):
    """Share of treatments whose replicates' mean cosine is beyond 95% of sets of other wells."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    groups = pd.Series(np.flatnonzero(treatment != "")).groupby(treatment[treatment != ""])
    replicates = [rows.to_numpy() for _, rows in groups if len(rows) > 1]
    random = np.random.default_rng(0)
    treated, size = np.concatenate(replicates), int(np.median([len(rows) for rows in replicates]))
    draws = (random.choice(treated, size, replace=False) for _ in range(n_null))
    null = [mean_cosine(unit[rows]) for rows in draws if len(set(treatment[rows])) == size]
    return np.mean([mean_cosine(unit[rows]) > np.quantile(null, 0.95) for rows in replicates])


def mean_cosine(unit):
    pairs = np.triu_indices(len(unit), 1)
    return (unit @ unit.T)[pairs].mean()
