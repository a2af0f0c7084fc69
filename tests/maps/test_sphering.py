import numpy as np
import pandas as pd
import pytest
from screens import cosines, draw_screen

from phenopipe.errors import InputError
from phenopipe.maps import Sphering

METHODS = {"zca": "ZCA", "zca-cor": "ZCA-cor", "pca": "PCA", "pca-cor": "PCA-cor"}


@pytest.mark.parametrize(("ours", "theirs"), METHODS.items())
def test_sphering_over_all_is_pycytominers_spherize(ours, theirs):
    operations = pytest.importorskip("pycytominer.operations")
    x, _, control = draw_screen()
    peer = operations.Spherize(method=theirs, epsilon=0, return_numpy=True)
    expected = peer.fit(pd.DataFrame(x[control])).transform(pd.DataFrame(x))
    sphered = Sphering(None, method=ours, regularisation=1e-12).fit(x, control=control).transform(x)
    if ours.startswith("pca"):  # up to the sign of a component
        sphered, expected = np.abs(sphered), np.abs(expected)
    np.testing.assert_allclose(sphered, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", ["zca", "zca-cor"])
def test_each_batch_is_sphered_as_pycytominer_does_it_alone(method):
    operations = pytest.importorskip("pycytominer.operations")
    x, batch, control = draw_screen()
    sphering = Sphering(None, method=method, regularisation=1e-12)
    sphered = sphering.fit(x, batch=batch, control=control).transform(x, batch=batch)
    for label in np.unique(batch):
        rows = batch == label
        peer = operations.Spherize(method=METHODS[method], epsilon=0, return_numpy=True)
        peer.fit(pd.DataFrame(x[rows & control]))
        expected = peer.transform(pd.DataFrame(x[rows]))
        np.testing.assert_allclose(sphered[rows], expected, rtol=1e-6, atol=1e-6)


def test_oas_whitens_the_covariance_that_scikit_learn_estimates():
    covariance = pytest.importorskip("sklearn.covariance")
    x, batch, control = draw_screen(n=90, d=20)  # 15 controls a batch or so
    sphering = Sphering(None, method="zca").fit(x, batch=batch, control=control)
    for label in np.unique(batch):
        rows = batch == label
        controls = x[rows & control]
        shrunk, _ = covariance.oas(controls)
        values, vectors = np.linalg.eigh(shrunk * len(controls) / (len(controls) - 1))
        expected = (x[rows] - controls.mean(axis=0)) @ (vectors / np.sqrt(values)) @ vectors.T
        np.testing.assert_allclose(
            sphering.transform(x[rows], batch=batch[rows]), expected, rtol=1e-7, atol=1e-7
        )


@pytest.mark.parametrize("suffix", ["", "-cor"])
def test_zca_and_pca_have_the_same_cosines_across_batches(suffix):
    x, batch, control = draw_screen()
    zca, pca = (
        Sphering(None, method=method + suffix).fit(x, batch=batch, control=control)
        for method in ("zca", "pca")
    )
    np.testing.assert_allclose(
        cosines(zca.transform(x, batch=batch)), cosines(pca.transform(x, batch=batch)), atol=1e-9
    )


def test_pca_drops_components_and_zca_turns_back_what_is_left():
    x, batch, control = draw_screen()
    zca, pca = (
        Sphering(3, method=method).fit(x, batch=batch, control=control).transform(x, batch=batch)
        for method in ("zca", "pca")
    )
    assert (zca.shape, pca.shape) == ((300, 6), (300, 3))
    assert np.linalg.matrix_rank(zca) == 3
    np.testing.assert_allclose(cosines(zca), cosines(pca), atol=1e-9)


def test_few_controls_do_not_blow_up_what_they_say_nothing_of():
    x = np.random.default_rng(0).normal(size=(4000, 100))  # whitening has nothing to do
    control = np.arange(4000) < 80

    def spread(sphering):
        return sphering.fit(x, control=control).transform(x)[~control].var(axis=0)

    assert spread(Sphering(None, method="pca", regularisation=1e-6)).max() > 50
    for n_components in ("auto", None):
        assert (spread(Sphering(n_components, method="pca")) > 0.2).all()
        assert (spread(Sphering(n_components, method="pca")) < 2).all()


@pytest.mark.parametrize(("asked", "kept"), [(None, 9), ("auto", 5), (30, 9), (3, 3)])
def test_a_fixed_regularisation_needs_more_controls_than_components(asked, kept):
    x = np.random.default_rng(0).normal(size=(320, 40))
    batch = np.where(np.arange(320) < 20, "small", "large")
    control = np.arange(320) % 2 == 0
    fitted = Sphering(asked, regularisation=1e-6).fit(x, batch=batch, control=control)
    assert fitted.n_components_ == kept
    assert ("fewest controls has 10" in fitted.cap) == (asked != 3)


def test_what_sphering_cannot_do_is_told():
    x, batch, control = draw_screen()
    with pytest.raises(InputError, match="found 'cholesky'"):
        Sphering(method="cholesky")
    for wrong in (0, -1, "ledoit", np.nan):
        with pytest.raises(InputError, match=r'a number above 0 or "oas"'):
            Sphering(regularisation=wrong)
    x[batch == "1"] = 5.0
    with pytest.raises(InputError, match=r"a batch of \d+ that are all alike"):
        Sphering().fit(x, batch=batch, control=control)
