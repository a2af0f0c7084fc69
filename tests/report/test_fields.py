import numpy as np
import pytest

from phenopipe.report.fields import judge_fields, judge_wells, list_losses, measure_wells
from phenopipe.report.sources import PlateFacts
from tests.report.conftest import BAD, N_FIELDS, PLATES, draw_ledger, draw_qc, plate_wells


@pytest.fixture(params=PLATES, ids=str)
def plate(request):
    qc = draw_qc(request.param, np.random.default_rng(1))
    return PlateFacts(request.param, qc, draw_ledger(request.param), n_crops=0)


def test_each_field_of_the_folder_is_judged_once(plate):
    fields = judge_fields(plate)

    assert len(fields) == N_FIELDS * len(plate_wells())
    assert not fields.duplicated(["well", "field"]).any()
    left_out = {(row.well, row.field) for row in fields[~fields["kept"]].itertuples()}
    assert left_out == {bad[1:3] for bad in BAD if bad[0] == plate.key}


def test_a_well_is_lost_only_with_all_its_fields(plate):
    states = judge_wells(judge_fields(plate))
    bad = [entry[1] for entry in BAD if entry[0] == plate.key]

    assert {w: states[w] for w in bad} == {
        w: "lost" if bad.count(w) == N_FIELDS else "part" for w in bad
    }
    assert states["F07"] == "warn"
    assert (states.drop([*bad, "F07"]) == "pass").all()


def test_a_field_filled_in_for_a_missing_file_is_listed_as_kept(plate):
    faulty = plate.ledger["well"].eq("B02") & plate.ledger["channel"].eq("ER")
    plate.ledger.loc[faulty, ["verdict", "reason"]] = ["missing", "no file of w2, zeros instead"]
    fields = judge_fields(plate)

    listed = [loss for loss in list_losses(plate, fields) if loss.well == "B02"]
    assert [(loss.field, loss.kept) for loss in listed] == [("1", True), ("2", True)]
    assert fields.loc[fields["well"].eq("B02"), "kept"].all()


def test_a_field_that_only_qc_failed_is_listed(plate):
    plate.qc.loc[plate.qc["well"].eq("B02"), ["verdict", "reason"]] = ["fail", "12% saturated"]

    listed = [loss for loss in list_losses(plate, judge_fields(plate)) if loss.well == "B02"]
    assert [(loss.verdict, loss.reason, loss.kept) for loss in listed] == [
        ("failed QC", "12% saturated", False)
    ] * N_FIELDS


def test_a_faulty_file_of_no_known_field_is_listed(plate):
    plate.ledger.loc[len(plate.ledger) - 1, ["verdict", "reason"]] = ["unreadable", "no TIFF"]

    listed = [loss for loss in list_losses(plate, judge_fields(plate)) if not loss.well]
    assert [(loss.verdict, loss.files, loss.field) for loss in listed] == [
        ("unreadable", ("Thumbs.db",), "")
    ]


def test_focus_is_the_worst_channels_robust_deviation(plate):
    channel = plate.qc["channel"].eq("ER")
    plate.qc.loc[channel & plate.qc["well"].eq("B02"), "focus"] = 0.5
    er = np.log(plate.qc.loc[channel, "focus"].to_numpy(dtype=float))
    spread = 1.4826 * np.median(np.abs(er - np.median(er)))

    found = measure_wells(plate.qc)["focus"]["B02"]
    assert found == pytest.approx((np.log(0.5) - np.median(er)) / spread, rel=1e-5)


def test_even_focus_has_no_deviation(plate):
    plate.qc["focus"] = np.float32(3.0)

    assert measure_wells(plate.qc)["focus"].isna().all()
