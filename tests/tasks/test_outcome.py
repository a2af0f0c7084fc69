"""How a stage task ends, as Prefect sees it; no server is needed for this."""

import pytest
from distributed import KilledWorker
from prefect.states import Failed

from phenopipe.errors import InputError
from phenopipe.lake import PlateRef
from tasks.outcome import RETRIES, find_news, run_stage

REF = {
    "experiment": "E",
    "plate": "P",
    "thing": "qc/E/P.parquet",
    "key": "ab",
    "counts": {"rows": 9},
}


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (OSError("stale file handle"), True),
        (KilledWorker("task", None, 3), True),
        (InputError("expected 6 channels, found 5"), False),
        (ValueError("a bug"), False),
    ],
)
def test_only_what_can_pass_is_tried_again(error, again):
    assert RETRIES["retry_condition_fn"](None, None, Failed(data=error)) is again


def test_a_stage_that_worked_is_completed_with_its_counts():
    state = run_stage("qc", lambda _progress: PlateRef(computed=True, **REF))
    assert (state.name, state.message) == ("Completed", "qc/E/P.parquet: 9 rows")


def test_a_stage_that_found_its_work_published_is_cached():
    assert run_stage("qc", lambda _progress: PlateRef(computed=False, **REF)).name == "Cached"


def test_bad_input_fails_in_the_librarys_words():
    def stage(_progress):
        raise InputError("expected 6 channels, found 5")

    state = run_stage("qc", stage)
    assert state.is_failed()
    assert state.message == "expected 6 channels, found 5"


def test_a_bug_is_raised():
    with pytest.raises(ZeroDivisionError):
        run_stage("qc", lambda _progress: 1 // 0)


def test_only_what_was_computed_now_is_news():
    new = PlateRef(computed=True, **REF)
    assert find_news(run_stage("qc", lambda _progress: new)) == new
    assert find_news(run_stage("qc", lambda _progress: PlateRef(computed=False, **REF))) is None
    assert find_news(Failed(message="expected 6 channels")) is None
