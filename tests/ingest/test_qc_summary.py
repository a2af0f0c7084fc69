"""QC in a page and in a line, held against the tables that it is made of."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phenopipe.config import QCConfig
from phenopipe.errors import InputError
from phenopipe.ingest import read_verdict, summarise_plate
from phenopipe.ingest.assessment import assess_plate
from phenopipe.ingest.qc import MEASURES
from phenopipe.ingest.verdicts import Verdict
from phenopipe.lake import Lake, Recipe, ledger, qc_table
from phenopipe.plates import FieldKey, PlateKey, Well
from phenopipe.schema import LEDGER, QC

KEY = PlateKey("Batch1", "Plate1")
USUAL = {"mean": 900, "background": 300, "foreground": 0.4, "saturated": 0.0, "focus": 0.2,
         "spectrum_slope": -3.0, "detail": 0.4, "cells": 40}  # fmt: skip


def assess(*, empty=()):
    """Judge two fields in each of 12 wells, of two channels; wells by column that show nothing."""
    measured = {}
    for column in range(12):
        for field in (1, 2):
            measures = np.tile([USUAL[name] for name in MEASURES], (2, 1))
            measures[:, MEASURES.index("mean")] += column
            measures[1, MEASURES.index("cells")] = np.nan
            if column in empty:
                measures[:, MEASURES.index("foreground")] = 0
            measured[FieldKey(Well(0, column), field)] = measures
    judged = assess_plate(
        measured, channels=("DNA", "ER"), key=KEY, shape=(8, 12), config=QCConfig()
    )
    return judged.table


def publish(lake, table, *, missing=0):
    rows = [dict.fromkeys(LEDGER.names) | {"path": "", "verdict": "missing"}] * missing
    rows += [dict.fromkeys(LEDGER.names) | {"path": "a.tif", "verdict": "ok"}]
    told = {qc_table(KEY): table, ledger(KEY): pa.Table.from_pylist(rows, schema=LEDGER)}
    for thing, content in told.items():
        with lake.writing(thing):
            with lake.draft(thing) as path:
                pq.write_table(content, path)
            recipe = Recipe("ingest", 1, {}, {})
            lake.publish(thing, recipe, counts={}, started=datetime.now(UTC))


def test_a_plate_on_a_page(tmp_path):
    lake, table = Lake(tmp_path), assess(empty=(3, 7))
    publish(lake, table, missing=5)
    page = summarise_plate(lake, KEY)
    assert (page.fields, page.failed, page.missing) == (24, 4, 5)
    assert page.verdict == Verdict("warn", "failed_fields,empty")
    assert page.wells == {Verdict("fail", "empty"): ["A04", "A08"]}
    for told in page.channels:
        rows = table.to_pandas().query("channel == @told['channel']")
        assert told["mean"] == pytest.approx(rows["mean"].median())
    assert [told["cells"] is None for told in page.channels] == [False, True]


def test_the_verdict_alone_is_that_of_the_page(root):
    lake = Lake(root)
    assert read_verdict(lake, KEY) is None
    publish(lake, assess(empty=range(6)))
    assert read_verdict(lake, KEY) == summarise_plate(lake, KEY).verdict
    assert read_verdict(lake, KEY).verdict == "fail"


def test_a_table_without_rows_is_refused_in_words(tmp_path):
    publish(Lake(tmp_path), QC.empty_table())
    with pytest.raises(InputError, match=r"expected a verdict in qc/Batch1/Plate1\.parquet"):
        read_verdict(Lake(tmp_path), KEY)


def test_a_plate_that_is_not_there_has_no_page(tmp_path):
    with pytest.raises(InputError, match=r"expected qc/Batch1/Plate1\.parquet"):
        summarise_plate(Lake(tmp_path), KEY)
