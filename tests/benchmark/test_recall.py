from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phenopipe.benchmark import MapData, relationship_recall
from phenopipe.benchmark.annotations import Annotation, read_annotations
from phenopipe.benchmark.recall import RelationshipRecall, _shuffle_within
from phenopipe.config import BenchmarkConfig
from phenopipe.errors import InputError

NAMES = [f"G{i:02d}" for i in range(40)]

pairs_of_genes = st.lists(st.tuples(*[st.sampled_from([*NAMES, "not in the map"])] * 2))


def draw_map(seed=0, d=6):
    return np.random.default_rng(seed).normal(size=(len(NAMES), d))


@pytest.mark.parametrize("source", ["CORUM", "HuMAP", "Reactome", "SIGNOR", "StringDB"])
@pytest.mark.parametrize("thresholds", [(0.05, 0.95), (0.1, 0.9)])
def test_recall_is_that_of_efaar_to_the_last_digit(shared, source, thresholds):
    folder = shared("reference/efaar")
    expected = pd.read_csv(folder / "recall.csv", index_col="source").loc[source]
    labels = pd.read_csv(folder / "agg_md.csv", keep_default_na=False).gene
    pairs = pd.read_csv(shared(f"annotations/{source}.txt"), keep_default_na=False)
    found = relationship_recall(np.load(folder / "out.npz")["agg"], labels, pairs, thresholds)
    assert found.recall == expected["recall_{}_{}".format(*thresholds)]
    assert found.n_pairs == expected["query_distribution_size"]
    assert found.n_null == expected["null_distribution_size"]
    assert found.interval[0] < found.recall < found.interval[1]


def test_recall_of_periscope_is_the_published_one(shared):
    x = pd.read_csv(shared("maps/HeLa_HPLM_hit_list_PCA.csv"), index_col=0)
    recalls = {
        annotation.source: relationship_recall(x, x.index, annotation.pairs, n_bootstrap=100)
        for annotation in read_annotations(shared("annotations"))
        if annotation.kind == "pairs"
    }
    assert {name: (round(r.recall, 4), r.n_pairs) for name, r in recalls.items()} == {
        "CORUM": (0.1563, 8179),
        "HuMAP": (0.2482, 9998),
        "Reactome": (0.2106, 1206),
        "SIGNOR": (0.1738, 604),
        "StringDB": (0.2780, 10363),
    }


@settings(max_examples=50, deadline=None)
@given(pairs_of_genes, st.randoms(use_true_random=False))
def test_laws_of_recall(pairs, random):
    x = draw_map()
    found = relationship_recall(x, NAMES, pairs, n_bootstrap=100)
    known = {frozenset(pair) for pair in pairs if "not in the map" not in pair}
    assert found.n_pairs == sum(len(pair) == 2 for pair in known)
    assert found.n_null == 40 * 39 // 2
    assert (0 <= found.recall <= 1) if found.n_pairs else np.isnan(found.recall)
    # Neither the order of the rows, nor that of the pairs, nor their direction matters.
    order = random.sample(range(40), 40)
    turned = [pair[::-1] for pair in random.sample(pairs, len(pairs))] + pairs[:3]
    again = relationship_recall(x[order], [NAMES[i] for i in order], turned, n_bootstrap=100)
    assert again.recall == pytest.approx(found.recall, nan_ok=True)
    assert again.n_pairs == found.n_pairs


def test_all_pairs_together_are_recalled_at_the_sum_of_the_tails():
    every = [(a, b) for a in NAMES for b in NAMES]
    found = relationship_recall(draw_map(), NAMES, every)
    assert found.recall == pytest.approx(0.10, abs=1 / found.n_pairs)


def test_both_tails_count():
    x = draw_map(d=3)
    x[1], x[2] = x[0], -x[0]
    assert relationship_recall(x, NAMES, [("G00", "G01"), ("G00", "G02")]).recall == 1


def test_the_interval_covers_the_recall_of_other_genes_of_the_kind():
    """Draw maps of one kind: their 95% intervals hold the recall of a large map of the kind."""
    rng = np.random.default_rng(0)

    def draw(n_families):
        centres = np.repeat(rng.normal(size=(n_families, 8)), 4, axis=0)
        names = [f"{family}-{i}" for family in range(n_families) for i in range(4)]
        pairs = [(a, b) for a in names for b in names if a.split("-")[0] == b.split("-")[0]]
        return centres + rng.normal(scale=1.2, size=centres.shape), names, pairs

    truth = relationship_recall(*draw(300), n_bootstrap=100).recall
    intervals = [relationship_recall(*draw(30), n_bootstrap=100).interval for _ in range(40)]
    assert np.mean([low <= truth <= high for low, high in intervals]) >= 0.85


def test_no_known_pair():
    found = relationship_recall(draw_map(), NAMES, [])
    assert np.isnan(found.recall)
    assert np.isnan(found.interval).all()
    assert (found.n_pairs, found.n_null) == (0, 780)


@pytest.mark.parametrize(
    ("labels", "thresholds", "message"),
    [
        (["A", "B", "A"], (0.05, 0.95), "expected each perturbation once, found 'A' twice"),
        (["A", "B"], (0.05, 0.95), "one label a row, found 2 for 3 rows"),
        (["A", "B", "C"], (0.95, 0.05), "expected thresholds 0 <= low < high <= 1"),
    ],
)
def test_input_that_cannot_be_scored(labels, thresholds, message):
    with pytest.raises(InputError, match=message):
        relationship_recall(np.eye(3), labels, [("A", "B")], thresholds)


def score_all(pairs, *, seed=0, x=None, arms=None):
    annotation = Annotation("pathways", "abc", pd.DataFrame(pairs, columns=["entity1", "entity2"]))
    data = MapData(
        embeddings={"none": draw_map() if x is None else x},
        labels=np.array(NAMES, dtype=object),
        arms=np.full(40, "", dtype=object) if arms is None else arms,
        unexpressed=np.zeros(40, dtype=bool),
        annotations=[annotation],
    )
    return RelationshipRecall().score(data, BenchmarkConfig(n_bootstrap=200, seed=seed))


def score(pairs, **options):
    (found,) = score_all(pairs, **options)
    return found


def test_the_metric_gives_the_null_of_shuffled_names():
    chain = list(pairwise(NAMES))
    x = draw_map(d=2)
    by_chance, found = score(chain, x=x), score(chain, x=x[np.argsort(np.arctan2(*x.T))])
    assert found.null == pytest.approx(0.10)
    assert found.value > found.null_high > found.null > found.null_low
    assert found.p_value == pytest.approx(1 / 201)
    assert by_chance.null_low <= by_chance.value <= by_chance.null_high
    assert (found.n, found.annotation_digest, found.parameters["n_null"]) == (39, "abc", 780)


def test_the_metric_says_where_no_pair_is_known(caplog):
    found = score([("X", "Y")])
    assert np.isnan([found.value, found.low, found.p_value, found.null_low]).all()
    assert found.n == 0
    assert "pathways: no known pair of it is in the map" in caplog.text


def draw_biased(seed=0):
    """Draw a map whose first twenty genes share a profile, as neighbours on an arm do."""
    x = draw_map(seed, d=12)
    x[:20] += 2.0
    return x, np.repeat(np.array(["1p", "2q", ""], dtype=object), [20, 15, 5])


def test_pairs_within_and_across_arms_are_recalled_in_the_tails_of_all_pairs():
    x, arms = draw_biased()
    pairs = [(a, b) for a in NAMES for b in NAMES if a < b and hash_of(a + b) % 3 == 0]
    every, within, across = score_all(pairs, x=x, arms=arms)
    assert [s.aspect for s in (every, within, across)] == ["", "within_arms", "across_arms"]
    arm_of = dict(zip(NAMES, arms, strict=True))
    for found, same in ((within, True), (across, False)):
        chosen = [
            (a, b) for a, b in pairs if arm_of[a] and arm_of[b] and (arm_of[a] == arm_of[b]) is same
        ]
        expected = relationship_recall(x, NAMES, chosen, n_bootstrap=200)
        assert (found.value, found.n) == (expected.recall, len(chosen))
        assert (found.low, found.high) == expected.interval
    # Two of the last five genes, which have no arm, are in neither.
    assert every.n > within.n + across.n
    assert (every.null, every.parameters["names_shuffled"]) == (pytest.approx(0.1), "over the map")


def hash_of(text):
    return sum(map(ord, text)) * 7919 % 1009


def test_the_null_of_pairs_on_one_arm_is_what_their_arms_alone_give():
    x, arms = draw_biased()
    pairs = list(pairwise(NAMES))
    _, within, across = score_all(pairs, x=x, arms=arms)
    on_arm = [(a, b) for a in NAMES[:20] for b in NAMES[:20] if a < b]
    on_arm += [(a, b) for a in NAMES[20:35] for b in NAMES[20:35] if a < b]
    share = relationship_recall(x, NAMES, on_arm, n_bootstrap=100).recall
    # Of 33 neighbours 19 are on the biased arm, of all pairs on one arm 190 of 295.
    assert within.null == pytest.approx(share, abs=0.06)
    assert within.null > 0.12
    assert within.null_low <= within.value <= within.null_high
    assert across.null < 0.1


def test_shuffles_keep_names_within_their_arms():
    groups = np.array([0, 1, -1, 0, 1, 1, -1, 0])
    orders = np.array(list(_shuffle_within(groups, n_shuffles=300, seed=0)))
    assert (np.sort(orders, axis=1) == np.arange(8)).all()
    assert (groups[orders] == groups).all()
    for row in range(8):
        fellows = np.flatnonzero(groups == groups[row])
        shares = [(orders[:, row] == fellow).mean() for fellow in fellows]
        np.testing.assert_allclose(shares, 1 / len(fellows), atol=0.1)
