from datetime import UTC, datetime
from itertools import permutations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from phenopipe.config import QCConfig
from phenopipe.errors import InputError
from phenopipe.ingest.assessment import assess_plate
from phenopipe.ingest.drift import COMPARED, compare_plates, judge_batch
from phenopipe.ingest.qc import MEASURES
from phenopipe.lake import Lake, Recipe, drift, qc_table
from phenopipe.plates import FieldKey, PlateKey, Well
from phenopipe.schema import DRIFT

CHANNELS = ("DNA", "ER")
USUAL = {"mean": 900, "background": 300, "foreground": 0.4, "saturated": 0.0, "focus": 0.2,
         "spectrum_slope": -3.0, "detail": 0.4, "cells": 40}  # fmt: skip


def draw_fields(rng, **shifts):
    """The measures of 24 fields; in shifts, what a measure of the second channel is times."""
    usual = np.array([USUAL[name] for name in MEASURES])
    fields = usual * rng.normal(1, 0.05, (24, len(CHANNELS), len(MEASURES)))
    for name, factor in shifts.items():
        fields[:, 1, MEASURES.index(name)] *= factor
    cells = MEASURES.index("cells")
    fields[:, :, cells] = [[round(count), np.nan] for count in fields[:, 0, cells]]
    return {FieldKey(Well(*divmod(n, 12)), 1): measures for n, measures in enumerate(fields)}


def publish(lake, number, *, inputs=None, **shifts):
    key = PlateKey("Batch1", f"Plate{number}")
    measured = draw_fields(np.random.default_rng(number), **shifts)
    judged = assess_plate(
        measured, channels=CHANNELS, key=key, shape=(8, 12), config=QCConfig(min_detail=0)
    )
    with lake.writing(qc_table(key)):
        with lake.draft(qc_table(key)) as path:
            pq.write_table(judged.table, path)
        recipe = Recipe("ingest", 1, inputs or {}, {"plate": number, **shifts})
        lake.publish(qc_table(key), recipe, counts={}, started=datetime.now(UTC))


def read(lake):
    with lake.fetched(drift("Batch1")) as path:
        return pq.read_table(path)


def warned(lake):
    rows = read(lake).to_pylist()
    return {
        (row["plate"], row["channel"], row["measure"], row["reason"])
        for row in rows
        if row["verdict"] == "warn"
    }


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def test_the_plate_that_is_out_of_focus_is_told(lake):
    for number in range(1, 7):
        publish(lake, number, **({"focus": 0.2, "detail": 0.3} if number == 4 else {}))
    ref = judge_batch(lake, "Batch1")
    assert warned(lake) == {
        ("Plate4", "ER", "focus", "low"),
        ("Plate4", "ER", "detail", "low"),
    }
    assert ref.counts == {"plates": 6, "plates_drifted": 1}


def test_a_table_has_a_row_a_plate_channel_and_measure(lake):
    for number in range(1, 5):
        publish(lake, number)
    judge_batch(lake, "Batch1")
    table = read(lake)
    assert table.schema.equals(DRIFT)
    rows = [(row["plate"], row["channel"], row["measure"]) for row in table.to_pylist()]
    wanted = {(f"Plate{n}", "DNA", measure) for n in range(1, 5) for measure in COMPARED}
    wanted |= {(plate, "ER", m) for plate, _, m in wanted if m != "cells"}
    assert rows == sorted(wanted)


def test_the_order_of_ingestion_does_not_matter_and_a_rerun_is_cached(tmp_path):
    tables = set()
    for name, order in enumerate(list(permutations(range(1, 5)))[::7]):
        lake = Lake(tmp_path / str(name))
        for number in order:
            publish(lake, number, background=4 if number == 2 else 1)
        assert judge_batch(lake, "Batch1").computed
        assert not judge_batch(lake, "Batch1").computed
        with lake.fetched(drift("Batch1")) as path:
            tables.add(path.read_bytes())
    assert len(tables) == 1


def test_a_new_plate_and_a_new_threshold_are_judged(lake):
    for number in range(1, 5):
        publish(lake, number)
    keys = {judge_batch(lake, "Batch1").key}
    publish(lake, 5)
    keys.add(judge_batch(lake, "Batch1").key)
    keys.add(judge_batch(lake, "Batch1", config=QCConfig(drift_deviations=3)).key)
    keys.add(judge_batch(lake, "Batch1", config=QCConfig(drift_deviations=3, min_cells=9)).key)
    assert len(keys) == 3


def test_few_plates_are_listed_and_not_judged(lake):
    for number in range(1, 4):
        publish(lake, number, mean=9 if number == 1 else 1)
    judge_batch(lake, "Batch1")
    assert {row["reason"] for row in read(lake).to_pylist()} == {"too_few_plates"}
    assert read(lake)["deviation"].null_count == read(lake).num_rows


def test_a_batch_without_plates_is_refused(lake):
    publish(lake, 1)
    with pytest.raises(InputError, match=r"plates of Batch2 in .* found none published"):
        judge_batch(lake, "Batch2")


def make_medians(values, measure="mean"):
    plates = [f"P{number:02d}" for number in range(len(values))]
    frame = {"experiment": "E", "plate": plates, "channel": "w1", "measure": measure}
    return pd.DataFrame(frame | {"median": np.asarray(values, float)})


def test_a_deviation_is_the_robust_one():
    values = [100, 130, 70, 160, 40, 1000]
    deviations = compare_plates(make_medians(values), QCConfig())["deviation"].to_pylist()
    spread = 1.4826 * np.median(np.abs(np.array(values) - 115))
    assert deviations == pytest.approx((np.array(values) - 115) / spread)


def test_plates_that_differ_by_less_than_half_do_not_warn():
    table = compare_plates(make_medians([100.0, 100, 100, 101, 149, 51]), QCConfig())
    assert set(table["verdict"].to_pylist()) == {"pass"}
    table = compare_plates(make_medians([100.0, 100, 100, 101, 152, 48]), QCConfig())
    assert table["reason"].to_pylist() == ["", "", "", "", "high", "low"]


def test_a_batch_of_zeros_has_no_deviations():
    table = compare_plates(make_medians([0.0] * 5), QCConfig())
    assert table["deviation"].to_pylist() == [None] * 5
    assert set(table["reason"].to_pylist()) == {""}


@pytest.mark.parametrize("n", [4, 8, 20])
def test_plates_that_differ_by_chance_seldom_warn(n):
    """Plates with a tenth of spread: fewer than one of a thousand."""
    rng = np.random.default_rng(0)
    batches = [
        make_medians(rng.normal(100, 10, n), f"m{number:03d}") for number in range(2000 // n)
    ]
    verdicts = compare_plates(pd.concat(batches), QCConfig())["verdict"].to_pylist()
    assert verdicts.count("warn") <= 2
