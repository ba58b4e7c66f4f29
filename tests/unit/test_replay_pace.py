"""When events are due."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.errors import UserError
from k2.query.asked.pace import Pace, Schedule

SECOND = 1_000_000


def test_by_factor_an_event_is_due_at_its_own_distance_from_the_first_divided_by_it():
    schedule = Schedule(Pace(factor=10), began=100.0, anchor_us=5 * SECOND)
    times = np.array([5, 6, 15]) * SECOND
    assert schedule.due(times, 100.0) == (1, pytest.approx(0.1))
    assert schedule.due(times, 100.1) == (2, pytest.approx(0.9))
    assert schedule.due(times, 101.0) == (3, 0.0)


def test_by_rate_rows_are_due_one_after_the_other():
    schedule = Schedule(Pace(rate=4), began=0.0, anchor_us=0)
    times = np.zeros(10, np.int64)
    assert schedule.due(times, 0.0) == (1, pytest.approx(0.25))
    assert schedule.due(times, 1.0) == (5, pytest.approx(0.25))
    assert schedule.after(5).due(times[5:], 1.0) == (0, pytest.approx(0.25))


def test_unpaced_everything_is_due_at_once():
    assert Schedule(Pace(), 0.0, 0).due(np.arange(7), 0.0) == (7, 0.0)


def test_a_pause_moves_what_follows_and_nothing_else():
    schedule = Schedule(Pace(factor=1), 0.0, 0).held_up(30.0)
    assert schedule.due(np.array([0, SECOND]), 30.5) == (1, pytest.approx(0.5))


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), 1e10])
def test_a_pace_that_is_none_is_refused(wrong):
    with pytest.raises(UserError):
        Pace(factor=wrong)
    with pytest.raises(UserError):
        Pace(rate=wrong)


def test_a_factor_and_a_rate_exclude_each_other():
    with pytest.raises(UserError):
        Pace(factor=1, rate=1)


@given(
    st.lists(st.integers(0, 100 * SECOND), min_size=1, max_size=50),
    st.one_of(
        st.builds(Pace, factor=st.floats(0.1, 1000)),
        st.builds(Pace, rate=st.floats(0.1, 1000)),
    ),
)
def test_whoever_waits_as_told_gets_every_row_once_and_none_early(gaps, pace):
    times = np.cumsum(gaps)
    schedule = Schedule(pace, 0.0, int(times[0]))
    now, given_rows = 0.0, 0
    while given_rows < len(times):
        ready, wait = schedule.due(times[given_rows:], now)
        for row in range(given_rows, given_rows + ready):
            due = row / pace.rate if pace.rate else (times[row] - times[0]) / SECOND / pace.factor
            assert now >= due - 1e-5
        given_rows += ready
        schedule = schedule.after(ready)
        if given_rows < len(times):
            assert ready or wait > 0
            now += wait + 1e-6
