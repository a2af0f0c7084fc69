"""The graph against the same measures in numpy and scipy, written from their definitions."""

from itertools import combinations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from phenopipe.models import Session, build_classical, classical_card, open_session


@pytest.fixture(scope="module")
def session() -> Session:
    return open_session(build_classical().SerializeToString())


def draw_crops(seed, n=2, channels=3, height=64, width=64):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random((n, channels, height, width)), (0, 0, 3, 3))
    light = np.clip(smooth - 0.5, 0, None) * rng.uniform(1e4, 1e5, (n, channels, 1, 1)) + 200
    return rng.poisson(light).astype(np.uint16)


def average_squares(plane, side):
    height, width = (length // side * side for length in plane.shape)
    blocks = plane[:height, :width].reshape(height // side, side, width // side, side)
    return blocks.mean((1, 3))


def opened_mean(plane, radius):
    return ndimage.grey_opening(plane, 2 * radius + 1, mode="nearest").mean()


def levels_of(plane):
    ranked = np.sort(average_squares(plane, 8), axis=None)
    low, median, high = (ranked[int((ranked.size - 1) * q)] for q in (0.1, 0.5, 0.99))
    return low, median, high, low + 0.3 * max(high - low, 1)


def foreground_of(plane):
    return plane > levels_of(plane)[3]


def expected_channel(plane):
    def log(value):
        return np.log2(1 + value)

    low, median, high, threshold = levels_of(plane)
    variances = [average_squares(plane, side).var() for side in (1, 2, 4, 8, 16)]
    two, four = average_squares(plane, 2), average_squares(plane, 4)
    contrast = (np.abs(np.diff(two, axis=0)).mean() + np.abs(np.diff(two, axis=1)).mean()) / 2
    left = [two.mean(), *(opened_mean(two, radius) for radius in (1, 2, 4, 8))]
    removed = [plane.mean() - opened_mean(plane, 1), *(-np.diff(left))]
    mask = foreground_of(plane)
    inside = ndimage.binary_erosion(mask, np.ones((3, 3)), border_value=1)
    bright = (plane - low)[mask]
    tops = (ndimage.maximum_filter(four, 5, mode="nearest") == four) & (four > threshold)
    return {
        "mean": log(plane.mean()),
        "std": log(plane.std()),
        "skewness": stats.skew(plane, axis=None),
        "kurtosis": log(stats.kurtosis(plane, axis=None, fisher=False)),
        "background": log(low),
        "peak": log(high - low),
        "median": (median - low) / max(high - low, 1),
        **{
            f"spectrum_{side}": (fine - coarse) / variances[0]
            for side, fine, coarse in zip((2, 4, 8, 16), variances, variances[1:], strict=False)
        },
        "contrast_2": contrast / plane.std(),
        **{
            f"granularity_{radius}": share / (plane.mean() - plane.min())
            for radius, share in zip((1, 2, 4, 8, 16), removed, strict=True)
        },
        "foreground_area": mask.mean(),
        "foreground_intensity": log(bright.mean()),
        "foreground_variation": bright.std() / bright.mean(),
        "foreground_edge": (mask & ~inside).sum() / mask.sum(),
        "spots": log(tops.mean() * 1e4 / 16),
    }


def expected_pair(one, other):
    here, there = foreground_of(one), foreground_of(other)
    return {
        "correlation": np.corrcoef(one.ravel(), other.ravel())[0, 1],
        "overlap": (here & there).sum() / np.sqrt(here.sum() * there.sum()),
    }


def expected_features(crop, names):
    planes = dict(zip(names, crop.astype(float), strict=True))
    channels = {
        f"{name}_{feature}": value
        for name, plane in planes.items()
        for feature, value in expected_channel(plane).items()
    }
    pairs = {
        f"{a}_{b}_{feature}": value
        for a, b in combinations(names, 2)
        for feature, value in expected_pair(planes[a], planes[b]).items()
    }
    return channels | pairs


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (50, 71)])
def test_features_equal_their_definitions_in_numpy_and_scipy(session, size):
    names = ["DNA", "ER", "AGP"]
    crops = draw_crops(7, height=size[0], width=size[1])
    embedded = session.embed(crops)
    for crop, row in zip(crops, embedded, strict=True):
        expected = expected_features(crop, names)
        assert tuple(expected) == classical_card().feature_names(names)
        found = dict(zip(expected, row.tolist(), strict=True))
        assert found == pytest.approx(expected, rel=1e-4, abs=2e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), n=st.integers(1, 5), channels=st.integers(1, 6))
def test_a_batch_is_its_crops_one_by_one(session, seed, n, channels):
    crops = draw_crops(seed, n=n, channels=channels, height=32, width=48)
    alone = np.concatenate([session.embed(crops[k : k + 1]) for k in range(n)])
    # Vector lanes and their remainder differ in the last bit of a logarithm, so a crop's place in
    # its run does too: it follows from the field.
    np.testing.assert_allclose(session.embed(crops), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("counts", [0, 1, 300, 65535])
@pytest.mark.parametrize("side", [16, 33])
def test_an_empty_crop_gives_finite_values(session, counts, side):
    embedded = session.embed(np.full((1, 6, side, side), counts, np.uint16))
    assert embedded.shape == (1, 162)
    assert np.isfinite(embedded).all()
    assert np.abs(embedded).max() <= 16.01


def test_extreme_pixels_give_finite_values(session):
    crops = np.zeros((2, 2, 32, 32), np.uint16)
    crops[0, :, 16, 16] = 65535
    crops[1, :, ::2] = 65535
    assert np.isfinite(session.embed(crops)).all()


def draw_disks(*, radius, count, height=1000, grain=0.0):
    """Draw disks on a grid in a crop of 96 px with the noise of counted photons."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:96, :96]
    side = int(np.ceil(np.sqrt(count)))
    centres = (np.arange(side) + 0.5) * 96 / side
    places = [(a, b) for a in centres for b in centres][:count]
    inside = np.any([(y - a) ** 2 + (x - b) ** 2 < radius**2 for a, b in places], axis=0)
    light = 200 + inside * height * (1 + grain * (-1.0) ** (x // 2 + y // 2))
    return rng.poisson(light).astype(np.uint16)[None, None]


@pytest.mark.parametrize(
    ("feature", "less", "more"),
    [
        ("spots", {"radius": 6, "count": 4}, {"radius": 6, "count": 9}),
        ("foreground_area", {"radius": 6, "count": 9}, {"radius": 9, "count": 9}),
        ("foreground_edge", {"radius": 9, "count": 9}, {"radius": 5, "count": 9}),
        ("granularity_8", {"radius": 4, "count": 9}, {"radius": 9, "count": 9}),
        (
            "foreground_intensity",
            {"radius": 6, "count": 9},
            {"radius": 6, "count": 9, "height": 2000},
        ),
        (
            "foreground_variation",
            {"radius": 6, "count": 9},
            {"radius": 6, "count": 9, "grain": 0.3},
        ),
        ("spectrum_4", {"radius": 6, "count": 9}, {"radius": 6, "count": 9, "grain": 0.3}),
    ],
)
def test_features_answer_to_what_they_are_named_for(session, feature, less, more):
    index = classical_card().channel_features.index(feature)
    low, high = (session.embed(draw_disks(**cells))[0, index] for cells in (less, more))
    assert high > 1.05 * low


def test_the_graph_is_valid_and_its_bytes_are_fixed():
    model = build_classical()
    onnx.checker.check_model(model, full_check=True)
    assert model.SerializeToString() == build_classical().SerializeToString()
    # Another digest is another model: give the card a new version with it.
    assert classical_card().digest.startswith("53737ef2647fc4e3")
