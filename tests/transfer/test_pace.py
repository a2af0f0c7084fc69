"""The rate limit, by a clock of its own."""

import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phenopipe.transfer import Pace
from phenopipe.transfer import pace as pace_module


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def make_event(self):
        return SimpleNamespace(wait=self.wait, set=lambda: None)

    def wait(self, seconds):
        self.now += seconds
        return False


def clock_of(patch):
    clock = Clock()
    patch.setattr(pace_module, "time", clock)
    fake = SimpleNamespace(Lock=threading.Lock, Event=clock.make_event)
    patch.setattr(pace_module, "threading", fake)
    return clock


def send(clock, pace, sizes, pauses):
    """Send files, with pauses between; gives when each started."""
    starts = []
    for size, pause in zip(sizes, pauses, strict=True):
        clock.now += pause
        pace.wait(size)
        starts.append(clock.now)
    return starts


files = st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 50)), min_size=1, max_size=20)


@given(files=files, rate=st.floats(1e3, 1e9))
def test_never_more_is_sent_than_the_rate_allows(files, rate):
    with pytest.MonkeyPatch.context() as patch:
        clock = clock_of(patch)
        sizes, pauses = zip(*files, strict=True)
        starts = send(clock, Pace(rate), sizes, pauses)
    for first in range(len(starts)):
        for last in range(first + 1, len(starts)):
            before = sum(sizes[first:last])
            assert before <= rate * (starts[last] - starts[first]) * (1 + 1e-6) + 1


def test_it_takes_as_long_as_the_rate_says():
    with pytest.MonkeyPatch.context() as patch:
        clock = clock_of(patch)
        starts = send(clock, Pace(10e6), [5_000_000] * 5, [0] * 5)
    assert starts == pytest.approx([0, 0.5, 1.0, 1.5, 2.0])


def test_time_that_nobody_used_is_not_saved_up():
    with pytest.MonkeyPatch.context() as patch:
        clock = clock_of(patch)
        starts = send(clock, Pace(1e6), [10**6] * 4, [0, 100, 0, 0])
    assert starts == pytest.approx([0, 100, 101, 102])


def test_without_a_rate_nobody_waits():
    with pytest.MonkeyPatch.context() as patch:
        clock = clock_of(patch)
        assert send(clock, Pace(), [10**12] * 3, [0] * 3) == [0, 0, 0]


def test_who_waits_is_woken_when_it_is_stopped():
    pace, told = Pace(1.0), []
    pace.wait(10**9)

    def wait():
        with pytest.raises(InterruptedError, match="it goes on from here"):
            pace.wait(1)
        told.append(1)

    waiting = threading.Thread(target=wait)
    waiting.start()
    pace.stop()
    waiting.join(10)
    assert told
