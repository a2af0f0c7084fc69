import logging

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power

from phenopipe.errors import InputError
from phenopipe.maps import TVN, CenterScale, PCACenterScale
from phenopipe.maps.align import control_moments, from_dataset
from phenopipe.stats import Moments

KINDS = [CenterScale, PCACenterScale, TVN]


def draw_screen(*, n=300, d=6, seed=0):
    """Three batches, each shifted and stretched its own way; every third well is a control."""
    random = np.random.default_rng(seed)
    batch = np.arange(n) % 3
    mixing = random.normal(size=(3, d, d))
    x = np.einsum("ni,nij->nj", random.normal(size=(n, d)), mixing[batch])
    x += 10 * random.normal(size=(3, d))[batch] + 100
    return x, batch.astype(str), random.permutation(np.arange(n) % 2 == 0)


def cosines(x):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit @ unit.T


def test_tvn_agrees_with_efaar_benchmarking(shared):
    folder = shared("reference/efaar")
    x = np.load(folder / "in.npz")["x"]
    expected = np.load(folder / "out.npz")["tvn"].astype(np.float64)
    metadata = pd.read_parquet(folder / "md.parquet")
    batch, control = metadata["batch"].to_numpy(), (metadata["gene"] == "NTC").to_numpy()

    aligned = TVN(n_components=None).fit(x, batch=batch, control=control).transform(x, batch=batch)

    difference = np.abs(cosines(aligned[: len(expected)]) - cosines(expected))
    assert difference.mean() < 1e-6
    assert difference.max() < 1e-5  # the reference was computed in float32


def test_tvn_is_its_formula_written_out():
    x, batch, control = draw_screen()
    z = (x - x[control].mean(axis=0)) / x[control].std(axis=0)
    # Whitened controls have no preferred rotation but that of their components: take numpy's SVD.
    _, singular, loadings = np.linalg.svd(z[control], full_matrices=False)
    z = z @ loadings.T / (singular / np.sqrt(control.sum()))
    for label in np.unique(batch):
        rows = batch == label
        covariance = np.cov(z[rows & control], rowvar=False, ddof=1)
        z[rows] = z[rows] @ fractional_matrix_power(covariance + 0.5 * np.eye(6), -0.5)

    aligned = TVN().fit(x, batch=batch, control=control).transform(x, batch=batch)

    np.testing.assert_allclose(aligned @ aligned.T, z @ z.T, rtol=1e-8, atol=1e-8)


def test_after_tvn_a_batchs_controls_have_covariance_c_over_c_plus_half():
    x, batch, control = draw_screen()
    whole = TVN().fit(x, control=control)
    aligned = whole.transform(x)[control]
    n = control.sum()
    expected = (n / (n - 1)) / (n / (n - 1) + 0.5)  # without batches C is the identity, ddof 1
    np.testing.assert_allclose(np.cov(aligned, rowvar=False), expected * np.eye(6), atol=1e-9)

    per_batch = TVN().fit(x, batch=batch, control=control).transform(x, batch=batch)
    for label in np.unique(batch):
        found = np.linalg.eigvalsh(np.cov(per_batch[control & (batch == label)], rowvar=False))
        assert (found > 0).all()
        assert (found < 1).all()


@pytest.mark.parametrize("kind", [CenterScale, PCACenterScale])
def test_controls_of_each_batch_have_mean_0_and_deviation_1(kind):
    x, batch, control = draw_screen()
    aligned = kind().fit(x, batch=batch, control=control).transform(x, batch=batch)
    for label in np.unique(batch):
        rows = aligned[control & (batch == label)]
        np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(rows.std(axis=0), 1, atol=1e-9)


def test_centerscale_over_all_is_numpys():
    x, _, control = draw_screen()
    expected = (x - x[control].mean(axis=0)) / x[control].std(axis=0)
    aligned = CenterScale().fit(x, control=control).transform(x)
    np.testing.assert_allclose(aligned, expected, rtol=1e-9, atol=1e-9)


def test_a_batchs_shift_and_stretch_are_gone_after_alignment():
    random = np.random.default_rng(3)
    controls, effect = random.normal(size=(400, 6)), random.normal(size=(20, 6))
    one = np.concatenate([controls, effect])
    x = np.concatenate([one, 3 * one + 40])  # the same wells, imaged otherwise
    batch = np.repeat(["a", "b"], 420)
    control = np.tile(np.arange(420) < 400, 2)
    aligned = CenterScale().fit(x, batch=batch, control=control).transform(x, batch=batch)
    np.testing.assert_allclose(aligned[:420], aligned[420:], atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(kind, seed):
    x, batch, control = draw_screen(n=90, d=4)
    order = np.random.default_rng(seed).permutation(len(x))
    once = kind().fit(x, batch=batch, control=control)
    again = kind().fit(x[order], batch=batch[order], control=control[order])
    np.testing.assert_allclose(
        again.transform(x, batch=batch), once.transform(x, batch=batch), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(cut=st.integers(10, 80))
def test_moments_of_chunks_fit_as_the_whole(kind, cut):
    x, batch, control = draw_screen(n=90, d=4)
    halves = [
        control_moments(x[rows], batch=batch[rows], control=control[rows])
        for rows in (slice(0, cut), slice(cut, None))
        if set(batch[rows][control[rows]]) == {"0", "1", "2"}
    ]
    if len(halves) < 2:
        return
    chunked = kind().fit_moments({label: halves[0][label] + halves[1][label] for label in "012"})
    whole = kind().fit(x, batch=batch, control=control)
    np.testing.assert_allclose(
        chunked.transform(x, batch=batch), whole.transform(x, batch=batch), rtol=1e-8, atol=1e-8
    )


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(1, 49), offset=st.sampled_from([0, 1e3, 1e6]))
def test_moments_add_up_far_from_zero_too(cut, offset):
    x = np.random.default_rng(1).normal(size=(50, 3)) + offset
    merged = Moments.of(x[:cut]) + Moments.of(x[cut:])
    np.testing.assert_allclose(merged.mean, x.mean(axis=0))
    np.testing.assert_allclose(
        merged.covariance(ddof=1), np.cov(x, rowvar=False, ddof=1), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("kind", KINDS)
def test_unseen_rows_are_aligned_one_by_one(kind):
    x, batch, control = draw_screen()
    fitted = kind().fit(x[:200], batch=batch[:200], control=control[:200])
    together = fitted.transform(x[200:], batch=batch[200:])
    alone = [fitted.transform(x[[i]], batch=batch[[i]])[0] for i in range(200, 300)]
    np.testing.assert_allclose(together, alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_alignment_is_the_same_and_takes_a_new_batch(kind, tmp_path):
    x, batch, control = draw_screen()
    first = batch != "2"
    fitted = kind().fit(x[first], batch=batch[first], control=control[first])
    fitted.to_dataset().to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    loaded = from_dataset(xr.open_zarr(tmp_path / "a.zarr", consolidated=False))
    before = fitted.transform(x[first], batch=batch[first])
    np.testing.assert_array_equal(loaded.transform(x[first], batch=batch[first]), before)

    new = control_moments(x[~first], batch=batch[~first], control=control[~first])
    joined = loaded.join(new)
    assert joined.batches == ("0", "1", "2")
    np.testing.assert_array_equal(joined.transform(x[first], batch=batch[first]), before)
    aligned = joined.transform(x[~first], batch=batch[~first])[control[~first]]
    if kind is not TVN:
        np.testing.assert_allclose(aligned.std(axis=0), 1)
    assert np.isfinite(aligned).all()


def test_auto_keeps_no_more_than_half_the_smallest_batchs_controls_and_says_so(caplog):
    x, _, control = draw_screen(n=60, d=40)
    batch = np.where(np.arange(60) < 20, "small", "large")
    control = np.arange(60) % 2 == 0
    with caplog.at_level(logging.WARNING):
        fitted = TVN("auto").fit(x, batch=batch, control=control)
    assert fitted.n_components_ == 5
    assert "5 of 40 components kept" in caplog.text
    assert "has 10" in fitted.cap
    assert fitted.transform(x, batch=batch).shape == (60, 5)


def test_all_components_are_those_in_which_controls_vary():
    x, batch, control = draw_screen()
    twin_and_constant = np.column_stack([x, x[:, 0], np.full(len(x), 0.1)])
    fitted = TVN().fit(twin_and_constant, batch=batch, control=control)
    assert fitted.n_components_ == 6
    assert np.isfinite(fitted.transform(twin_and_constant, batch=batch)).all()


def test_a_feature_constant_among_controls_becomes_0():
    x = np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 4.0], [5.0, 3.0]])
    aligned = CenterScale().fit(x, control=[True, True, True, False]).transform(x)
    assert (aligned[:, 0] == 0).all()


def test_bad_input_is_named():
    x, batch, control = draw_screen()
    with pytest.raises(InputError, match=r"none in '2'"):
        TVN().fit(x, batch=batch, control=control & (batch != "2"))
    holed = x.copy()
    holed[[3, 9], 0] = np.nan
    with pytest.raises(InputError, match="2 of 300 rows"):
        TVN().fit(holed, batch=batch, control=control)
    fitted = TVN().fit(x, batch=batch, control=control)
    with pytest.raises(InputError, match=r"\(0, 1, 2\), found '7'"):
        fitted.transform(x, batch=np.full(300, "7"))
    with pytest.raises(InputError, match="6 features as fitted, found 5"):
        fitted.transform(x[:, :5], batch=batch)
    with pytest.raises(InputError, match="2 negative controls or more in batch '0', found 1"):
        TVN().fit(x[:3], batch=batch[:3], control=[True, True, True])
    with pytest.raises(InputError, match="all alike"):
        TVN().fit(np.ones((6, 2)), control=np.ones(6, bool))
