import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power

from phenopipe.maps.whitening import inverse_root, oas_shrinkage, principal_components


def draw_covariance(n, d, seed=0):
    return np.cov(
        np.random.default_rng(seed).normal(size=(n, d)) * np.arange(1, d + 1), rowvar=False
    )


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 40), d=st.integers(2, 12), ridge=st.sampled_from([1e-3, 0.5, 10.0]))
def test_the_inverse_root_is_scipys_power_with_few_rows_and_with_many(n, d, ridge):
    covariance = draw_covariance(n, d)
    expected = fractional_matrix_power(covariance + ridge * np.eye(d), -0.5)
    np.testing.assert_allclose(inverse_root(covariance, ridge=ridge), expected, atol=1e-7)


def test_the_inverse_root_holds_up_at_the_size_of_real_embeddings():
    covariance = draw_covariance(64, 384)
    root = inverse_root(covariance, ridge=0.5)
    np.testing.assert_array_equal(root, root.T)
    back = root @ (covariance + 0.5 * np.eye(384)) @ root
    np.testing.assert_allclose(back, np.eye(384), atol=1e-8)


def test_no_covariance_leaves_the_ridge():
    np.testing.assert_allclose(inverse_root(np.zeros((3, 3)), ridge=4.0), np.eye(3) / 2)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 60), d=st.integers(2, 12), seed=st.integers(0, 99))
def test_oas_shrinkage_is_that_of_scikit_learn(n, d, seed):
    covariance = pytest.importorskip("sklearn.covariance")
    x = np.random.default_rng(seed).normal(size=(n, d)) * np.arange(1, d + 1)
    _, expected = covariance.oas(x)
    assert oas_shrinkage(np.cov(x, rowvar=False), n) == pytest.approx(expected, rel=1e-9)


def test_principal_components_are_numpys_with_the_largest_loading_positive():
    x = np.random.default_rng(0).normal(size=(50, 5))
    x -= x.mean(axis=0)
    variances, loadings = principal_components(np.cov(x, rowvar=False))
    _, singular, expected = np.linalg.svd(x)
    np.testing.assert_allclose(variances, singular**2 / 49)
    np.testing.assert_allclose(np.abs(loadings), np.abs(expected.T), atol=1e-9)
    assert (loadings[np.abs(loadings).argmax(axis=0), np.arange(5)] > 0).all()
