import numpy as np
import pytest
from scipy.stats import ortho_group, pearsonr

from phenopipe.errors import InputError
from phenopipe.lake import Lake
from phenopipe.maps import relations
from phenopipe.maps.diff import RankedRows, compare_pairs, compare_profiles, diff_maps
from tests.maps.published import publish_map

NAMES = [f"G{i:03d}" for i in range(120)]
MOVED = NAMES[:6]


def draw(n=120, d=32, *, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def move(x, *, noise=0.3):
    """Measure again in another basis and at another scale: six perturbations do something else."""
    random = np.random.default_rng(9)
    turned = 4 * (x @ ortho_group.rvs(x.shape[1], random_state=3))
    turned += 4 * noise * random.normal(size=x.shape)
    turned[:6] = random.normal(size=(6, x.shape[1]))
    return turned


def compare(x, y, *, top=10, **asked):
    return compare_profiles(RankedRows.of(x, top=top), RankedRows.of(y, top=top), NAMES, **asked)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    lake = Lake(tmp_path_factory.mktemp("diff"))
    x = draw()
    publish_map(lake, "before", x, NAMES)
    publish_map(lake, "after", move(x)[:-1], [*NAMES[:-2], "NEW"])
    publish_map(lake, "other", draw(seed=1), [f"Z{i}" for i in range(120)])
    return lake


def test_correlation_and_overlap_are_those_by_hand():
    x, y = draw(), move(draw())
    frame, _ = compare(x, y)
    told = frame.set_index("perturbation").loc[NAMES]
    cosines = []
    for rows in (x, y):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        cosines.append(unit @ unit.T)
    for i, name in enumerate(NAMES):
        others = np.delete(np.arange(120), i)
        expected = pearsonr(cosines[0][i, others], cosines[1][i, others]).statistic
        assert told.loc[name, "correlation"] == pytest.approx(expected, abs=1e-5)
        near = [others[np.argsort(-side[i, others])[:10]].tolist() for side in cosines]
        shared = len(set(near[0]) & set(near[1]))
        assert told.loc[name, "overlap"] == pytest.approx(shared / (20 - shared))
        nearest = told.loc[name, ["nearest_a", "nearest_b"]].tolist()
        assert nearest == [NAMES[side[0]] for side in near]


def test_what_moved_stands_first_and_has_kept_no_more_than_chance():
    frame, _ = compare(draw(), move(draw()))
    assert set(frame["perturbation"][:6]) == set(MOVED)
    assert (frame["fdr"][:6] > 0.05).all()
    assert (frame["fdr"][6:] < 0.01).all()


def test_of_two_unrelated_maps_p_values_are_uniform():
    frame, null = compare(draw(), draw(seed=5))
    assert len(null) >= 1000
    assert (frame["fdr"] > 0.05).all()
    assert 0.35 < (frame["p_value"] < 0.5).mean() < 0.65


def test_neither_basis_nor_scale_matters():
    x = draw()
    turned = 7 * x @ ortho_group.rvs(32, random_state=1)
    frame, _ = compare(x, turned)
    np.testing.assert_allclose(frame["correlation"], 1, atol=1e-6)
    assert (frame["overlap"] == 1).all()


def test_blocks_do_not_matter(monkeypatch):
    whole, null = compare(draw(), move(draw()))
    monkeypatch.setattr(relations, "_CELLS", 900)
    parts, null_parts = compare(draw(), move(draw()))
    assert parts["perturbation"].tolist() == whole["perturbation"].tolist()
    np.testing.assert_allclose(parts["correlation"], whole["correlation"], atol=1e-6)
    np.testing.assert_allclose(null_parts, null, atol=1e-6)


def test_the_strongest_pairs_come_with_their_ranks_in_both():
    x, y = draw(), move(draw())
    found = compare_pairs(RankedRows.of(x, top=5), RankedRows.of(y, top=5), NAMES)
    for side, rows in (("a", x), ("b", y)):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        first, second = np.triu_indices(120, 1)
        cosines = (unit @ unit.T)[first, second]
        order = np.argsort(-cosines)
        rank_of = {
            (NAMES[first[k]], NAMES[second[k]]): rank for rank, k in enumerate(order, start=1)
        }
        told = found.set_index(["first", "second"])[f"rank_{side}"].to_dict()
        assert told == {pair: rank_of[pair] for pair in told}
        assert sorted(told.values())[:5] == [1, 2, 3, 4, 5]


def test_two_published_maps_are_compared_where_they_overlap(lake):
    found = diff_maps(lake, "before", "after")
    assert (found.shared, found.gained, found.lost) == (118, ("NEW",), ("G118", "G119"))
    assert set(found.perturbations["perturbation"][:6]) == set(MOVED)
    for agreement in (found.correlation, found.overlap):
        assert agreement.low < agreement.mean < agreement.high
        assert agreement.null_high < agreement.low
    assert found.perturbations.equals(diff_maps(lake, "before", "after").perturbations)


def test_the_interval_holds_the_mean_of_most_resamples(lake):
    found = diff_maps(lake, "before", "after")
    sample = found.perturbations["correlation"].to_numpy()
    spread = sample.std() / np.sqrt(len(sample))
    assert found.correlation.high - found.correlation.low == pytest.approx(3.92 * spread, rel=0.15)


def test_a_map_is_the_same_as_itself(lake):
    found = diff_maps(lake, "before", "before")
    np.testing.assert_allclose(found.perturbations["correlation"], 1, atol=1e-6)
    assert (found.overlap.mean, found.gained, found.lost) == (1, (), ())


def test_maps_that_share_too_little_are_refused(lake):
    with pytest.raises(InputError, match="at least 10 perturbations that before and other share"):
        diff_maps(lake, "before", "other")
    with pytest.raises(InputError, match="phenopipe map"):
        diff_maps(lake, "before", "none")
