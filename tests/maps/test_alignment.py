"""What holds for every kind of alignment."""

import logging
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from screens import draw_screen

from phenopipe.errors import InputError
from phenopipe.maps import TVN, CenterScale, PCACenterScale, Sphering, load_alignment
from phenopipe.maps.align import ALIGNMENTS, add_moments, control_moments, from_dataset

KINDS = [CenterScale, PCACenterScale, TVN, Sphering]
each_kind = pytest.mark.parametrize("kind", KINDS)


def fit(kind, *, n=300, d=6):
    x, batch, control = draw_screen(n=n, d=d)
    return kind().fit(x, batch=batch, control=control), x, batch


def test_each_kind_is_known_by_its_name():
    assert list(ALIGNMENTS.values()) == [CenterScale, PCACenterScale, TVN, Sphering]


@each_kind
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(kind, seed):
    x, batch, control = draw_screen(n=90, d=4)
    order = np.random.default_rng(seed).permutation(len(x))
    once = kind().fit(x, batch=batch, control=control).transform(x, batch=batch)
    again = kind().fit(x[order], batch=batch[order], control=control[order])
    np.testing.assert_allclose(again.transform(x, batch=batch), once, rtol=1e-8, atol=1e-8)
    shuffled = again.transform(x[order], batch=batch[order])
    np.testing.assert_allclose(shuffled, once[order], rtol=1e-8, atol=1e-8)


@each_kind
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, 89), unique=True), order=st.randoms())
def test_chunks_in_any_order_fit_as_the_whole(kind, cuts, order):
    x, batch, control = draw_screen(n=90, d=4)
    chunks = np.split(np.arange(90), sorted(cuts))
    order.shuffle(chunks)
    chunked = kind()
    for rows in chunks:
        chunked.partial_fit(x[rows], batch=batch[rows], control=control[rows])
    whole = kind().fit(x, batch=batch, control=control)
    aligned = whole.transform(x, batch=batch)
    np.testing.assert_allclose(chunked.transform(x, batch=batch), aligned, rtol=1e-6, atol=1e-6)
    assert (chunked.batches, chunked.cap) == (whole.batches, whole.cap)


@each_kind
def test_moments_that_were_added_up_fit_as_the_whole(kind):
    x, batch, control = draw_screen()
    halves = [
        control_moments(x[rows], batch=batch[rows], control=control[rows])
        for rows in (slice(0, 120), slice(120, None))
    ]
    added = kind().fit_moments(add_moments(*halves)).transform(x, batch=batch)
    whole = kind().fit(x, batch=batch, control=control).transform(x, batch=batch)
    np.testing.assert_allclose(added, whole, rtol=1e-8, atol=1e-8)


@each_kind
def test_chunks_that_come_after_a_look_count_too(kind):
    x, batch, control = draw_screen()
    chunked = kind().partial_fit(x[:150], batch=batch[:150], control=control[:150])
    chunked.transform(x, batch=batch)
    chunked.partial_fit(x[150:], batch=batch[150:], control=control[150:]).finish()
    whole = kind().fit(x, batch=batch, control=control).transform(x, batch=batch)
    np.testing.assert_allclose(chunked.transform(x, batch=batch), whole, rtol=1e-6, atol=1e-6)


def test_a_chunk_may_be_without_controls_but_a_batch_may_not():
    x, batch, control = draw_screen()
    chunked = TVN().partial_fit(x[~control], batch=batch[~control], control=control[~control])
    only = control & (batch != "1")
    chunked.partial_fit(x[only], batch=batch[only], control=control[only])
    with pytest.raises(InputError, match="found none in '1'"):
        chunked.finish()
    rest = control & (batch == "1")
    chunked.partial_fit(x[rest], batch=batch[rest], control=control[rest])
    assert chunked.batches == ("0", "1", "2")


def test_chunks_are_not_added_to_what_keeps_no_moments():
    fitted, x, batch = fit(TVN)
    with pytest.raises(InputError, match="join new batches, or begin a new alignment"):
        fitted.partial_fit(x, batch=batch, control=np.ones(len(x), bool))


@each_kind
def test_unseen_rows_are_aligned_one_by_one(kind):
    x, batch, control = draw_screen()
    fitted = kind().fit(x[:200], batch=batch[:200], control=control[:200])
    together = fitted.transform(x[200:], batch=batch[200:])
    alone = [fitted.transform(x[[i]], batch=batch[[i]])[0] for i in range(200, 300)]
    np.testing.assert_allclose(together, alone, rtol=1e-10, atol=1e-10)


@each_kind
def test_rows_in_the_order_of_batches_are_aligned_as_any(kind):
    fitted, x, batch = fit(kind)
    order = np.argsort(batch, kind="stable")
    ordered = fitted.transform(x[order], batch=batch[order])
    np.testing.assert_allclose(ordered, fitted.transform(x, batch=batch)[order], rtol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        CenterScale,
        lambda: PCACenterScale(4),
        lambda: TVN("auto"),
        lambda: Sphering(5, method="pca", regularisation=0.1),
    ],
)
def test_a_saved_alignment_is_the_same_and_takes_a_new_batch(make, tmp_path):
    x, batch, control = draw_screen()
    first = batch != "2"
    fitted = make().fit(x[first], batch=batch[first], control=control[first])
    fitted.save(tmp_path / "a.zarr")
    loaded = load_alignment(tmp_path / "a.zarr")
    before = fitted.transform(x[first], batch=batch[first])
    np.testing.assert_array_equal(loaded.transform(x[first], batch=batch[first]), before)
    unlike = {"_shared", "_batches"}
    assert {key: value for key, value in vars(loaded).items() if key not in unlike} == {
        key: value for key, value in vars(fitted).items() if key not in unlike
    }

    new = control_moments(x[~first], batch=batch[~first], control=control[~first])
    joined = loaded.join(new)
    assert joined.batches == ("0", "1", "2")
    np.testing.assert_array_equal(joined.transform(x[first], batch=batch[first]), before)
    np.testing.assert_array_equal(
        joined.transform(x[~first], batch=batch[~first]),
        fitted.join(new).transform(x[~first], batch=batch[~first]),
    )


def test_a_cap_is_saved_too(tmp_path, caplog):
    x, batch, control = draw_screen(n=60, d=40)
    with caplog.at_level(logging.WARNING):
        fitted = Sphering("auto", regularisation=1e-3).fit(x, batch=batch, control=control)
    fitted.save(tmp_path / "a.zarr")
    loaded = load_alignment(tmp_path / "a.zarr")
    assert loaded.cap == fitted.cap == caplog.records[0].getMessage() != ""
    assert loaded.n_components_ == fitted.n_components_ < 40


def test_nothing_is_saved_over_and_nothing_half_written_is_left(tmp_path):
    fitted, _, _ = fit(CenterScale)
    fitted.save(tmp_path / "a.zarr")
    with pytest.raises(InputError, match="expected nothing yet at"):
        fitted.save(tmp_path / "a.zarr")
    with pytest.raises(InputError, match="fit it first"):
        CenterScale().save(tmp_path / "b.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_a_folder_that_is_no_alignment_is_named(tmp_path):
    with pytest.raises(InputError, match=r"found no zarr\.json"):
        load_alignment(tmp_path)
    dataset = fit(CenterScale)[0].to_dataset()
    dataset.attrs["align"] = "magic"
    with pytest.raises(InputError, match="found 'magic'"):
        from_dataset(dataset)


@each_kind
def test_float32_stays_float32_and_loses_no_more_than_its_digits(kind):
    fitted, x, batch = fit(kind)
    narrow = x.astype(np.float32)
    aligned = fitted.transform(narrow, batch=batch)
    assert aligned.dtype == np.float32
    exact = fitted.transform(narrow.astype(np.float64), batch=batch)
    assert exact.dtype == np.float64
    np.testing.assert_allclose(aligned, exact, atol=3e-6 * np.abs(exact).max())


def test_float32_rows_are_never_held_in_float64():
    x = np.random.default_rng(0).normal(size=(50_000, 32)).astype(np.float32)
    control = np.ones(len(x), bool)
    tracemalloc.start()
    fitted = TVN().fit(x, control=control)
    _, fit_peak = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    fitted.transform(x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert fit_peak < 1.9 * x.nbytes  # twice would be a copy in float64
    assert peak < 1.9 * x.nbytes


def test_a_centre_far_from_zero_does_not_shift_float32_rows():
    x = (np.random.default_rng(0).normal(size=(400, 3)) + 1e5 / 3).astype(np.float32)
    fitted = CenterScale().fit(x, control=np.ones(400, bool))
    assert np.abs(fitted.transform(x).mean(axis=0, dtype=np.float64)).max() < 1e-6


@each_kind
def test_torch_tensors_are_fitted_and_aligned_as_arrays_and_stay_tensors(kind):
    torch = pytest.importorskip("torch")
    x, batch, control = draw_screen()
    x = x.astype(np.float32)
    tensor = torch.from_numpy(x)
    array = kind().fit(x, batch=batch, control=control).transform(x, batch=batch)
    fitted = kind().fit(tensor, batch=batch, control=torch.from_numpy(control))
    aligned = fitted.transform(tensor, batch=batch)
    assert isinstance(aligned, torch.Tensor)
    assert (aligned.dtype, aligned.device) == (torch.float32, tensor.device)
    np.testing.assert_allclose(aligned.numpy(), array, rtol=1e-4, atol=1e-4)
    half = fitted.transform(tensor.to(torch.bfloat16), batch=batch)
    assert half.dtype == torch.float32


def test_torch_is_not_imported_for_arrays():
    code = (
        "import sys, numpy as np; from phenopipe.maps import TVN;"
        "x = np.random.default_rng(0).normal(size=(9, 2));"
        "TVN().fit(x, control=np.ones(9, bool)).transform(x);"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@each_kind
def test_one_batch_is_as_no_batch(kind):
    x, _, control = draw_screen()
    none = kind().fit(x, control=control).transform(x)
    one = kind().fit(x, batch=np.full(300, "a"), control=control)
    np.testing.assert_array_equal(one.transform(x, batch=np.full(300, "a")), none)


@each_kind
def test_features_that_do_not_vary_among_controls_do_not_hurt(kind):
    x, batch, control = draw_screen()
    wide = np.column_stack([x, np.full(300, 0.1), np.where(control, 7.0, 9.0), x[:, 0]])
    aligned = kind().fit(wide, batch=batch, control=control).transform(wide, batch=batch)
    assert np.isfinite(aligned).all()
    assert np.abs(aligned).max() < 1e3


@each_kind
def test_bad_input_is_named(kind):
    x, batch, control = draw_screen()
    with pytest.raises(InputError, match=r"none in '2'"):
        kind().fit(x, batch=batch, control=control & (batch != "2"))
    holed = x.copy()
    holed[[3, 9], 0] = np.nan
    with pytest.raises(InputError, match="NaN or infinity in 2 of 300 rows, the first at row 3"):
        kind().fit(holed, batch=batch, control=control)
    fitted = kind().fit(x, batch=batch, control=control)
    with pytest.raises(InputError, match="NaN or infinity in 2 of 300 rows"):
        fitted.transform(holed, batch=batch)
    with pytest.raises(InputError, match=r"\(0, 1, 2\), found '7'"):
        fitted.transform(x, batch=np.full(300, "7"))
    with pytest.raises(InputError, match="rows of 6 features as fitted, found 5"):
        fitted.transform(x[:, :5], batch=batch)
    with pytest.raises(InputError, match="6 features in batch '7' as in the others, found 5"):
        fitted.join(control_moments(x[:, :5], batch=np.full(300, "7"), control=control))
    with pytest.raises(InputError, match="2 negative controls or more in batch '0', found 1"):
        kind().fit(x[:3], batch=batch[:3], control=[True, True, True])
    with pytest.raises(InputError, match="to transform by, found none: fit it first"):
        kind().transform(x, batch=batch)
    with pytest.raises(InputError, match="to join batches to, found none: fit it first"):
        kind().join(control_moments(x, control=control))
    with pytest.raises(InputError, match="found none: check control_type"):
        kind().fit_moments({})
    if kind is not CenterScale:
        with pytest.raises(InputError, match="all alike"):
            kind().fit(np.ones((6, 2)), control=np.ones(6, bool))
