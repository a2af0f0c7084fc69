import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycytominer.operations import correlation_threshold, get_na_columns, variance_threshold

from phenopipe.config import MapConfig
from phenopipe.errors import InputError
from phenopipe.maps.filters import (
    CONSTANT,
    MISSING,
    REDUNDANT,
    describe_dropped,
    nearly_constant,
    often_missing,
    redundant,
    select_features,
)
from phenopipe.stats import Moments


def draw(n, d, seed):
    """Features of all sizes that share few causes: some are near copies of one another."""
    random = np.random.default_rng(seed)
    causes = random.normal(size=(n, 3))
    loads = random.exponential(size=(3, d)) * (random.random((3, d)) < 0.5)
    noise = random.normal(size=(n, d)) * random.choice([0.01, 0.3, 1.0], d)
    return (causes @ loads + noise + random.normal(size=d)) * 10.0 ** random.integers(-4, 5, d)


def named(x):
    names = [f"Cells_{k:03d}" for k in range(x.shape[1])]
    return pd.DataFrame(x, columns=names), names


def chosen(names, mask):
    return {names[k] for k in np.flatnonzero(mask)}


def in_parts(x, cuts):
    parts = [Moments.of(part) for part in np.split(x, cuts) if len(part)]
    return sum(parts[1:], start=parts[0])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.5))
def test_features_that_are_often_missing_are_pycytominers(seed, cutoff):
    random = np.random.default_rng(seed)
    x = random.normal(size=(40, 12))
    x[random.random(x.shape) < random.random(12) * 0.6] = np.nan
    frame, names = named(x)
    found = often_missing(np.isfinite(x).sum(axis=0), len(x), max_missing=cutoff)
    assert {names[k] for k in np.flatnonzero(found)} == set(
        get_na_columns(frame, names, cutoff=cutoff)
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1e-3, 0.3]))
def test_nearly_constant_features_are_pycytominers_of_features_of_one_size(seed, least):
    x = draw(50, 20, seed)
    x[:, ::5] = x[:1, ::5] * (1 + 1e-4 * np.random.default_rng(seed).normal(size=(50, 4)))
    x[:, 3] = 7.0
    frame, names = named(x / np.sqrt((x**2).mean(axis=0)))
    found = nearly_constant(in_parts(x, [13, 30]), min_variance=least)
    expected = variance_threshold(frame, names, min_variance=least)
    assert chosen(names, found) == set(expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 0.99))
def test_redundant_features_are_pycytominers(seed, threshold):
    x = draw(60, 25, seed)
    frame, names = named(x)
    found = chosen(names, redundant(in_parts(x, [7, 40]), max_correlation=threshold))
    expected = set(correlation_threshold(frame, names, threshold=threshold))
    # Pairs of negative correlation pass there.
    negative = (np.corrcoef(x, rowvar=False) < -threshold).any()
    assert expected <= found if negative else expected == found


def test_a_negative_copy_is_as_redundant_as_a_positive_one():
    x = np.random.default_rng(0).normal(size=(50, 3))
    x[:, 2] = -x[:, 0]
    assert redundant(Moments.of(x), max_correlation=0.9).tolist() == [False, False, True]


def test_what_is_left_does_not_correlate_more_strongly_than_allowed():
    x = draw(200, 40, seed=3)
    kept = ~redundant(Moments.of(x), max_correlation=0.6)
    left = np.abs(np.corrcoef(x[:, kept], rowvar=False))
    assert 1 < kept.sum() < 40
    assert left[np.triu_indices(kept.sum(), 1)].max() <= 0.6


def test_filters_go_one_after_the_other_and_are_told_with_names():
    random = np.random.default_rng(0)
    x = random.normal(size=(100, 7))
    x[:, 2] = 5.0
    x[:, 4] = 3 * x[:, 1] + 1e-3 * random.normal(size=100)
    present = np.array([0, 1, 2, 3, 4, 5, 6])[:-1]
    config = MapConfig(min_variance=1e-6, max_correlation=0.9)
    kept, dropped = select_features(Moments.of(x[:, present]), present, config=config)
    assert dropped[CONSTANT].tolist() == [2]
    assert dropped[REDUNDANT].tolist() in ([1], [4])
    assert sorted([*kept, *dropped[CONSTANT], *dropped[REDUNDANT]]) == present.tolist()
    told = describe_dropped(
        {**dropped, MISSING: np.array([6])}, [f"f{k}" for k in range(7)], config
    )
    assert [(item["what"], item["count"]) for item in told] == [
        (MISSING, 1), (CONSTANT, 1), (REDUNDANT, 1)
    ]  # fmt: skip
    assert [item["why"].rsplit(": ")[1] for item in told][:2] == ["f6", "f2"]


def test_features_that_are_all_filtered_out_are_an_error():
    moments = Moments.of(np.ones((5, 2)))
    with pytest.raises(InputError, match="loosen max_missing, min_variance"):
        select_features(moments, np.arange(2), config=MapConfig(min_variance=1e-6))
    with pytest.raises(InputError, match="all filtered out"):
        select_features(None, np.arange(0), config=MapConfig())


def test_without_settings_all_features_stay():
    kept, dropped = select_features(None, np.arange(4), config=MapConfig())
    assert kept.tolist() == [0, 1, 2, 3]
    assert not dropped
