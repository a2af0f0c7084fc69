import numpy as np
import pytest
from scipy.stats import false_discovery_control, norm

from phenopipe.maps.null import N_BINS, PairNull, count_cosines, count_pairs, rank_among


def draw_cosines(n, *, seed=0):
    """Mostly unrelated pairs, a few that are alike and a few that are opposite."""
    random = np.random.default_rng(seed)
    z = random.normal(0.02, 0.08, n)
    z[: n // 100] += random.choice([-0.8, 0.8], n // 100)
    return np.tanh(z).astype(np.float32)


def test_p_values_and_fdr_are_those_of_all_pairs_one_by_one():
    cosines = draw_cosines(20_000)
    p_values, fdr = PairNull.of(count_cosines(cosines)).look_up(cosines)
    z = np.arctanh(cosines.astype(float))
    low, middle, high = np.quantile(z, [0.25, 0.5, 0.75])
    expected = 2 * norm.sf(np.abs(z - middle) / ((high - low) / (2 * norm.ppf(0.75))))
    # Quartiles are those of bins of 2e-6, not interpolated; ten deviations out that is 0.1%.
    np.testing.assert_allclose(np.log(p_values), np.log(expected), rtol=2e-3, atol=1e-3)
    # Two pairs in bins side by side share an FDR: that of the outer one.
    np.testing.assert_allclose(fdr, false_discovery_control(p_values), rtol=2e-4)


@pytest.mark.parametrize("beside", [-2e-6, 0, 2e-6])
def test_a_pair_that_was_counted_a_bin_beside_its_own_keeps_its_fdr(beside):
    cosines = draw_cosines(20_000)[200:]
    cosines[:2] = np.float32([0.7, -0.7]) + np.float32(beside)
    null = PairNull.of(count_cosines(cosines))
    _, fdr = null.look_up(np.float32([0.7, -0.7]))
    np.testing.assert_array_equal(fdr, null.look_up(cosines[:2])[1])
    assert (fdr < 1e-3).all()


@pytest.mark.parametrize("start", [0, 3, 9])
def test_a_block_counts_each_pair_above_the_diagonal_once(start):
    random = np.random.default_rng(1)
    square = random.uniform(-1, 1, (12, 12)).astype(np.float32)
    block = square[start : start + 3]
    above = [square[i, j] for i in range(start, start + 3) for j in range(i + 1, 12)]
    np.testing.assert_array_equal(
        count_pairs(block, start=start), count_cosines(np.array(above, dtype=np.float32))
    )


def test_cosines_just_outside_their_range_count_at_its_ends():
    counts = count_cosines(np.float32([1.0000002, -1.0000002]))
    assert (counts[-1], counts[0], counts.sum()) == (1, 1, 2)
    assert len(counts) == N_BINS


@pytest.mark.parametrize("max_fdr", [1e-6, 0.01, 0.05, 0.5])
def test_nothing_below_the_false_discovery_rate_lies_between_the_tails(max_fdr):
    cosines = draw_cosines(20_000)
    null = PairNull.of(count_cosines(cosines))
    low, high = null.tails(max_fdr)
    _, fdr = null.look_up(cosines)
    outside = (cosines <= low) | (cosines >= high)
    assert not (fdr[~outside] <= max_fdr).any()
    # The tails reach a bin further, and no more.
    assert (fdr[(cosines < low - 4e-6) | (cosines > high + 4e-6)] <= max_fdr).all()


def test_a_rate_of_one_takes_every_pair():
    cosines = draw_cosines(1000)
    low, high = PairNull.of(count_cosines(cosines)).tails(1.0)
    assert ((cosines <= low) | (cosines >= high)).all()


def test_pairs_that_do_not_vary_are_no_evidence():
    null = PairNull.of(count_cosines(np.full(50, 0.3, dtype=np.float32)))
    assert [values.tolist() for values in null.look_up(np.float32([0.3, 0.9]))] == [[1, 1], [1, 1]]
    assert null.tails(0.05) == (-np.inf, np.inf)


def test_ranks_are_those_of_the_sorted_pairs():
    cosines = np.unique(draw_cosines(500))[::-1]
    ranks = rank_among(cosines, count_cosines(cosines))
    apart = np.diff(cosines, prepend=2) < -4e-6
    np.testing.assert_array_equal(ranks[apart], np.arange(1, len(cosines) + 1)[apart])
