"""The demo's screen, whole: what is true of it is found, and what is bad in it is named."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

from phenopipe.lake import Lake, embeddings, ledger, map_part
from phenopipe.plates import PlateKey
from phenopipe.simulate import simulate_screen

pytestmark = pytest.mark.timeout(1800)

KEY = ["well", "field"]


@pytest.fixture(scope="module")
def demo(start_flow, tmp_path_factory):
    """Draw the default screen and run it to a map, as ``make demo`` does."""
    folder = tmp_path_factory.mktemp("demo")
    source = simulate_screen(folder / "screen")
    process = start_flow(folder / "lake", source=source, truth=source / "truth")
    output, _ = process.communicate(timeout=1500)
    assert process.returncode == 0, output
    return source, Lake(folder / "lake")


@pytest.fixture(scope="module")
def scores(demo):
    """The benchmark's rows, by metric, source and correction."""
    _, lake = demo
    table = pd.read_parquet(lake.path(map_part("m", "benchmark.parquet")))
    return table.set_index(["metric", "source", "correction"])


@pytest.fixture(scope="module")
def planted(demo):
    """The planted bad files, by plate."""
    source, _ = demo
    table = pd.read_csv(source / "truth" / "bad_files.csv")
    return {PlateKey(*key): rows for key, rows in table.groupby(["experiment", "plate"])}


def test_pathways_are_recalled_three_times_over_chance(scores):
    recall = scores.loc[("relationship_recall", "pathways", "arms")]
    assert recall["value"] >= 3 * recall["null"]
    assert recall["low"] > recall["null"]
    assert recall["null"] == pytest.approx(0.1)


def test_proximity_bias_is_there_before_the_correction_and_gone_after_it(scores):
    before = scores.loc[("proximity_bias", "genome", "none")]
    after = scores.loc[("proximity_bias", "genome", "arms")]
    assert before["low"] > 0.5
    assert before["value"] > before["null_high"]
    assert after["null_low"] <= after["value"] <= after["null_high"]


def test_every_planted_bad_file_is_named_in_the_ledger(demo, planted):
    _, lake = demo
    for key, bad in planted.items():
        told = pd.read_parquet(lake.path(ledger(key)))
        verdicts = told.dropna(subset=["field"]).groupby(KEY)["verdict"].agg(set)
        for row in bad.itertuples():
            assert row.kind in verdicts[(row.well, row.field)], row
        torn = bad[bad["kind"] == "truncated"]["path"].str.removeprefix(f"{key}/")
        assert set(torn) <= set(told.loc[told["verdict"] == "truncated", "path"])


def test_no_bad_field_is_embedded(demo, planted):
    _, lake = demo
    for key, bad in planted.items():
        table = pq.read_table(lake.path(embeddings("classical", key)), columns=KEY)
        embedded = set(map(tuple, table.to_pandas()[KEY].to_numpy()))
        assert not embedded & set(map(tuple, bad[KEY].to_numpy()))
        assert len(embedded) >= 0.98 * 384 * 2
