import gzip
import json
import logging
from datetime import UTC, datetime
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr

from phenopipe.config import Align, GeneFiles, MapConfig
from phenopipe.errors import InputError
from phenopipe.genome import chromosome_arms
from phenopipe.lake import Lake, Recipe, embeddings, map_part
from phenopipe.maps import TVN, build_map, correct_arms, open_map, query_map
from phenopipe.maps.align import from_dataset
from phenopipe.plates import PlateKey, Well
from phenopipe.schema import PLATEMAP_COLUMNS, check_map, embeddings_schema

WIDTH = 5
PLATES = [PlateKey(experiment, plate) for experiment in ("E1", "E2") for plate in ("P1", "P2")]
# 12 genes on one arm, the first 6 silent; 8 on another, 2 silent.
ARMS = {"1p": 12, "2q": 8}
SMALL = MapConfig(min_reference=4, top=3)


def genes_on(arm, n):
    return [gene for gene, found in sorted(chromosome_arms().items()) if found == arm][:n]


GENES = genes_on("1p", 12) + genes_on("2q", 8)
SILENT = GENES[:6] + GENES[12:14]


def told_by(**files):
    return SMALL.model_copy(update={"genes": GeneFiles(**files)})


def list_treatments():
    """What each well of a plate holds: controls, two guides a gene, a compound, odd ones."""
    negative = {"perturbation": "NTC", "perturbation_type": "control", "control_type": "negative"}
    guides = [
        {"perturbation": f"{gene}_{guide}", "perturbation_type": "crispr", "gene": gene,
         "guide": f"{gene}_{guide}", "zfpkm": -4.0 if gene in SILENT else 1.0}
        for gene in GENES for guide in ("g1", "g2")
    ]  # fmt: skip
    other = [
        {"perturbation": "aspirin", "perturbation_type": "compound", "compound": "aspirin"},
        {"perturbation_type": "empty"},
        {},
    ]
    return [negative] * 30 + guides + other


def draw_plate(key, *, width=WIDTH, treatments=None):
    random = np.random.default_rng([PLATES.index(key), 7])
    shift = 5.0 * (key.experiment == "E2")
    effects = np.random.default_rng(1).normal(size=(len(GENES), width))
    rows = []
    for index, treatment in enumerate(list_treatments() if treatments is None else treatments):
        gene = treatment.get("gene", "")
        effect = effects[GENES.index(gene)] if gene else np.zeros(width)
        well = str(Well(index // 12, index % 12))
        for x in range(3):
            vector = effect + shift + random.normal(size=width)
            place = {"experiment": key.experiment, "plate": key.plate, "well": well}
            crop = {"field": 1, "y": 0, "x": 64 * x, "embedding": vector.tolist()}
            rows.append(place | crop | dict.fromkeys(PLATEMAP_COLUMNS, None) | place | treatment)
    return rows


def put_plate(lake, key, *, digest="ab" * 32, **drawn):
    thing = embeddings("classical", key)
    width = drawn.get("width", WIDTH)
    schema = embeddings_schema(width, {"zfpkm": pa.float64()})
    with lake.writing(thing):
        table = pa.Table.from_pylist(draw_plate(key, **drawn), schema=schema)
        with lake.draft(thing) as path:
            pq.write_table(table, path)
        recipe = Recipe("embed", 1, {}, {"plate": str(key)}, digest)
        lake.publish(thing, recipe, counts={}, started=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def lake(tmp_path):
    lake = Lake(tmp_path / "lake")
    for key in PLATES:
        put_plate(lake, key)
    return lake


def test_a_map_is_the_stages_done_by_hand(lake):
    done = []
    ref = build_map(
        lake, name="demo", config=SMALL, on_progress=lambda *progress: done.append(progress)
    )
    assert ref.counts == {"perturbations": 21, "wells": 164, "plates": 4, "batches": 2}
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]

    crops = [pq.read_table(lake.path(embeddings("classical", key))).to_pandas() for key in PLATES]
    wells = [list(frame.groupby("well", sort=False)) for frame in crops]
    rows = [frame for plate in wells for _, frame in plate]
    x = np.array([np.stack(list(frame["embedding"])).mean(axis=0, dtype=float) for frame in rows])
    batch = np.array([frame["experiment"].iloc[0] for frame in rows])
    control = np.array([frame["control_type"].iloc[0] == "negative" for frame in rows])
    guide = np.array([frame["guide"].iloc[0] or "" for frame in rows])
    aligned = TVN("auto").fit(x, batch=batch, control=control).transform(x, batch=batch)
    means = np.array(
        [
            np.mean([aligned[guide == f"{gene}_{g}"].mean(axis=0) for g in ("g1", "g2")], axis=0)
            for gene in GENES
        ]
    )

    dataset = check_map(open_map(lake, "demo"), where="demo")
    found = dataset.sel(perturbation=GENES)
    np.testing.assert_allclose(found["embedding_uncorrected"], means, rtol=1e-5, atol=1e-6)
    arms = [chromosome_arms()[gene] for gene in GENES]
    silent = np.array([gene in SILENT for gene in GENES])
    expected = correct_arms(means, arms, silent, 4)
    np.testing.assert_allclose(found["embedding"], expected, rtol=1e-5, atol=1e-6)
    assert found["arm"].to_numpy().tolist() == arms
    assert found["unexpressed"].to_numpy().tolist() == silent.tolist()
    assert set(found["n_wells"].to_numpy().tolist()) == {8}
    assert set(found["n_guides"].to_numpy().tolist()) == {2}


def test_a_map_says_what_it_is_and_what_was_left_out(lake):
    build_map(lake, name="demo", config=SMALL)
    dataset = open_map(lake, "demo")
    attrs = dataset.attrs
    assert (attrs["model"], attrs["align"], attrs["correct"]) == ("classical", "tvn", "arms")
    assert attrs["experiments"] == ["E1", "E2"]
    left_out = {item["what"]: item["count"] for item in json.loads(attrs["exclusions"])}
    assert left_out == {
        "wells without a platemap row": 4, "empty wells": 4, "negative control wells": 120
    }  # fmt: skip
    arms = {row["arm"]: row for row in json.loads(attrs["arms"])}
    assert (arms["1p"]["n_reference"], arms["1p"]["corrected"]) == (6, True)
    assert (arms["2q"]["n_reference"], arms["2q"]["corrected"]) == (2, False)
    assert "2 unexpressed genes" in arms["2q"]["why"]
    aspirin = dataset.sel(perturbation="aspirin")
    known = [aspirin[name].item() for name in ("gene", "arm", "n_guides")]
    assert known == ["", "", 0]
    np.testing.assert_array_equal(aspirin["embedding"], aspirin["embedding_uncorrected"])


def test_a_second_run_returns_at_once_and_another_lake_gets_the_same_bytes(lake, tmp_path):
    first = build_map(lake, name="demo", config=SMALL)
    again = build_map(lake, name="demo", config=SMALL)
    assert first.computed
    assert not again.computed
    assert (again.key, again.counts) == (first.key, first.counts)

    other = Lake(tmp_path / "other")
    for key in reversed(PLATES):
        put_plate(other, key)
    build_map(other, name="demo", config=SMALL)
    for part in ("wells.parquet", "alignment.zarr", "neighbours.parquet", "map.zarr"):
        thing = map_part("demo", part)
        assert other.manifest(thing).files == lake.manifest(thing).files
        assert other.manifest(thing).key == first.key


def test_what_changes_the_map_changes_its_key(lake, tmp_path):
    keys = {build_map(lake, name="demo", config=SMALL).key}
    keys.add(build_map(lake, name="demo", config=MapConfig(align="centerscale")).key)
    keys.add(build_map(lake, name="demo", config=SMALL, experiments=("E1",)).key)
    table = tmp_path / "expression.csv"
    table.write_text("gene,zfpkm\nTP53,-4\n")
    keys.add(build_map(lake, name="demo", config=told_by(expression=table)).key)
    in_words = told_by(expression=table, expression_unit="zfpkm")
    keys.add(build_map(lake, name="demo", config=in_words).key)
    assert len(keys) == 5
    moved = build_map(
        lake, name="demo", config=told_by(expression=table.rename(tmp_path / "moved.csv"))
    )
    assert moved.key in keys  # what a table says counts, not where it lies


def test_an_expression_table_stands_above_the_platemap(lake, tmp_path):
    table = tmp_path / "expression.csv"
    gene = GENES[8]
    table.write_text(f"gene,zfpkm\n{gene},-2\n{gene},-5\n{GENES[0]},1\n")
    build_map(lake, name="demo", config=told_by(expression=table))
    dataset = open_map(lake, "demo")
    silent = dataset["perturbation"].to_numpy()[dataset["unexpressed"].to_numpy()]
    assert silent.tolist() == [gene]  # the mean of its samples is -3.5


def test_positions_stand_in_the_place_of_hgncs_loci(lake, tmp_path):
    positions, centromeres = tmp_path / "positions.csv", tmp_path / "centromeres.tsv.gz"
    rows = [f"{gene},chr{1 + i % 2},{i},{i + 1}\n" for i, gene in enumerate(GENES[1:])]
    positions.write_text("gene,chrom,start,end\n" + "".join(rows))
    centromeres.write_bytes(
        gzip.compress(b"#bin\tchrom\tchromStart\tchromEnd\n1\tchr1\t8\t10\n1\tchr2\t8\t10\n")
    )
    build_map(lake, name="demo", config=told_by(positions=positions, centromeres=centromeres))
    dataset = open_map(lake, "demo").sel(perturbation=GENES)
    expected = ["", *(f"{1 + i % 2}{'q' if i + 1 > 9 else 'p'}" for i in range(19))]
    assert dataset["arm"].to_numpy().tolist() == expected
    told = json.loads(dataset.attrs["symbols"])
    assert told == {"approved": 19, "unknown": 1}
    expected = correct_arms(
        dataset["embedding_uncorrected"].to_numpy(), expected, dataset["unexpressed"].to_numpy(), 4
    )
    np.testing.assert_allclose(dataset["embedding"], expected, rtol=1e-6)


def test_hgncs_own_list_finds_a_gene_by_its_alias(lake, tmp_path):
    complete = tmp_path / "hgnc_complete_set.txt"
    lines = [f"REAL{i}\t7q1.1\t{gene}\t\n" for i, gene in enumerate(GENES)]
    complete.write_text("symbol\tlocation\talias_symbol\tprev_symbol\n" + "".join(lines))
    table = tmp_path / "expression.csv"
    table.write_text("gene,level\nREAL3,-4\n")
    config = told_by(symbols=complete, expression=table, expression_unit="zfpkm")
    build_map(lake, name="demo", config=config)
    dataset = open_map(lake, "demo").sel(perturbation=GENES)
    assert set(dataset["arm"].to_numpy()) == {"7q"}
    assert json.loads(dataset.attrs["symbols"]) == {"alias": 20}
    assert np.flatnonzero(dataset["unexpressed"]).tolist() == [3]


def test_without_expression_arms_stay_as_they_are_and_it_is_said(tmp_path, caplog):
    lake = Lake(tmp_path / "lake")
    known = [{**treatment, "zfpkm": None} for treatment in list_treatments()]
    put_plate(lake, PLATES[0], treatments=known)
    with caplog.at_level(logging.WARNING):
        build_map(lake, name="demo", config=SMALL)
    dataset = open_map(lake, "demo")
    assert {row["why"] for row in json.loads(dataset.attrs["arms"])} == {
        "no gene's expression is known"
    }
    assert "arms left uncorrected" in caplog.text
    np.testing.assert_array_equal(dataset["embedding"], dataset["embedding_uncorrected"])


@pytest.mark.parametrize("align", get_args(Align))
def test_each_alignment_is_published_and_read_back(lake, align):
    build_map(lake, name="demo", config=MapConfig(align=align, correct="none"))
    path = lake.path(map_part("demo", "alignment.zarr"))
    stored = xr.open_zarr(path, consolidated=False)
    assert stored.attrs["align"] == align
    if align != "none":
        assert from_dataset(stored).batches == ("E1", "E2")
    dataset = open_map(lake, "demo")
    np.testing.assert_array_equal(dataset["embedding"], dataset["embedding_uncorrected"])


def test_a_query_lists_the_nearest(lake):
    build_map(lake, name="demo", config=SMALL)
    dataset = open_map(lake, "demo")
    unit = dataset["embedding"] / np.linalg.norm(dataset["embedding"], axis=1)[:, None]
    similar = (unit.to_numpy() @ unit.sel(perturbation="aspirin").to_numpy()).tolist()
    ranked = sorted(zip(similar, dataset["perturbation"].to_numpy(), strict=True), reverse=True)
    found = query_map(lake, "demo", "aspirin", top=2)
    assert found["neighbour"].to_pylist() == [name for _, name in ranked[1:3]]
    with pytest.raises(InputError, match="closest names are aspirin"):
        query_map(lake, "demo", "Asprin", top=2)
    with pytest.raises(InputError, match="phenopipe map"):
        query_map(lake, "other", "aspirin", top=2)


def test_bad_input_is_named(lake, tmp_path):
    with pytest.raises(InputError, match=r"embeddings of vit .* run `phenopipe embed"):
        build_map(lake, name="demo", model="vit")
    with pytest.raises(InputError, match="for E9"):
        build_map(lake, name="demo", experiments=("E1", "E9"))
    with pytest.raises(InputError, match=r"no file: mend map\.genes\.expression"):
        build_map(lake, name="demo", config=told_by(expression=tmp_path / "none.csv"))
    put_plate(lake, PLATES[3], digest="cd" * 32)
    with pytest.raises(InputError, match="one model digest, found abab"):
        build_map(lake, name="demo")
    put_plate(lake, PLATES[3], width=4)
    with pytest.raises(
        InputError, match=r"one width, found 5 in .* 4 in embeddings/classical/E2/P2"
    ):
        build_map(lake, name="demo")
    without = [t for t in list_treatments() if t.get("control_type") != "negative"]
    put_plate(lake, PLATES[2], treatments=without)
    put_plate(lake, PLATES[3], treatments=without)
    with pytest.raises(InputError, match="none in E2"):
        build_map(lake, name="demo")
    assert lake.manifest(map_part("demo", "map.zarr")) is None


def test_a_run_that_fails_leaves_the_map_of_before(lake):
    before = build_map(lake, name="demo", config=SMALL)
    put_plate(lake, PLATES[3], width=4)
    with pytest.raises(InputError):
        build_map(lake, name="demo", config=MapConfig(align="centerscale"))
    assert lake.manifest(map_part("demo", "map.zarr")).key == before.key
