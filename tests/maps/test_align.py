import numpy as np
import pandas as pd
import pytest
from scipy.linalg import fractional_matrix_power
from screens import cosines, draw_screen

from phenopipe.maps import TVN, CenterScale, PCACenterScale


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tvn_agrees_with_efaar_benchmarking(shared, dtype):
    folder = shared("reference/efaar")
    x = np.load(folder / "in.npz")["x"].astype(dtype)
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


def test_a_feature_constant_among_controls_becomes_0():
    x = np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 4.0], [5.0, 3.0]])
    aligned = CenterScale().fit(x, control=[True, True, True, False]).transform(x)
    assert (aligned[:, 0] == 0).all()
