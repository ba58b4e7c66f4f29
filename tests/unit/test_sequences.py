"""Gaps, new beginnings and late numbers of a source's sequence, against an account that looks at one event after the other."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.exchanges import exchange
from k2.model.trading_days import day_of, day_starts
from k2.sink.sequences import FAR, MOST_NAMED, SLACK_US, SequenceGap, SequenceTracker

ASX = exchange("ASX")
MIDNIGHT = int(ASX.trading_day(date(2026, 3, 2))[0].timestamp()) * 1_000_000
DAY = 86_400_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOWEST, HIGHEST = -(2**63), 2**63 - 1


def table(events):
    """Events are (symbol, number, time since midnight in µs[, exchange]); a symbol's partition is its name's length."""
    rows = [(*event, "ASX")[:4] for event in events]
    return pa.table(
        {
            "symbol": pa.array([row[0] for row in rows], pa.string()).dictionary_encode(),
            "exchange": pa.array([row[3] for row in rows], pa.string()).dictionary_encode(),
            "source_sequence": pa.array([row[1] for row in rows], pa.int64()),
            "timestamp": pa.array([MIDNIGHT + row[2] for row in rows], pa.timestamp("us", tz="UTC")),
            "kafka_partition": pa.array([len(row[0]) for row in rows], pa.int32()),
        }
    )


def follow(tracker, *batches, at=0):
    """What the tracker says of batches that follow each other without a break."""
    found = []
    for events in batches:
        found.append(tracker.see(table(events), {p: (at, at + len(events)) for p in range(1, 6)}))
        at += len(events)
    return found


def naive(events):
    """(gaps by partition, missing, resets, late, gaps one by one), looking at one event after the other."""
    known, gaps, missing, resets, late, named = {}, Counter(), 0, 0, 0, []
    for symbol, number, time, code in ((*event, "ASX")[:4] for event in events):
        if number is None:
            continue
        moment = EPOCH + timedelta(microseconds=MIDNIGHT + time)
        start = int(ASX.trading_day(moment.astimezone(ASX.zone).date())[0].timestamp()) * 1_000_000
        if (code, symbol) not in known:
            known[code, symbol] = (number, number, start)
            continue
        high, last, newest = known[code, symbol]
        if MIDNIGHT + time < newest - SLACK_US:
            late += 1
            continue
        anew = start > newest or (number <= 1 and last > number + FAR)
        if number > high:
            if number > high + 1:
                gaps[len(symbol)] += 1
                missing += number - high - 1
                named.append(SequenceGap(code, symbol, high, number))
            high = number
        elif anew:
            resets += 1
            high = number
        else:
            late += 1
        known[code, symbol] = (high, number, max(start, newest))
    return dict(gaps), missing, resets, late, named


def summed(found):
    gaps = sum((Counter(each.gaps) for each in found), Counter())
    return dict(gaps), *(sum(getattr(each, name) for each in found) for name in ("missing", "resets", "late"))


NUMBERS = (
    st.none()
    | st.integers(0, 12)
    | st.integers(100, 140)
    | st.sampled_from([-5, LOWEST, LOWEST + 1, HIGHEST - 1, HIGHEST])
)
TIMES = st.sampled_from(
    [0, 1, DAY - 1, DAY, DAY - SLACK_US, DAY - SLACK_US - 1, DAY - 2 * SLACK_US, 2 * DAY, 2 * DAY + 5, 40 * DAY, -DAY]
)
MOMENTS = st.integers(0, 5_000_000_000).map(lambda second: EPOCH + timedelta(seconds=second))
EVENTS = st.lists(st.tuples(st.sampled_from(["A", "B", "CC"]), NUMBERS, TIMES, st.sampled_from(["ASX", "LSE"])))


@given(EVENTS, st.lists(st.integers(0, 40), max_size=4))
def test_however_events_are_cut_into_batches_each_is_judged_as_if_looked_at_alone(events, cuts):
    edges = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    batches = [events[start:stop] for start, stop in pairwise(edges)]
    found = follow(SequenceTracker(ASX), *batches)
    *counts, named = naive(events)
    assert summed(found) == tuple(counts)
    assert {gap for each in found for gap in each.named} <= set(named)
    assert all(len(each.named) == min(MOST_NAMED, sum(each.gaps.values())) for each in found)


@given(st.lists(st.tuples(st.sampled_from(["A", "B", "CC"]), st.integers(-3, 3), st.just(0)), max_size=60))
def test_numbers_that_go_up_by_one_with_some_left_out_are_missed_exactly(steps):
    high, events, missing = {}, [], 0
    for symbol, step, time in steps:
        number = high.get(symbol, 10_000) + max(step, 1)
        missing += max(step, 1) - 1 if symbol in high else 0
        high[symbol] = number
        events.append((symbol, number, time))
    (found,) = follow(SequenceTracker(ASX), events)
    assert (found.missing, found.late, found.resets) == (missing, 0, 0)


def test_a_gap_is_told_with_its_symbol_and_the_numbers_at_both_sides():
    first, second = follow(
        SequenceTracker(ASX), [("A", 7, 0), ("BB", 3, 0), ("A", 8, 1)], [("BB", 4, 2), ("A", 12, 3), ("A", 13, 4)]
    )
    assert (first.gaps, first.named) == ({}, ())
    assert (second.gaps, second.missing, second.named) == ({1: 1}, 3, (SequenceGap("ASX", "A", 8, 12),))
    assert second.named[0].missing == 3


def test_a_numbering_that_begins_anew_each_day_has_no_gap_and_yesterdays_stragglers_are_late():
    day, tomorrow = [("A", n, n) for n in range(1, 500)], [("A", n, DAY + n) for n in range(1, 50)]
    _, found = follow(SequenceTracker(ASX), day, [*tomorrow[:20], ("A", 600, 700), *tomorrow[20:]])
    assert (found.gaps, found.resets, found.late) == ({}, 1, 1)


def test_a_numbering_that_begins_anew_within_a_day_has_no_gap():
    (found,) = follow(SequenceTracker(ASX), [("A", n, 0) for n in (500, 501, 0, 1, 2, 4)])
    assert (found.resets, found.missing, found.late) == (1, 1, 0)


def test_a_low_number_shortly_after_another_is_late_and_one_far_below_begins_anew():
    (near,) = follow(SequenceTracker(ASX), [("A", FAR + 1, 0), ("A", 1, 0)])
    assert (near.resets, near.late) == (0, 1)
    (far,) = follow(SequenceTracker(ASX), [("A", FAR + 2, 0), ("A", 1, 0)])
    assert (far.resets, far.late) == (1, 0)
    (no_beginning,) = follow(SequenceTracker(ASX), [("A", 10 * FAR, 0), ("A", 2, 0)])
    assert (no_beginning.resets, no_beginning.late) == (0, 1)


def test_a_trading_day_is_the_exchanges_where_the_suns_day_ends_within_a_session():
    """A late number right after midnight in UTC, noon in Sydney, is no new beginning."""
    noon = 11 * 3_600_000_000
    events = [("A", 700, noon - 1), ("A", 698, noon + 1), ("A", 701, noon + 2)]
    (here,) = follow(SequenceTracker(ASX), events)
    assert (here.gaps, here.resets, here.late) == ({}, 0, 1)
    (there,) = follow(SequenceTracker(None), events)
    assert (there.gaps, there.resets, there.late) == ({1: 1}, 1, 0)


def test_of_a_partition_that_somebody_else_has_read_a_part_of_nothing_is_claimed():
    tracker = SequenceTracker(ASX)
    tracker.see(table([("A", 5, 0), ("BB", 5, 0)]), {1: (0, 1), 2: (0, 1)})
    found = tracker.see(table([("A", 9, 1), ("BB", 9, 1)]), {1: (3, 4), 2: (1, 2)})
    assert (found.gaps, found.named) == ({2: 1}, (SequenceGap("ASX", "BB", 5, 9),))
    assert tracker.see(table([("A", 11, 2)]), {1: (4, 5)}).gaps == {1: 1}


def test_beyond_its_bound_the_tracker_forgets_those_that_were_silent_longest():
    tracker = SequenceTracker(ASX, most_symbols=10)
    for at in range(50):
        tracker.see(table([(chr(65 + at), 1, 0), ("a", at + 1, 0)]), {1: (2 * at, 2 * at + 2)})
        assert len(tracker) <= 10
    assert tracker.see(table([("a", 53, 0), (chr(65 + 49), 5, 0), ("A", 9, 0)]), {1: (100, 103)}).missing == 2 + 3


def test_numbers_without_an_end_and_batches_without_numbers_are_taken_as_they_are():
    tracker = SequenceTracker(ASX)
    empty, nothing, far = follow(tracker, [], [("A", None, 0)], [("A", LOWEST, 0), ("A", HIGHEST, 0)])
    assert (empty.gaps, nothing.gaps) == ({}, {})
    assert far.missing == 2**64 - 2


@pytest.mark.parametrize("code", ["ASX", "NYSE", "LSE", "BINANCE"])
@given(st.lists(MOMENTS, min_size=1, max_size=20))
def test_trading_days_begin_at_the_exchanges_midnight_whatever_its_clocks_do(code, moments):
    known = exchange(code)
    times = [(moment - EPOCH) // timedelta(microseconds=1) for moment in moments]
    found = day_starts(np.array(times, dtype=np.int64), known).tolist()
    for moment, start in zip(moments, found, strict=True):
        day = moment.astimezone(known.zone).date()
        assert start == int(known.trading_day(day)[0].timestamp()) * 1_000_000
        assert day_of(start, known) == day


def test_times_that_no_calendar_has_do_no_harm():
    times = np.array([LOWEST + DAY, 0, HIGHEST - DAY], dtype=np.int64)
    assert day_starts(times, ASX)[1] == int(ASX.trading_day(date(1970, 1, 1))[0].timestamp()) * 1_000_000
    assert len(day_starts(times, None)) == 3
