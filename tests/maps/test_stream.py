"""The map out of core against the same chain in memory, and the laws that it keeps."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power

from phenopipe import compute
from phenopipe.config import MapConfig
from phenopipe.errors import InputError
from phenopipe.lake import Lake, map_part
from phenopipe.maps import build_map, load_alignment, open_map
from phenopipe.maps.filters import CONSTANT, MISSING, REDUNDANT
from phenopipe.maps.wells import BROKEN, NEGATIVE
from phenopipe.plates import PlateKey
from phenopipe.profiles import open_wells
from tests.maps.screens import NEGATIVE as CONTROL
from tests.maps.screens import compound, crispr, put_qc, put_wells

WIDTH = 6
ALL = MapConfig(n_components=None, correct="none", top=2)
TREATMENTS = [
    *[crispr(gene, guide) for gene in ("TP53", "PLK1", "MYC") for guide in (1, 2)],
    compound("aspirin", 1.0),
]


def draw_batch(experiment, *, plates=2, seed=0, width=WIDTH, treatments=None):
    """Plates of one experiment with 14 controls each: key, treatments and vectors."""
    listed = [CONTROL] * 14 + (TREATMENTS if treatments is None else treatments)
    drawn = []
    for number in range(1, plates + 1):
        random = np.random.default_rng([seed, number, sum(map(ord, experiment))])
        shift, mixing = (
            random.normal(size=width) * 3,
            np.eye(width) + 0.3 * random.normal(size=(width, width)),
        )
        effects = {
            name: np.random.default_rng([1, *map(ord, name)]).normal(size=width) * 2
            for name in {one["perturbation"] for one in listed}
        }
        x = np.array([effects[one["perturbation"]] * (one != CONTROL) for one in listed])
        x = (x + random.normal(size=x.shape)) @ mixing + shift
        drawn.append((PlateKey(experiment, f"P{number}"), listed, x.astype(np.float32)))
    return drawn


def publish(lake, drawn):
    frames = [put_wells(lake, key, treatments, x) for key, treatments, x in drawn]
    return pd.concat(frames, ignore_index=True)


def align_in_memory(frame):
    """TVN as the design says it, on all wells at once; signs of components are free."""
    x = np.stack(frame["embedding"].to_list()).astype(float)
    batch, control = (
        frame["experiment"].to_numpy(),
        (frame["control_type"] == "negative").to_numpy(),
    )
    x = (x - x[control].mean(axis=0)) / x[control].std(axis=0)
    _, _, directions = np.linalg.svd(x[control] - x[control].mean(axis=0), full_matrices=False)
    x = x @ directions.T
    x = (x - x[control].mean(axis=0)) / x[control].std(axis=0)
    for name in np.unique(batch):
        covariance = np.cov(x[control & (batch == name)], rowvar=False)
        of_batch = batch == name
        x[of_batch] = x[of_batch] @ fractional_matrix_power(
            covariance + 0.5 * np.eye(len(covariance)), -0.5
        )
    return x


def map_in_memory(frame, aligned):
    """Means of guides' means, by the labels of this screen: gene, or else perturbation."""
    label = frame["gene"].where(frame["gene"] != "", frame["perturbation"])
    perturbed = (frame["control_type"] != "negative").to_numpy()
    guides = pd.DataFrame(aligned[perturbed]).groupby(
        [label[perturbed].to_numpy(), frame["guide"][perturbed].to_numpy()]
    )
    return guides.mean().groupby(level=0).mean()


def products(x):
    """Give what a turn or mirror of all rows leaves as it is."""
    x = np.asarray(x, dtype=float)
    return x @ x.T


def assert_same_map(found, expected):
    assert found["perturbation"].to_numpy().tolist() == expected["perturbation"].to_numpy().tolist()
    ours, theirs = (products(m["embedding_uncorrected"]) for m in (found, expected))
    np.testing.assert_allclose(ours, theirs, atol=1e-6 * np.abs(theirs).max())


def exclusions(dataset):
    return {item["what"]: item["count"] for item in json.loads(dataset.attrs["exclusions"])}


@pytest.fixture
def new_lake(tmp_path):
    """Make lakes beside one another."""
    names = iter(range(1000))
    return lambda: Lake(tmp_path / f"lake{next(names)}")


def build(lake, config=ALL, **options):
    build_map(lake, name="m", config=config, **options)
    return open_map(lake, "m")


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 999), plates=st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_plate_by_plate_is_all_at_once(new_lake, seed, plates):
    lake = new_lake()
    drawn = [
        plate
        for experiment, n in zip(("E1", "E2"), plates, strict=True)
        for plate in draw_batch(experiment, plates=n, seed=seed)
    ]
    frame = publish(lake, drawn)
    found = build(lake)
    aligned = align_in_memory(frame)
    expected = map_in_memory(frame, aligned)
    assert found["perturbation"].to_numpy().tolist() == expected.index.tolist()
    theirs = products(expected)
    np.testing.assert_allclose(
        products(found["embedding"]), theirs, atol=1e-6 * np.abs(theirs).max()
    )
    with open_wells(lake, "m") as wells:
        ours = products(wells.take(np.arange(len(wells))))
    theirs = products(aligned)
    np.testing.assert_allclose(ours, theirs, atol=2e-6 * np.abs(theirs).max())


def test_aligned_wells_are_kept_in_order_with_what_they_are(new_lake):
    lake = new_lake()
    frame = publish(lake, [*draw_batch("E2"), *draw_batch("E1", plates=3)])
    build(lake)
    with lake.fetched(map_part("m", "wells.parquet")) as path:
        assert pq.ParquetFile(path).num_row_groups == 5
    with open_wells(lake, "m") as wells:
        rows = wells.rows
    keys = rows[["experiment", "plate", "well"]].astype(str)
    expected = frame.sort_values(["experiment", "plate", "well"], ignore_index=True)
    pd.testing.assert_frame_equal(keys, expected[list(keys)].astype(str))
    label = expected["gene"].where(expected["gene"] != "", expected["perturbation"])
    label = label.where(expected["control_type"] != "negative", "")
    assert rows["label"].tolist() == label.tolist()
    assert rows["guide"].tolist() == expected["guide"].tolist()


def test_which_plate_of_a_batch_a_well_lies_on_does_not_matter(new_lake):
    drawn = draw_batch("E1", plates=3)
    once, turned = new_lake(), new_lake()
    publish(once, drawn)
    keys = [key for key, _, _ in drawn]
    publish(turned, [(keys[k - 1], *drawn[k][1:]) for k in (2, 0, 1)])
    assert_same_map(build(turned), build(once))


def test_one_batch_and_one_plate_are_enough(new_lake):
    lake = new_lake()
    frame = publish(lake, draw_batch("E1", plates=1))
    expected = map_in_memory(frame, align_in_memory(frame))
    np.testing.assert_allclose(products(build(lake)["embedding"]), products(expected), rtol=1e-4)


def test_controls_may_lie_on_one_plate_of_a_batch_only(new_lake):
    lake = new_lake()
    first, (key, treatments, x) = draw_batch("E1")
    publish(lake, [first, (key, treatments[14:], x[14:])])
    assert build(lake).sizes["perturbation"] == 4


def test_a_batch_without_controls_is_named(new_lake):
    lake = new_lake()
    (key, treatments, x), *_ = draw_batch("E2")
    publish(lake, [*draw_batch("E1"), (key, treatments[14:], x[14:])])
    with pytest.raises(InputError, match=r'none in E2: set control_type .* align "none"'):
        build(lake)
    assert lake.manifest(map_part("m", "map.zarr")) is None
    assert build(lake, MapConfig(align="none", correct="none")).sizes["feature"] == WIDTH


def test_an_experiment_of_controls_alone_helps_to_align_the_others(new_lake):
    lake = new_lake()
    (key, treatments, x), *_ = draw_batch("E2")
    publish(lake, [*draw_batch("E1"), (key, treatments[:14], x[:14])])
    dataset = build(lake)
    assert dataset.attrs["experiments"] == ["E1", "E2"]
    assert exclusions(dataset)[NEGATIVE] == 42


@pytest.mark.parametrize("align", ["tvn", "centerscale", "pca-centerscale", "sphering"])
def test_a_feature_that_never_varies_changes_nothing(new_lake, align):
    plain, constant = new_lake(), new_lake()
    drawn = [*draw_batch("E1"), *draw_batch("E2")]
    publish(plain, drawn)
    publish(constant, [(k, t, np.insert(x, 2, 7.5, axis=1)) for k, t, x in drawn])
    config = MapConfig(align=align, n_components=None, correct="none")
    expected = build(plain, config)
    # Alignments bear it themselves but for the shrinkage, which counts features.
    if align != "sphering":
        assert_same_map(build(constant, config), expected)
    filtered = build(constant, config.model_copy(update={"min_variance": 1e-6}))
    assert_same_map(filtered, expected)
    assert exclusions(filtered)[CONSTANT] == 1


def test_a_well_that_is_not_finite_is_as_if_it_were_not_there(new_lake):
    whole, broken = new_lake(), new_lake()
    drawn = draw_batch("E1", plates=3)
    key, treatments, x = drawn[1]
    bad = x.copy()
    bad[[0, 16], [1, 3]] = np.nan, np.inf
    publish(broken, [drawn[0], (key, treatments, bad), drawn[2]])
    kept = [k for k in range(len(x)) if k not in (0, 16)]
    publish(whole, [drawn[0], (key, [treatments[k] for k in kept], x[kept]), drawn[2]])
    found = build(broken)
    assert_same_map(found, build(whole))
    assert exclusions(found) == {BROKEN: 2, NEGATIVE: 41}
    with open_wells(broken, "m") as wells:
        assert len(wells) == 3 * 21 - 2
        assert np.isfinite(wells.take(np.arange(len(wells)))).all()


def test_a_feature_that_is_often_missing_goes_instead_of_its_wells(new_lake):
    plain, missing = new_lake(), new_lake()
    drawn = draw_batch("E1", plates=3)
    publish(plain, drawn)
    lost = [np.where(np.arange(len(x)) < 3, np.nan, 1.0) for _, _, x in drawn]
    publish(
        missing,
        [(k, t, np.column_stack([x, gone])) for (k, t, x), gone in zip(drawn, lost, strict=True)],
    )
    found = build(missing)
    assert_same_map(found, build(plain))
    assert exclusions(found) == {MISSING: 1, NEGATIVE: 42}
    kept = build(missing, MapConfig(max_missing=0.5, n_components=None, correct="none"))
    assert exclusions(kept) == {BROKEN: 9, NEGATIVE: 33}


def test_of_features_that_tell_the_same_one_is_kept_and_named(new_lake):
    lake, plain = new_lake(), new_lake()
    drawn = [*draw_batch("E1"), *draw_batch("E2")]
    publish(plain, drawn)
    names = [f"f{k}" for k in range(WIDTH)]
    for key, treatments, x in drawn:
        twice = np.column_stack([x, 3 * x[:, 4]])
        put_wells(lake, key, treatments, twice, names=json.dumps([*names, "copy"]))
    config = ALL.model_copy(update={"max_correlation": 0.99})
    found = build(lake, config)
    assert_same_map(found, build(plain))
    (told,) = [x for x in json.loads(found.attrs["exclusions"]) if x["what"] == REDUNDANT]
    assert told["count"] == 1
    assert told["why"].endswith((": copy", ": f4"))


def test_a_new_batch_is_aligned_by_what_is_kept(new_lake):
    lake = new_lake()
    drawn = [(k, t, np.insert(x, 2, 7.5, axis=1)) for k, t, x in draw_batch("E1")]
    publish(lake, drawn)
    build(lake, ALL.model_copy(update={"min_variance": 1e-6}))
    with lake.fetched(map_part("m", "alignment.zarr")) as path:
        alignment = load_alignment(path)
        kept = alignment_features(path)
    assert kept.tolist() == [0, 1, 3, 4, 5, 6]
    _, _, x = drawn[0]
    aligned = alignment.transform(x[:, kept].astype(float), batch=["E1"] * len(x))
    with open_wells(lake, "m") as wells:
        np.testing.assert_allclose(wells.take(np.arange(len(x))), aligned, atol=1e-5)


def alignment_features(path):
    import xarray as xr  # noqa: PLC0415

    with xr.open_zarr(path, consolidated=False) as stored:
        return stored["kept_feature"].to_numpy()


def test_names_that_stand_for_several_things_stay_apart(new_lake):
    lake = new_lake()
    treatments = [
        crispr("TP53", 1), crispr("TP53", 1, perturbation_type="orf"), compound("a", 1.0),
        compound("a", 5.0), crispr("TP53", 1), compound("b", 2.0),
    ]  # fmt: skip
    publish(lake, draw_batch("E1", treatments=treatments))
    dataset = build(lake)
    assert dict(zip(dataset["perturbation"].values, dataset["kind"].values, strict=True)) == {
        "TP53 (crispr)": "gene", "TP53 (orf)": "gene", "a (1 uM)": "compound",
        "a (5 uM)": "compound", "b": "compound",
    }  # fmt: skip
    assert dataset["n_wells"].values.tolist() == [4, 2, 2, 2, 2]
    np.testing.assert_array_equal(dataset["concentration_um"], [np.nan, np.nan, 1.0, 5.0, 2.0])


def test_a_cluster_gives_the_same_bytes(new_lake):
    alone, side_by_side = new_lake(), new_lake()
    for lake in (alone, side_by_side):
        publish(lake, [*draw_batch("E1", plates=4), *draw_batch("E2", plates=3)])
    build(alone)
    done = []
    with compute.client("local", workers=2) as client:
        build(side_by_side, client=client, on_progress=lambda *args: done.append(args))
    assert done == [(k, 7) for k in range(1, 8)]
    for part in ("wells.parquet", "alignment.zarr", "neighbours.parquet", "map.zarr"):
        thing = map_part("m", part)
        assert alone.manifest(thing).files == side_by_side.manifest(thing).files


@pytest.mark.parametrize("how", ["median", "tukey"])
def test_a_robust_map_bears_a_broken_well(new_lake, how):
    plain, broken = new_lake(), new_lake()
    drawn = draw_batch("E1", plates=7)
    publish(plain, drawn)
    key, treatments, x = drawn[0]
    wild = x.copy()
    wild[14:] = 1e4
    publish(broken, [(key, treatments, wild), *drawn[1:]])

    def change(config):
        one, other = (build(lake, config)["embedding"].to_numpy() for lake in (plain, broken))
        return np.abs(one - other).max() / np.abs(one).max()

    assert change(ALL.model_copy(update={"aggregate": how})) < 1
    assert change(ALL) > 10


def test_guides_that_disagree_are_left_out_if_asked_for(new_lake):
    lake = new_lake()
    genes = [f"G{k:02d}" for k in range(20)]
    treatments = [crispr(gene, guide) for gene in genes for guide in range(4)]
    own = np.random.default_rng(3).normal(size=(20, 24)) * 3
    x = np.repeat(own, 4, axis=0)
    x[6] = -x[4]  # the third guide of G01
    drawn = []
    for number in (1, 2):
        noise = np.random.default_rng(number).normal(size=(110, 24))
        placed = np.vstack([np.zeros((30, 24)), x]) + noise
        drawn.append((PlateKey("E1", f"P{number}"), [CONTROL] * 30 + treatments, placed))
    publish(lake, drawn)
    every = build(lake)
    assert every.attrs["guides"].endswith("20 perturbations agree (FDR 5%); 1 guides disagree with "
                                          "the others")  # fmt: skip
    assert "guides that disagree with their gene" not in exclusions(every)
    agreeing = build(lake, ALL.model_copy(update={"guides": "agreeing"}))
    assert exclusions(agreeing)["guides that disagree with their gene"] == 1
    assert agreeing["n_guides"].values.tolist() == [4, 3] + [4] * 18
    # What was measured of all guides is told of both.
    np.testing.assert_array_equal(agreeing["agreement"], every["agreement"])
    assert every["agreement"].to_numpy().argmin() == 1
    np.testing.assert_array_equal(
        agreeing["embedding"].drop_sel(perturbation="G01"),
        every["embedding"].drop_sel(perturbation="G01"),
    )


def test_wells_with_few_cells_are_left_out_and_the_map_has_another_key(new_lake):
    lake = new_lake()
    drawn = draw_batch("E1")
    publish(lake, drawn)
    before = build_map(lake, name="m", config=ALL)
    for key, treatments, _ in drawn:
        wells = [f"{'AB'[k // 12]}{k % 12 + 1:02d}" for k in range(len(treatments))]
        put_qc(lake, key, {well: ("pass", (3 if k == 15 else 90,)) for k, well in enumerate(wells)})
    asked = build_map(lake, name="m", config=ALL.model_copy(update={"min_cells": 50}))
    assert asked.computed
    assert asked.key != before.key
    assert asked.counts["wells"] == before.counts["wells"] - 2
    assert exclusions(open_map(lake, "m"))["wells with too few cells"] == 2


def test_a_screen_that_is_all_filtered_out_says_by_what(new_lake):
    lake = new_lake()
    (key, treatments, x), *_ = draw_batch("E1")
    x[:, 0] = np.nan
    publish(lake, [(key, treatments, x)])
    with pytest.raises(InputError, match=r"found none among 21 \(21 wells with a vector"):
        build(lake, MapConfig(max_missing=1.0))
