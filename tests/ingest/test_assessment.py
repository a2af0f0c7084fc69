import numpy as np
import pytest

from phenopipe.config import QCConfig
from phenopipe.ingest.assessment import assess_plate
from phenopipe.ingest.qc import MEASURES
from phenopipe.plates import FieldKey, PlateKey, Well
from phenopipe.schema import PLATE_EFFECTS, QC

CHANNELS = ("ER", "DNA")


@pytest.fixture
def measured():
    """Two fields in each of 96 wells; A01 is saturated in one of them, H12 in both."""
    rng = np.random.default_rng(0)
    fields = {}
    for well in (Well(*place) for place in np.ndindex(8, 12)):
        for number in (1, 2):
            measures = rng.normal(0.4, 0.01, (2, len(MEASURES)))
            measures[:, MEASURES.index("cells")] = (np.nan, 31)
            is_bad = well == Well(7, 11) or (well, number) == (Well(0, 0), 2)
            measures[:, MEASURES.index("saturated")] = (0, 0.3 if is_bad else 0)
            fields[FieldKey(well, number)] = measures
    return fields


def assess(measured, **thresholds):
    key, config = PlateKey("E", "P"), QCConfig(**thresholds)
    return assess_plate(measured, channels=CHANNELS, key=key, shape=(8, 12), config=config)


def test_a_table_has_a_row_a_field_and_channel_with_all_three_verdicts(measured):
    judged = assess(measured)
    rows = judged.table.to_pylist()
    assert judged.table.schema == QC
    assert [(r["well"], r["field"], r["channel"]) for r in rows[:4]] == [
        ("A01", 1, "ER"), ("A01", 1, "DNA"), ("A01", 2, "ER"), ("A01", 2, "DNA"),
    ]  # fmt: skip
    names = ("verdict", "reason", "well_verdict", "well_reason", "plate_verdict", "plate_reason")
    told = {(r["well"], r["field"]): tuple(r[name] for name in names) for r in rows}
    assert told["A01", 1] == ("pass", "", "warn", "saturated", "pass", "")
    assert told["A01", 2] == ("fail", "saturated", "warn", "saturated", "pass", "")
    assert told["H12", 1] == ("fail", "saturated", "fail", "saturated", "pass", "")
    assert told["B02", 1] == ("pass", "", "pass", "", "pass", "")
    assert len(rows) == 96 * 2 * 2


def test_fields_and_plate_are_told_as_in_the_table(measured):
    judged = assess(measured, warn_failed_fields=0.01)
    rows = judged.table.to_pylist()
    assert {(r["well"], r["field"]): (r["verdict"], r["reason"]) for r in rows} == {
        (str(key.well), key.field): verdict for key, verdict in judged.fields.items()
    }
    assert judged.plate == ("warn", "failed_fields,saturated")
    assert {(r["plate_verdict"], r["plate_reason"]) for r in rows} == {judged.plate}


def test_measures_stand_as_they_are_and_null_where_not_known(measured):
    rows = assess(measured).table.to_pylist()
    for row in rows[::37]:
        known = measured[FieldKey(Well.parse(row["well"]), row["field"])]
        wanted = dict(zip(MEASURES, known[CHANNELS.index(row["channel"])], strict=True))
        assert row["cells"] == (31 if row["channel"] == "DNA" else None)
        assert row["focus"] == pytest.approx(wanted["focus"])
        assert row["detail"] == pytest.approx(wanted["detail"])


def test_the_order_of_fields_does_not_matter(measured):
    once, backwards = assess(measured), assess(dict(reversed(measured.items())))
    assert once.table.equals(backwards.table)
    assert once.effects.equals(backwards.effects)
    assert list(once.fields.items()) == list(backwards.fields.items())


def test_one_blank_field_is_a_plate_too():
    blank = np.zeros((2, len(MEASURES)))
    blank[:, [MEASURES.index(name) for name in ("focus", "spectrum_slope", "detail")]] = np.nan
    judged = assess({FieldKey(Well(0, 0), 1): blank})
    assert judged.plate == ("fail", "failed_fields,empty")
    assert judged.effects.schema == PLATE_EFFECTS
    assert judged.table["focus"].null_count == 2
