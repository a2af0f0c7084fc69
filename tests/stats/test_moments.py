import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from phenopipe.errors import InputError
from phenopipe.stats import Moments

offsets = st.sampled_from([0.0, 1e3, -1e6])


def rows(n, d=3, *, offset=0.0, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)) + offset


def assert_same(found, expected, *, rtol=1e-9):
    assert found.count == expected.count
    scale = np.abs(expected.scatter).max() + 1e-12
    np.testing.assert_allclose(found.mean, expected.mean, rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(found.scatter, expected.scatter, rtol=rtol, atol=rtol * scale)


@settings(deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(2, 20), st.integers(1, 4)),
              elements=st.floats(-1e3, 1e3, width=32)))  # fmt: skip
def test_moments_are_numpys_mean_and_covariance(x):
    moments = Moments.of(x)
    atol = 1e-9 * (1 + np.abs(x).max()) ** 2
    np.testing.assert_allclose(moments.mean, x.mean(axis=0), atol=1e-9)
    for ddof in (0, 1):
        expected = np.atleast_2d(np.cov(x, rowvar=False, ddof=ddof))
        np.testing.assert_allclose(moments.covariance(ddof=ddof), expected, atol=atol)


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(1, 49), offset=offsets)
def test_moments_of_two_parts_add_up_to_the_whole_far_from_zero_too(cut, offset):
    x = rows(50, offset=offset)
    merged = Moments.of(x[:cut]) + Moments.of(x[cut:])
    np.testing.assert_allclose(merged.mean, x.mean(axis=0))
    expected = np.cov(x, rowvar=False, ddof=1)
    np.testing.assert_allclose(merged.covariance(ddof=1), expected, rtol=1e-8, atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(1, 59), unique=True), order=st.randoms(), offset=offsets)
def test_the_order_in_which_chunks_are_added_does_not_matter(cuts, order, offset):
    x = rows(60, offset=offset)
    chunks = [Moments.of(part) for part in np.split(x, sorted(cuts))]
    order.shuffle(chunks)
    merged = chunks[0]
    for chunk in chunks[1:]:
        merged += chunk
    assert_same(merged, Moments.of(x), rtol=1e-8)


@settings(max_examples=20, deadline=None)
@given(seeds=st.tuples(*[st.integers(0, 999)] * 3), sizes=st.tuples(*[st.integers(1, 30)] * 3))
def test_adding_is_commutative_and_associative(seeds, sizes):
    a, b, c = (Moments.of(rows(size, seed=seed)) for size, seed in zip(sizes, seeds, strict=True))
    assert_same(a + b, b + a)
    assert_same((a + b) + c, a + (b + c))


def test_many_rows_are_taken_in_blocks_and_come_out_the_same():
    x = rows(10_000, 5, offset=100)
    moments = Moments.of(x)
    np.testing.assert_allclose(moments.covariance(ddof=1), np.cov(x, rowvar=False), rtol=1e-10)


def test_float32_rows_are_added_up_in_float64():
    x = rows(5000, offset=1000).astype(np.float32)
    assert_same(Moments.of(x), Moments.of(x.astype(np.float64)), rtol=1e-14)


def test_torch_tensors_have_the_moments_of_their_array():
    torch = pytest.importorskip("torch")
    x = rows(50).astype(np.float32)
    assert_same(Moments.of(torch.from_numpy(x)), Moments.of(x), rtol=1e-12)


def test_a_column_that_only_rounding_varies_has_no_deviation():
    x = np.column_stack([np.full(300, 0.1), np.full(300, 1e8 / 3), np.arange(300)])
    parts = [Moments.of(part) for part in np.array_split(x, 7)]
    merged = sum(parts[1:], start=parts[0])
    np.testing.assert_allclose(merged.deviations(), [0, 0, np.arange(300).std()])


def test_bad_input_is_named():
    with pytest.raises(InputError, match="1 row or more"):
        Moments.of(np.empty((0, 3)))
    with pytest.raises(InputError, match=r"NaN or infinity in 1 of 2 rows, the first at row 1"):
        Moments.of([[1.0], [np.inf]])
    with pytest.raises(InputError, match="of 3 features to add, found 2"):
        Moments.of(rows(4)) + Moments.of(rows(4, 2))
