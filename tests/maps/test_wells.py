import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from phenopipe.config import MapConfig
from phenopipe.embeddings import find_embeddings
from phenopipe.errors import InputError
from phenopipe.lake import Lake
from phenopipe.maps.wells import (
    BROKEN,
    COLUMNS,
    DOUBTED,
    EMPTY,
    NAMELESS,
    NEGATIVE,
    SPARSE,
    UNKNOWN,
    average_wells,
    describe_left_out,
    judge_wells,
    qc_inputs,
    read_plate_wells,
)
from phenopipe.schema import PLATEMAP_COLUMNS
from tests.maps.screens import NEGATIVE as CONTROL
from tests.maps.screens import PLATES, compound, crispr, put_qc, put_wells

KEY = PLATES[0]


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def read(lake, config=None):
    found = find_embeddings(lake, "classical")
    schema = found.unite([name for name in found.column_names if name in COLUMNS])
    return read_plate_wells(found.plates[0], lake=lake, schema=schema, config=config or MapConfig())


def vectors(table):
    return np.array(table["embedding"].to_pylist(), dtype=float)


def test_wells_are_means_of_their_crops(lake):
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    put_wells(lake, KEY, [crispr("TP53", 1), compound("a", 2.0), CONTROL], x, crops=3)
    wells = read(lake).table
    assert wells["well"].to_pylist() == ["A01", "A02", "A03"]
    expected = x.reshape(3, 3, 4).mean(axis=1, dtype=float)
    np.testing.assert_allclose(vectors(wells), expected, rtol=1e-6)
    assert wells["guide"].to_pylist() == ["TP53_1", "", ""]
    assert wells["concentration_um"].to_pylist() == [None, 2.0, None]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_crop_that_is_not_finite_costs_its_well_and_no_other(lake, bad):
    x = np.ones((9, 2), dtype=np.float32)
    x[4, 1] = bad
    put_wells(lake, KEY, [CONTROL] * 3, x, crops=3)
    finite = np.isfinite(vectors(read(lake).table))
    assert finite.tolist() == [[True, True], [True, False], [True, True]]


def test_a_crop_without_a_vector_costs_its_well(lake):
    put_wells(lake, KEY, [CONTROL] * 3, np.array([[1.0, 1.0]] * 6), crops=2)
    found = find_embeddings(lake, "classical")
    (table,) = found.read_plates([name for name in found.column_names if name in COLUMNS])
    lost = [None if k == 3 else row for k, row in enumerate(table["embedding"].to_pylist())]
    column = table.schema.get_field_index("embedding")
    vectors_of_crops = pa.array(lost, table.schema.field(column).type)
    table = table.set_column(column, table.schema.field(column), vectors_of_crops)
    wells = average_wells(table, where="here")
    assert np.isnan(vectors(wells)).all(axis=1).tolist() == [False, True, False]


def test_what_is_left_out_is_counted(lake):
    treatments = [
        crispr("TP53", 1),
        {},
        {"perturbation_type": "empty"},
        {"perturbation_type": "compound"},
        CONTROL,
        CONTROL | {"perturbation": ""},
        crispr("PLK1", 1, control_type="positive"),
    ]
    put_wells(lake, KEY, treatments, np.ones((7, 2)))
    found = read(lake)
    assert found.left_out == {UNKNOWN: 1, EMPTY: 1, NAMELESS: 1}
    assert found.table["well"].to_pylist() == ["A01", "A05", "A06", "A07"]
    assert len(found.table) + sum(found.left_out.values()) == len(treatments)


def test_wells_are_left_out_by_the_plates_qc(lake):
    put_wells(lake, KEY, [CONTROL] * 5, np.ones((5, 2)))
    verdicts = {
        "A01": ("pass", (40, 60)), "A02": ("warn", (50, 60)), "A03": ("fail", (90, 90)),
        "A04": ("pass", (50, None)),
    }  # fmt: skip
    put_qc(lake, KEY, verdicts)
    expected = {
        ("any", None): "A01 A02 A03 A04 A05",
        ("warn", None): "A01 A02 A04",  # of A05 nothing is known
        ("pass", None): "A01 A04",
        ("any", 100): "A01 A02 A03",
        ("pass", 100): "A01",
        ("any", 101): "A02 A03",
    }
    for (verdict, cells), kept in expected.items():
        found = read(lake, MapConfig(well_verdict=verdict, min_cells=cells))
        assert found.table["well"].to_pylist() == kept.split()
        assert sum(found.left_out.values()) == 5 - len(kept.split())
        assert set(found.left_out) <= {DOUBTED, SPARSE}


def test_qc_that_is_asked_for_must_be_there(lake):
    put_wells(lake, KEY, [CONTROL], np.ones((1, 2)))
    plates = find_embeddings(lake, "classical").plates
    assert qc_inputs(lake, plates, MapConfig()) == {}
    with pytest.raises(InputError, match=r"qc/E1/P1.parquet .* leave out min_cells"):
        qc_inputs(lake, plates, MapConfig(min_cells=5))
    put_qc(lake, KEY, {"A01": ("pass", (None, None))})
    assert list(qc_inputs(lake, plates, MapConfig(well_verdict="pass"))) == ["qc/E1/P1.parquet"]
    with pytest.raises(InputError, match=r"numbers of cells in qc/E1/P1.parquet, found none"):
        read(lake, MapConfig(min_cells=5))


def test_text_that_is_no_level_of_expression_is_named(lake):
    put_wells(lake, KEY, [crispr("TP53", 1)], np.ones((1, 2)))
    found = find_embeddings(lake, "classical")
    (table,) = found.read_plates([name for name in found.column_names if name in COLUMNS])
    for text, level in (("-3.5", -3.5), ("", None)):
        told = table.set_column(table.column_names.index("zfpkm"), "zfpkm", [[text]])
        (read_level,) = average_wells(told, where="here")["zfpkm"].to_pylist()
        assert read_level == level or (level is None and np.isnan(read_level))
    with pytest.raises(InputError, match="numbers as zfpkm in here, found 'high'"):
        average_wells(
            table.set_column(table.column_names.index("zfpkm"), "zfpkm", [["high"]]), where="here"
        )


def test_each_well_has_one_reason_at_most():
    blank = dict.fromkeys(PLATEMAP_COLUMNS, "")
    rows = pd.DataFrame([blank | {"well": "A01"}, blank | {"well": "A02", "gene": "TP53"}])
    qc = pd.DataFrame({"well_verdict": ["fail", "fail"], "cells": [0, 0]}, index=["A01", "A02"])
    config = MapConfig(well_verdict="pass", min_cells=3)
    assert judge_wells(rows, qc, config).tolist() == [UNKNOWN, DOUBTED]


def test_exclusions_are_told_in_one_order_without_what_is_none():
    told = describe_left_out({NEGATIVE: 3, BROKEN: 0, SPARSE: 2}, MapConfig(min_cells=50))
    assert [(item["what"], item["count"]) for item in told] == [(SPARSE, 2), (NEGATIVE, 3)]
    assert "fewer than 50 cells" in told[0]["why"]
