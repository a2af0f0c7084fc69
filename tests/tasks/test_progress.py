"""How far a stage is, in the terminal; no server is needed for this, and none is started."""

import io
import threading

import pytest
from rich.console import Console

from tasks.progress import progress_bars, show_outcome, show_progress


@pytest.fixture
def bars(monkeypatch):
    monkeypatch.setattr("rich._console", Console(file=io.StringIO()))
    with progress_bars() as bars:
        yield bars


def test_each_stage_has_a_bar_that_follows_it(bars):
    with show_progress("ingest E/P") as on_progress:
        on_progress(3, 8)
        with show_progress("embed E/Q"):
            pass
    first, second = bars.tasks
    assert (first.description, first.completed, first.total) == ("ingest E/P", 3, 8)
    assert (second.completed, second.total) == (0, None)


def test_the_outcome_stands_behind_a_full_bar(bars):
    with show_progress("ingest E/P") as on_progress:
        on_progress(3, 8)
    show_outcome("ingest E/P", "cached")
    (bar,) = bars.tasks
    assert (bar.completed, bar.fields["outcome"]) == (8, "cached")


def test_without_a_terminal_and_a_run_it_costs_nothing():
    before = threading.active_count()
    with show_progress("embed E/P", every_s=0) as on_progress:
        on_progress(1, 2)
        assert threading.active_count() == before
