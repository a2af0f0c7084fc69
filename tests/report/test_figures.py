import base64
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from phenopipe.report.figures import block_cosines, draw_heatmaps, paint
from tests.report.conftest import ARMS, draw_map


@settings(deadline=None, max_examples=40)
@given(n=st.integers(2, 20), side=st.integers(1, 20), seed=st.integers(0, 99))
def test_a_block_is_the_mean_of_its_pairs_cosines(n, side, seed):
    rows = np.random.default_rng(seed).normal(size=(n, 5))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = unit @ unit.T
    np.fill_diagonal(pairs, np.nan)
    found = block_cosines(rows, side=side)
    blocks = np.linspace(0, n, min(side, n), endpoint=False).astype(int)
    members = np.split(np.arange(n), blocks[1:])

    assert found.shape == (min(side, n),) * 2
    for i, j in np.ndindex(*found.shape):
        block = pairs[np.ix_(members[i], members[j])]
        wanted = np.nanmean(block) if np.isfinite(block).any() else np.nan
        np.testing.assert_allclose(found[i, j], wanted, atol=1e-12)


def test_genes_stand_in_the_arms_order():
    heatmaps = draw_heatmaps(draw_map(), corrected=True)

    assert [span.arm for span in heatmaps.arms] == list(ARMS)
    assert [span.n for span in heatmaps.arms] == [25] * 6
    assert heatmaps.arms[-1].end == 1.0
    assert (heatmaps.n_genes, heatmaps.n_unplaced) == (150, 3)


def test_both_sides_are_on_one_scale():
    heatmaps = draw_heatmaps(draw_map(), corrected=True)
    before, after = (read_pixels(heatmaps.images[side]) for side in ("before", "after"))

    assert before.shape == after.shape == (150, 150, 4)
    # Red is above zero: the arms' blocks are red before, and no longer after.
    redness = [redder(image[25:50, 25:50]) for image in (before, after)]
    assert redness[0] > 0.75
    assert redness[1] == pytest.approx(0.5, abs=0.15)


def read_pixels(url):
    return imread(io.BytesIO(base64.b64decode(url.split(",")[1])), format="png")


def redder(image):
    drawn = image[..., 3] > 0
    return float((image[..., 0] > image[..., 2])[drawn].mean())


def test_no_number_is_transparent_and_the_rest_is_clipped():
    image = read_pixels(paint(np.array([[np.nan, -9.0, 9.0]]), colours="gray", low=0.0, high=1.0))

    np.testing.assert_array_equal(image[0], [[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]])


def test_a_map_without_arms_has_no_heatmap():
    dataset = draw_map()
    dataset["arm"] = dataset["arm"].where(False, "")

    assert draw_heatmaps(dataset, corrected=True) is None
