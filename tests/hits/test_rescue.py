import numpy as np
import pandas as pd
import pytest

from phenopipe.config import HitsConfig
from phenopipe.errors import InputError
from phenopipe.hits import rank_rescue, read_rescue
from phenopipe.lake import Lake
from tests.hits.screens import NEGATIVE, compound, draw_wells, knock_out, publish_map

WIDTH = 32
QUICK = HitsConfig(n_permutations=2000, n_bootstrap=400)
AXIS, SIDE = np.zeros(WIDTH), np.zeros(WIDTH)
AXIS[:4], SIDE[-4:] = 3.0, 2.0  # the disease's length is 6, the side effect's 4


def treated(name, dose=1.0, **more):
    return knock_out("TP53", compound=name, concentration_um=dose, **more)


def draw_screen(compounds, *, disease=6, controls=24, seed=0, **options):
    """Controls, wells of the disease, and compounds on it: what each makes of the profile."""
    screen = [(NEGATIVE, 0.0)] * controls + [(knock_out("TP53"), AXIS)] * disease
    return draw_wells([*screen, *compounds], width=WIDTH, seed=seed, **options)


def rank(path, rows, values, *, disease=("TP53",), arm_shifts=None, **options):
    lake = Lake(path)
    publish_map(lake, rows, values, arm_shifts=arm_shifts)
    rank_rescue(lake, name="m", disease=disease, **{"config": QUICK} | options)
    return read_rescue(lake, "m", disease).to_pandas()


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    compounds = [
        (treated("nothing"), AXIS),
        (treated("half"), AXIS / 2),
        (treated("full"), 0 * AXIS),
        (treated("toxic"), SIDE),
        (treated("worse"), 1.5 * AXIS),
    ]
    path = tmp_path_factory.mktemp("rescue")
    return rank(path, *draw_screen(compounds, plates=6)).set_index("compound")


def test_reversal_is_how_much_of_the_way_is_gone_back(ranked):
    wanted = {"nothing": 0, "half": 0.5, "full": 1, "toxic": 1, "worse": -0.5}
    for name, value in wanted.items():
        row = ranked.loc[name]
        assert row["reversal"] == pytest.approx(value, abs=0.15)
        assert row["reversal_low"] < row["reversal"] < row["reversal_high"]


def test_the_side_effect_is_what_lies_off_the_axis(ranked):
    # Controls lie sqrt(31) from an axis through 32 dimensions of unit noise.
    assert ranked.loc["toxic", "side_effect"] == pytest.approx(4 / np.sqrt(31), abs=0.12)
    assert (ranked.drop("toxic")["side_effect_low"] < 0.1).all()


def test_what_is_left_to_health_is_ranked(ranked):
    assert ranked["rank"].sort_values().index.tolist() == [
        "full", "half", "toxic", "nothing", "worse",
    ]  # fmt: skip
    np.testing.assert_allclose(
        ranked["distance"][["full", "half", "toxic", "nothing", "worse"]],
        [0, 0.5, 4 / 6, 1, 1.5],
        atol=0.2,
    )


def test_only_what_moves_cells_towards_health_is_significant(ranked):
    assert set(ranked.index[ranked["fdr"] < 0.05]) == {"half", "full", "toxic"}


def test_a_compound_without_effect_is_not_taken_for_a_rescue_by_a_noisy_axis(tmp_path):
    """Of four wells in 128 dimensions: a naive projection calls half of the way gone back."""
    axis = np.pad(AXIS, (0, 96))
    idle = [(treated(f"c{k:02d}"), axis) for k in range(40)]
    screen = [(NEGATIVE, 0.0)] * 24 + [(knock_out("TP53"), axis)] + idle
    found, p_values, naive = [], [], []
    for seed in range(8):
        rows, values = draw_wells(screen, width=128, seed=seed)
        table = rank(tmp_path / str(seed), rows, values)
        found += table["reversal"].tolist()
        p_values += table["p_value"].tolist()
        naive.append(_project_naively(rows, values))
    assert np.mean(naive) > 0.35
    assert abs(np.mean(found)) < 0.12
    assert np.mean(np.array(p_values) < 0.05) < 0.1


def _project_naively(rows, values):
    is_control = (rows["label"].isna()).to_numpy()
    means = pd.DataFrame(values[is_control]).groupby(rows["plate"][is_control].to_numpy()).mean()
    centred = values - means.loc[rows["plate"]].to_numpy()
    alone = (rows["label"] == "TP53").to_numpy() & rows["compound"].isna().to_numpy()
    axis, treated_mean = centred[alone].mean(axis=0), centred[~alone & ~is_control].mean(axis=0)
    return 1 - treated_mean @ axis / (axis @ axis)


def _holds(table, score, truth):
    return ((table[f"{score}_low"] <= truth) & (truth <= table[f"{score}_high"])).tolist()


def test_intervals_cover(tmp_path):
    compounds = [(treated(f"c{k:02d}"), 0.4 * AXIS + SIDE) for k in range(40)]
    covered, off = [], []
    for seed in range(5):
        table = rank(tmp_path / str(seed), *draw_screen(compounds, disease=4, plates=6, seed=seed))
        covered += _holds(table, "reversal", 0.6)
        off += _holds(table, "side_effect", 4 / np.sqrt(WIDTH - 1))
    assert np.mean(covered) > 0.9
    assert np.mean(off) > 0.9


def test_a_compound_alone_is_a_prediction_by_its_opposing_direction(tmp_path):
    compounds = [
        (compound("opposite"), -AXIS),
        (compound("alike"), AXIS),
        (compound("other"), SIDE),
    ]
    table = rank(tmp_path, *draw_screen(compounds, plates=20)).set_index("compound")
    assert set(table["design"]) == {"alone"}
    assert table["reversal"]["opposite"] == pytest.approx(1, abs=0.15)
    assert table["reversal"]["alike"] == pytest.approx(-1, abs=0.15)
    assert table["cosine"]["opposite"] == pytest.approx(1, abs=0.05)
    assert table["cosine"]["other"] == pytest.approx(0, abs=0.15)
    assert table["distance"]["other"] == pytest.approx(np.hypot(1, 4 / 6), abs=0.2)
    assert table["rank"].sort_values().index.tolist() == ["opposite", "other", "alike"]
    assert table["fdr"]["opposite"] < 0.01
    assert table["p_value"]["alike"] > 0.99


@pytest.mark.parametrize(
    ("treat", "start"), [(treated, AXIS), (compound, 0 * AXIS)], ids=["on-disease", "alone"]
)
def test_compounds_that_only_have_side_effects_have_uniform_p_values(tmp_path, treat, start):
    sides = np.random.default_rng(1).normal(size=(20, WIDTH)) * (AXIS == 0) * 0.7
    idle = [(treat(f"c{k:03d}", 1.0), start + side) for k, side in enumerate(sides)]
    # Compounds of one screen share its axis and its reference: many screens, not one.
    tables = [rank(tmp_path / str(k), *draw_screen(idle, seed=k)) for k in range(6)]
    found = np.concatenate([table["p_value"] for table in tables])
    assert np.mean(found < 0.1) < 0.17
    assert abs(np.mean(found < 0.5) - 0.5) < 0.15


def test_both_designs_are_ranked_apart(tmp_path):
    compounds = [(treated("a"), 0 * AXIS), (compound("b"), -AXIS), (treated("c"), AXIS)]
    table = rank(tmp_path, *draw_screen(compounds))
    assert table.groupby("design")["rank"].apply(list).to_dict() == {
        "alone": [1], "on-disease": [1, 2],
    }  # fmt: skip


def test_a_gene_named_by_all_compounds_is_asked_about(tmp_path):
    compounds = [(compound(f"c{k}", gene="TP53"), AXIS / 2) for k in range(3)]
    rows, values = draw_screen(compounds)
    with pytest.raises(
        InputError, match=r"expected to know what TP53 is .* 'on-disease' .*'alone'"
    ):
        rank(tmp_path, rows, values)
    for design, reversal in (("on-disease", 0.5), ("alone", -0.5)):
        table = rank(tmp_path, rows, values, design=design)
        assert set(table["design"]) == {design}
        assert table["reversal"].mean() == pytest.approx(reversal, abs=0.15)


def test_what_an_arm_does_is_no_part_of_the_disease(tmp_path):
    arm = np.full(WIDTH, 1.0)
    compounds = [(treated("half"), AXIS / 2 + arm), (compound("opposite"), -AXIS)]
    rows, values = draw_screen(compounds, plates=6)
    untreated = (rows["label"] == "TP53").to_numpy() & rows["compound"].isna().to_numpy()
    values[untreated] += arm
    table = rank(tmp_path, rows, values, arm_shifts={"TP53": arm}).set_index("compound")
    assert table["reversal"]["half"] == pytest.approx(0.5, abs=0.15)
    assert table["distance"]["opposite"] == pytest.approx(0, abs=0.25)
    uncorrected = rank(tmp_path, rows, values).set_index("compound")
    assert uncorrected["distance"]["opposite"] > 0.5


def test_doses_make_a_curve(tmp_path):
    doses = [0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0]
    series = [(treated("d", dose), AXIS / (1 + dose / 0.5)) for dose in doses]
    table = rank(tmp_path, *draw_screen(series, plates=8))
    assert table["ec50_um"].nunique() == 1
    row = table.iloc[0]
    assert row["ec50_low"] < 0.5 < row["ec50_high"]
    assert row["ec50_um"] == pytest.approx(0.5, rel=0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"disease": ["TP35"]}, "the closest names are TP53"),
        ({"design": "alone"}, r"expected wells with a compound \(alone\), found 1 compounds on"),
        ({"config": HitsConfig(min_wells=30)}, "expected 30 wells of the disease"),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path, change, said):
    with pytest.raises(InputError, match=said):
        rank(tmp_path, *draw_screen([(treated("a"), AXIS)]), **change)


def test_a_disease_that_is_not_told_from_controls_has_no_axis(tmp_path):
    screen = draw_screen([(knock_out("WEAK"), 0.0), (compound("a"), SIDE)])
    with pytest.raises(InputError, match=r"4 wells that differ .* there is no axis to reverse"):
        rank(tmp_path, *screen, disease=["WEAK"])
