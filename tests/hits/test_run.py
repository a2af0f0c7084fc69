import logging

import numpy as np
import pyarrow.parquet as pq
import pytest

from phenopipe.config import HitsConfig
from phenopipe.errors import InputError
from phenopipe.hits import call_hits, rank_rescue, read_hits, rescue_table
from phenopipe.lake import Lake, map_part
from phenopipe.schema import HITS
from tests.hits.screens import NEGATIVE, compound, draw_wells, knock_out, publish_map

QUICK = HitsConfig(n_permutations=500, n_bootstrap=100)
SCREEN = [
    *[(NEGATIVE, 0.0)] * 12,
    *[(knock_out("TP53"), 2.0)] * 2,
    (knock_out("SILENT"), 0.0),
    *[(compound("c", dose), -2.0 * dose / (1 + dose)) for dose in (0.1, 1.0, 10.0, 100.0)],
]


@pytest.fixture
def lake(root):
    made = Lake(root)
    publish_map(made, *draw_wells(SCREEN))
    return made


def test_hits_are_published_with_what_they_were_made_of(lake):
    seen = []
    ref = call_hits(
        lake, name="m", config=QUICK, on_progress=lambda done, total: seen.append((done, total))
    )
    assert ref.computed
    assert ref.counts["perturbations"] == ref.counts["tested"] == 6
    assert seen[-1] == (6, 6)
    table = read_hits(lake, "m")
    assert table.schema.equals(HITS)
    active = {row["perturbation"] for row in table.to_pylist() if row["fdr"] <= 0.05}
    assert {"TP53", "c (100 uM)"} <= active
    assert "SILENT" not in active
    manifest = lake.manifest(map_part("m", "hits.parquet"))
    assert list(manifest.inputs) == ["maps/m/wells.parquet"]
    assert manifest.parameters == QUICK.model_dump(mode="json")


def test_once_more_returns_at_once_and_anew_gives_the_same_bytes(lake):
    first = call_hits(lake, name="m", config=QUICK)
    assert not call_hits(lake, name="m", config=QUICK).computed
    before = lake.manifest(map_part("m", "hits.parquet")).files
    with lake.writing(map_part("m", "hits.parquet")):
        pass  # clears what is there
    again = call_hits(lake, name="m", config=QUICK)
    assert again.computed
    assert again.key == first.key
    assert lake.manifest(map_part("m", "hits.parquet")).files == before


def test_the_order_of_wells_does_not_matter(tmp_path):
    rows, values = draw_wells(SCREEN)
    order = np.random.default_rng(0).permutation(len(rows))
    tables = []
    for name, shuffled in (("one", np.arange(len(rows))), ("two", order)):
        lake = Lake(tmp_path / name)
        publish_map(lake, rows.iloc[shuffled], values[shuffled])
        call_hits(lake, name="m", config=QUICK)
        tables.append(read_hits(lake, "m"))
    assert tables[0].equals(tables[1])


def test_another_map_makes_other_hits(lake):
    call_hits(lake, name="m", config=QUICK)
    publish_map(lake, *draw_wells(SCREEN, seed=5))
    assert call_hits(lake, name="m", config=QUICK).computed


def test_ranks_are_published_by_disease_and_tell_how_well_it_is_told(lake):
    ref = rank_rescue(lake, name="m", disease=["TP53"], config=QUICK)
    assert ref.thing == "maps/m/rescue-TP53.parquet"
    assert not rank_rescue(lake, name="m", disease=["TP53", "TP53"], config=QUICK).computed
    assert rank_rescue(lake, name="m", disease=["TP53"], design="alone", config=QUICK).computed
    with lake.fetched(rescue_table("m", ["TP53"])) as path:
        told = pq.read_schema(path).metadata
    assert (told[b"disease"], told[b"disease_wells"]) == (b"TP53", b"8")
    assert 0 < float(told[b"z_factor"]) < 1


def test_names_of_tables_do_not_collide():
    names = [["A (b)"], ["A -b-"], ["A-b"], ["A", "b"]]
    assert len({rescue_table("m", disease).path for disease in names}) == 4


def test_a_map_that_is_not_there_is_named(tmp_path):
    for run in (call_hits, lambda lake, **given: rank_rescue(lake, disease=["TP53"], **given)):
        with pytest.raises(InputError, match="expected maps/none/wells"):
            run(Lake(tmp_path), name="none")
    with pytest.raises(InputError, match="run `phenopipe hits` first"):
        read_hits(Lake(tmp_path), "none")


def test_too_few_permutations_for_so_many_perturbations_are_told(tmp_path, caplog):
    lake = Lake(tmp_path)
    silent = [(knock_out(f"S{k:03d}"), 0.0) for k in range(30)]
    publish_map(lake, *draw_wells([*[(NEGATIVE, 0.0)] * 12, *silent]))
    with caplog.at_level(logging.WARNING):
        call_hits(lake, name="m", config=HitsConfig(n_permutations=100, n_bootstrap=100))
    assert "of 30 perturbations, fewer than 6 that are active cannot be told" in caplog.text
