"""What no flow does: end in a traceback for bad input, or come back for ever."""

import pytest
from prefect.states import Completed

from flows.guard import MOST_RUNS, guarded
from phenopipe.errors import InputError


@guarded
def run(text):
    if text == "bad":
        raise InputError("expected good input, found bad: give other")
    return Completed(message=f"{1 / len(text):.1f}")


def test_bad_input_ends_in_the_librarys_sentence_and_a_bug_is_raised():
    assert run("ok").message == "0.5"
    state = run("bad")
    assert state.is_failed()
    assert state.message == "expected good input, found bad: give other"
    with pytest.raises(ZeroDivisionError):
        run("")


def test_a_run_that_never_comes_to_its_end_is_not_started_for_ever(monkeypatch):
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", str(MOST_RUNS))
    assert run("ok").is_completed()
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", str(MOST_RUNS + 1))
    state = run("ok")
    assert state.is_failed()
    assert f"Started {MOST_RUNS + 1} times" in state.message
