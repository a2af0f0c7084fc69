"""What map benchmarks are run on, and what they let pass: on a small screen, by hand."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import maps_checks as checks
from benchmarks.maps import find_chain_peers, print_chain, print_steps, sum_fastest
from benchmarks.maps_draw import choose_genes, draw_effects, draw_screen, list_wells, name_family
from benchmarks.maps_lake import MODEL, WELLS_A_PLATE, WIDTH, list_plates, write_lake
from benchmarks.maps_ours import align, phenopipe
from benchmarks.maps_rounds import OURS_BESIDE, Run
from benchmarks.maps_scale import describe_line
from benchmarks.maps_screen import CONTROL, SOURCES
from benchmarks.maps_steps import BESIDE, CHAIN, Place, run_chain
from benchmarks.measured import Measured
from phenopipe.embeddings import find_embeddings, read_embeddings
from phenopipe.genome import chromosome_arms
from phenopipe.profiles import read_wells
from phenopipe.stats import cosine_pairs

WELLS = 2000


@pytest.fixture(scope="module")
def annotations(tmp_path_factory):
    """Five sources in which neighbours of the alphabet are related, as EFAAR_benchmarking's."""
    folder = tmp_path_factory.mktemp("annotations")
    symbols = sorted(chromosome_arms())[:600]
    for number, source in enumerate(SOURCES, start=1):
        pairs = zip(symbols, symbols[number:], strict=False)
        pd.DataFrame(pairs, columns=["entity1", "entity2"]).to_csv(
            folder / f"{source}.txt", index=False
        )
    return folder


@pytest.fixture(scope="module")
def screen(annotations, tmp_path_factory):
    return draw_screen(tmp_path_factory.mktemp("screen"), annotations, wells=WELLS)


def test_a_tenth_of_each_batch_are_controls_and_all_genes_have_as_many_wells(screen):
    wells = screen.wells
    control = wells["label"] == CONTROL
    assert len(screen.controls) == 200
    assert control.groupby(wells["experiment"]).sum().tolist() == [100, 100]
    counts = wells["label"][~control].value_counts()
    assert len(counts) == WELLS // 15
    assert {13, 14} >= set(counts)


def test_wells_are_sorted_and_each_stands_once_on_its_plate(screen):
    key = ["experiment", "plate", "well"]
    assert not screen.wells.duplicated(key).any()
    assert screen.wells[["experiment", "plate"]].apply(tuple, axis=1).is_monotonic_increasing


def test_genes_are_those_in_most_pairs_with_their_arms(annotations, screen):
    genes = choose_genes(annotations, 5)
    assert len(set(genes)) == 5
    assert set(screen.genes["gene"]) > set(genes)
    arms = chromosome_arms()
    assert screen.genes["arm"].tolist() == [arms[gene] for gene in screen.genes["gene"]]


def test_too_few_annotated_genes_are_told(annotations):
    with pytest.raises(SystemExit, match="expected 700 annotated genes"):
        choose_genes(annotations, 700)


def test_the_same_seed_draws_the_same_vectors_and_another_others(annotations, screen, tmp_path):
    again = draw_screen(tmp_path / "again", annotations, wells=WELLS)
    other = draw_screen(tmp_path / "other", annotations, wells=WELLS, seed=1)
    drawn = screen.read_vectors(np.float32)
    assert np.array_equal(drawn, again.read_vectors(np.float32))
    assert not np.array_equal(drawn, other.read_vectors(np.float32))


def test_a_screen_is_drawn_once(annotations, screen):
    written = (screen.folder / "vectors.npy").stat().st_mtime_ns
    draw_screen(screen.folder, annotations, wells=WELLS)
    assert (screen.folder / "vectors.npy").stat().st_mtime_ns == written


def test_batches_put_together_are_the_whole(screen):
    wells, vectors = zip(*screen.read_batches(np.float64), strict=True)
    assert pd.concat(wells).equals(screen.wells)
    assert np.array_equal(np.concatenate(vectors), screen.read_vectors(np.float64))


def test_families_share_an_effect_and_unexpressed_genes_have_their_arms_alone():
    names = ["RPL3", "RPL4", "ABCA1", "TP53", "KRAS", "ZNF7"]
    genes = pd.DataFrame(
        {"gene": names, "arm": list("ppqqpp"), "unexpressed": [False] * 4 + [True] * 2}
    )
    effects = draw_effects(genes, seed=0)
    cosines = cosine_pairs(effects)
    assert cosines.argmax() == 14  # KRAS and ZNF7, the last pair: nothing but one arm
    assert cosines[-1] == pytest.approx(1)
    assert cosines[0] > 0.35  # RPL3 and RPL4
    assert np.abs(cosines[1:-1]).max() < 0.35


def test_a_family_is_what_a_symbol_starts_with():
    assert [name_family(symbol) for symbol in ("RPL3", "NDUFA10", "C1orf52")] == [
        "RPL", "NDUFA", "C"
    ]  # fmt: skip


def test_wells_of_any_number_keep_the_proportions():
    wells = list_wells([f"G{i}" for i in range(20)], wells=3000, seed=0)
    assert wells["experiment"].nunique() == 3
    assert (wells["label"] == CONTROL).sum() == 300


def test_the_lake_holds_whole_plates_of_one_field_a_well(tmp_path):
    lake = write_lake(tmp_path, wells=1000, genes=50)
    assert find_embeddings(lake, MODEL).unit == "field"
    table = read_embeddings(lake, MODEL)
    assert len(table) == WELLS_A_PLATE
    assert table.schema.field("embedding").type.list_size == WIDTH
    assert table["control_type"].to_pylist().count("negative") == WELLS_A_PLATE // 10
    assert len(set(table["well"].to_pylist())) == WELLS_A_PLATE


def test_plates_fill_an_experiment_before_the_next():
    plates = list_plates(10 * WELLS_A_PLATE)
    assert [str(plates[i]) for i in (0, 8, 9)] == ["E001/P1", "E001/P9", "E002/P1"]


def test_a_line_is_found_and_its_worst_size_told():
    told = describe_line([100_000, 200_000, 400_000], [3.0, 5.0, 9.0])
    assert told == "line: 1.0 s + 20.0 microseconds a well; no size is further off than 0.0%"
    assert "0.0%" not in describe_line([1, 2, 4], [1.0, 4.0, 16.0])


def test_the_chain_finds_what_was_drawn(screen, tmp_path):
    place = Place(tmp_path / "out", handed=tmp_path, jobs=1, dtype=np.float32)
    seconds = run_chain(phenopipe, screen, place)
    assert tuple(seconds) == CHAIN
    found = {
        step: pd.read_parquet(place.out / f"{step}.parquet").set_index("key")["value"]
        for step in CHAIN[2:]
    }
    assert list(found["recall"].index) == list(SOURCES)
    assert found["recall"].min() > 0.2  # 0.1 by chance; neighbours are often of one family
    assert found["bias"]["genome"] > 0.5
    expressed = screen.genes["gene"][~screen.genes["unexpressed"]].tolist()
    assert sorted(found["consistency"].index) == sorted(found["magnitude"].index) == expressed
    assert found["replicates"][expressed].mean() > found["replicates"][screen.unexpressed].mean()


def test_aligned_wells_stand_as_the_screen_has_them(screen, tmp_path):
    align(screen, tmp_path / "wells.parquet")
    with read_wells(tmp_path / "wells.parquet", where="wells.parquet") as wells:
        rows, key = wells.rows, ["experiment", "plate", "well"]
        assert rows[key].astype(str).equals(screen.wells[key].astype(str))
        assert (rows["label"] == "").sum() == (screen.wells["label"] == CONTROL).sum()
        controls = wells.take(screen.controls)
    assert np.abs(controls.mean(axis=0)).max() < 0.5


@pytest.fixture
def keep(tmp_path):
    """Keep what two contenders found of a step; give their folders."""

    def put(step, *results):
        folders = [tmp_path / name for name in ("ours", "theirs")]
        for folder, result in zip(folders, results, strict=True):
            folder.mkdir(exist_ok=True)
            if isinstance(result, pd.DataFrame):
                result.to_parquet(folder / f"{step}.parquet")
            else:
                np.save(folder / f"{step}.npy", result)
        return folders

    return put


def test_a_component_may_have_either_sign_but_not_another_direction(keep):
    ours = np.random.default_rng(0).normal(size=(30, 5))
    flipped = ours * np.array([1, -1, 1, 1, -1])
    assert "30 rows" in checks.check_cosines("align", *keep("align", ours, flipped))
    with pytest.raises(SystemExit, match="differ by up to"):
        checks.check_cosines("align", *keep("align", ours, ours + 1e-4 * np.eye(30, 5)))


def test_recall_must_be_the_same_to_the_last_digit(keep):
    ours = pd.DataFrame({"key": ["CORUM"], "value": [0.25]})
    assert checks.check_recall(*keep("recall", ours, ours)).startswith("recall: 1 sources")
    with pytest.raises(SystemExit, match="last digit"):
        checks.check_recall(*keep("recall", ours, ours.assign(value=np.nextafter(0.25, 1))))


def test_a_row_that_only_the_peer_has_is_a_fault(keep):
    theirs = pd.DataFrame({"key": ["CORUM", "HuMAP"], "value": [0.25, 0.5]})
    with pytest.raises(SystemExit, match="HuMAP"):
        checks.check_recall(*keep("recall", theirs[:1], theirs))


def test_the_genome_is_compared_in_its_probability_alone_where_pairs_stand_twice(keep):
    names = {"key": ["1p", "genome"], "value": [0.6, 0.5], "p_value": [0.1, 0.2]}
    ours = pd.DataFrame({**names, "statistic": [2.0, 3.0]})
    twice = ours.assign(statistic=[2.0, 4.0])
    assert "1 arms" in checks.check_bias(*keep("bias", ours, twice))
    with pytest.raises(SystemExit, match=r"differ by up to 0\.25"):
        checks.check_genome(*keep("bias", ours, twice))


def test_scores_and_p_values_are_compared_where_the_peer_has_them(keep):
    theirs = pd.DataFrame({"key": list("ab"), "value": [2.0, np.nan], "p_value": [0.5, np.nan]})
    ours = theirs.fillna({"value": 1.0, "p_value": 1.0})
    check = checks.check_consistency
    assert "1 genes" in check(*keep("consistency", ours, theirs))
    with pytest.raises(SystemExit, match="p-values: they differ by up to"):
        check(*keep("consistency", ours.assign(p_value=[0.6, 1.0]), theirs))
    with pytest.raises(SystemExit, match="1 genes more"):
        check(*keep("consistency", ours.assign(value=[np.nan, 1.0]), theirs))
    with pytest.raises(SystemExit, match="differ by up to nan"):
        check(*keep("consistency", ours.assign(p_value=np.nan), theirs))


def test_a_row_is_to_the_peer_a_little_away_from_itself(keep):
    ours = pd.DataFrame({"key": list("ab"), "value": [2.0, 3.0], "n": [10, 20], "p_value": 0.5})
    moved = 1e-4 * (1 / ours["n"] + 1 / 40)
    theirs = ours.assign(value=ours["value"] - moved, p_value=[0.5, 0.6]).drop(columns="n")
    told = checks.check_magnitude(*keep("magnitude", ours, theirs), n_controls=40, n_null=10)
    assert told.endswith("1 p-values differ, by one gene of 10")
    with pytest.raises(SystemExit, match="differ by up to"):
        checks.check_magnitude(*keep("magnitude", ours, theirs), n_controls=41, n_null=10)
    with pytest.raises(SystemExit, match="p-values differ"):
        checks.check_magnitude(*keep("magnitude", ours, theirs), n_controls=40, n_null=20)


def test_the_peers_sum_takes_the_fastest_peer_of_each_step():
    def run(**steps):
        return [Run(Measured(0.0, 0), steps)]

    slow = dict.fromkeys(CHAIN, 2.0)
    runs = {"phenopipe": run(**slow), "one": run(**slow), "two": run(aggregate=0.5)}
    assert sum_fastest(runs, 0) == 2.0 * (len(CHAIN) - 1) + 0.5
    assert find_chain_peers(runs) == {"one", "two"}
    assert find_chain_peers({**runs, "two": run(standardize=0.1)}) == {"one"}


def test_tables_tell_each_step_the_chain_and_the_memory(capsys):
    def run(peak, **steps):
        return [Run(Measured(0.0, peak << 20), {name: s * k for name, s in steps.items()})
                for k in (1, 2, 3)]  # fmt: skip

    runs = {
        "phenopipe": run(100, **dict.fromkeys(CHAIN, 1.0)),
        OURS_BESIDE: run(50, **dict.fromkeys(BESIDE, 1.0)),
        "one": run(400, **dict.fromkeys(CHAIN, 30.0)),
        "two": run(900, aggregate=40.0, **dict.fromkeys(BESIDE, 5.0)),
    }
    print_steps(runs)
    print_chain(runs, dict.fromkeys(runs, (2, 1)))
    told = capsys.readouterr().out
    assert "| align | 2.00 (1.00 to 3.00) | one | 60.00 (30.00 to 90.00) | 30.00 (30.00" in told
    assert "| spherize | 2.00 (1.00 to 3.00) | two | 10.00 (5.00 to 15.00) | 5.00 (5.00" in told
    assert "chain: 30.00 (30.00 to 30.00) times as fast" in told
    assert "memory: 0.25 of the chain's largest peer" in told  # two has no fastest step
