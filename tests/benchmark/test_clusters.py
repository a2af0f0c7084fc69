import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from phenopipe.benchmark import MapData, compare_clusters
from phenopipe.benchmark.annotations import Annotation, read_annotations
from phenopipe.benchmark.clusters import (
    ClusterSeparation,
    _find_members,
    _ks,
    _measure,
    bootstrap_clusters,
    shuffle_clusters,
)
from phenopipe.stats import cosine_pairs, unit_rows
from phenopipe.stats.resample import bootstrap_counts
from tests.benchmark.screens import FAST

NAMES = np.array([f"G{i:03d}" for i in range(120)], dtype=object)


def draw_map(seed=0, *, close=3, scale=1.0):
    """Draw ten clusters of twelve, of which the first few lie close together."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(120, 8))
    for number in range(close):
        x[number * 12 : number * 12 + 12] += scale * rng.normal(size=8)
    members = pd.DataFrame({"cluster": [f"C{i // 12}" for i in range(120)], "member": NAMES})
    return x, members


def test_the_test_is_scipys_on_pairs_within_and_between():
    x, members = draw_map()
    table = compare_clusters(x, NAMES, members)
    for name, row in table.iterrows():
        inside = NAMES[(members.cluster == name).to_numpy()]
        mask = np.isin(NAMES, inside)
        within = cosine_pairs(x[mask])
        between = (unit_rows(x[mask]) @ unit_rows(x[~mask]).T).ravel()
        expected = ks_2samp(within, between, method="asymp")
        assert row.statistic == pytest.approx(expected.statistic, abs=1e-12)
        assert row.p_value == pytest.approx(expected.pvalue, rel=1e-9)
        assert (row.mean_within, row.mean_between) == pytest.approx((within.mean(), between.mean()))
        assert (row.n_members, row.n_others) == (12, 108)
    assert (table.p_value[:3] < 1e-3).all()


def test_cosines_that_are_equal_count_as_scipy_counts_them():
    x = np.random.default_rng(0).integers(-1, 2, size=(40, 2)) + 0.0
    x[0] = 1
    names = NAMES[:40]
    members = pd.DataFrame({"cluster": "C", "member": names[:10]})
    mask = np.arange(40) < 10
    expected = ks_2samp(
        cosine_pairs(x[mask]).round(12),
        (unit_rows(x[mask]) @ unit_rows(x[~mask]).T).ravel().round(12),
        method="asymp",
    )
    cluster = _measure(unit_rows(x), np.arange(10))
    assert len(np.unique(cosine_pairs(x[mask]).round(12))) < 12
    found = compare_clusters(x, names, members).loc["C"]
    assert found.statistic == pytest.approx(expected.statistic, abs=0.02)
    assert _ks(cluster)[0] == found.statistic


def test_small_clusters_unknown_members_and_the_whole_map_are_left_out():
    x, members = draw_map()
    small = members[~members.member.isin(NAMES[:3])]
    unknown = pd.DataFrame({"cluster": "C0", "member": ["not in the map"] * 9})
    whole = pd.DataFrame({"cluster": "all", "member": NAMES})
    table = compare_clusters(x, NAMES, pd.concat([small, unknown, whole, members.tail(12)]))
    assert table.index.tolist() == [f"C{i}" for i in range(1, 10)]
    assert (table.n_members == 12).all()
    assert compare_clusters(x, NAMES, small, min_members=9).index[0] == "C0"


def test_corum_complexes_stand_out_in_periscope(shared):
    x = pd.read_csv(shared("maps/HeLa_HPLM_hit_list_PCA.csv"), index_col=0)
    clusters = {a.source: a for a in read_annotations(shared("annotations"))}["CORUM_clusters"]
    table = compare_clusters(x, x.index, clusters.table)
    ribosome = table.loc["Ribosome, cytoplasmic"]
    assert ribosome.mean_within > 5 * abs(ribosome.mean_between)
    assert (table.fdr <= 0.05).mean() > 0.5
    rows = np.flatnonzero(
        x.index.isin(clusters.table.query("cluster == 'Ribosome, cytoplasmic'").member)
    )
    others = np.delete(np.arange(len(x)), rows)
    unit = unit_rows(x)
    expected = ks_2samp(cosine_pairs(x.iloc[rows]), (unit[rows] @ unit[others].T).ravel())
    assert ribosome.statistic == pytest.approx(expected.statistic, abs=1e-12)
    assert ribosome.p_value == pytest.approx(expected.pvalue, rel=1e-9)


def clusters_of(x, members):
    found = _find_members(pd.Index(NAMES), members, 10)
    return unit_rows(x), [_measure(unit_rows(x), rows) for rows in found.values()]


def test_a_resample_weighs_pairs_by_their_members_counts():
    x, members = draw_map()
    unit, clusters = clusters_of(x, members)
    found = bootstrap_clusters(clusters, n=120, n_bootstrap=60, seed=3)
    counts = bootstrap_counts(120, n_bootstrap=60, seed=3).astype(int)
    expected = []
    for count in counts:
        statistics = []
        for cluster in clusters:
            rows, other = cluster.rows, np.delete(np.arange(120), cluster.rows)
            i, j = np.triu_indices(12, k=1)
            weights = count[rows[i]] * count[rows[j]]
            within = np.repeat((unit[rows] @ unit[rows].T)[i, j], weights)
            between = (unit[rows] @ unit[other].T).ravel()
            statistics.append(ks_2samp(within, between, method="asymp").statistic)
        expected.append(np.mean(statistics))
    value = np.mean([_ks(cluster)[0] for cluster in clusters])
    shifted = np.array(expected) - (np.mean(expected) - value)
    np.testing.assert_allclose(found, shifted, atol=1e-12)


def test_shuffled_names_give_what_random_clusters_give():
    x, members = draw_map(close=0)
    unit, clusters = clusters_of(x, members)
    shuffled = shuffle_clusters(unit, clusters, n_shuffles=200, seed=0)
    rng = np.random.default_rng(1)
    expected = []
    for _ in range(200):
        rows = rng.permutation(120)[:12]
        expected.append(_ks(_measure(unit, np.sort(rows)))[0])
    assert shuffled.mean() == pytest.approx(np.mean(expected), abs=0.02)


def score(x, members):
    annotation = Annotation("complexes", "ab", members, "clusters")
    data = MapData(
        embeddings={"none": x},
        labels=NAMES,
        arms=np.full(120, "", dtype=object),
        unexpressed=np.zeros(120, dtype=bool),
        annotations=[annotation],
    )
    return ClusterSeparation().score(data, FAST)


def test_close_clusters_are_hits():
    x, members = draw_map(close=4, scale=2.0)
    mean, hits = score(x, members)
    assert (mean.source, mean.annotation_digest, mean.n) == ("complexes", "ab", 10)
    assert mean.low < mean.value < mean.high
    assert mean.value > mean.null_high > mean.null > mean.null_low
    assert mean.p_value == pytest.approx(1 / 51)
    assert hits.units[hits.units == 1].index.tolist() == ["C0", "C1", "C2", "C3"]


def test_no_cluster_in_the_map_is_told(caplog):
    x, members = draw_map()
    assert score(x, members.assign(member="elsewhere")) == []
    assert "no cluster has 10 members in the map" in caplog.text
