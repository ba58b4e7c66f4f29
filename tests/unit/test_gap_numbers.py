"""Which numbers came and which are missing, against an account that is a set of numbers for each symbol."""

from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from k2.feeds.gaps.numbers import FAR, GIANT, MOST_RANGES, Numbers
from k2.model.missing import MissingNumbers, MissingRange

SECOND = 1_000_000
START = 1_700_000_000 * SECOND


def trades(rows):
    """Trades of (symbol, number, time in µs after the start)."""
    return pa.record_batch(
        {
            "symbol": pa.array([row[0] for row in rows], pa.string()),
            "source_sequence": pa.array([row[1] for row in rows], pa.int64()),
            "timestamp": pa.array([START + row[2] for row in rows], pa.timestamp("us", tz="UTC")),
        }
    )


def of(symbol, *numbers):
    """Trades a tenth of a second apart, each at the time of its number."""
    return trades([(symbol, number, number * SECOND // 10) for number in numbers])


def as_set(ranges):
    return {number for each in ranges for number in range(each.first, each.last + 1)}


spans = st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(st.tuples(st.booleans(), spans), max_size=40))
def test_ranges_of_missing_numbers_are_the_set_of_them(steps):
    held, model = MissingNumbers(), set()
    for adds, (first, last) in steps:
        numbers = set(range(first, last + 1))
        if adds:
            held.add(MissingRange(first, last))
            model |= numbers
        else:
            assert as_set(held.within(first, last)) == model & numbers
            assert as_set(held.take(first, last)) == model & numbers
            model -= numbers
        assert as_set(held) == model
        assert held.count == len(model)
        ranges = list(held)
        assert all(left.last < right.first for left, right in pairwise(ranges))


events = st.tuples(st.sampled_from("AB"), st.integers(1, 60))
batches = st.lists(st.tuples(st.booleans(), st.lists(events, min_size=1, max_size=15)), max_size=12)


@given(batches)
def test_what_is_missing_is_what_lies_between_the_lowest_and_the_highest_and_did_not_come(given_batches):
    numbers, lowest, came = Numbers(), {}, {}
    for asked_for, rows in given_batches:
        before = {symbol: as_set(numbers.missing(symbol)) for symbol in "AB"}
        changes = numbers.see(
            trades([(symbol, number, number * SECOND // 10) for symbol, number in rows]), 7, only_missing=asked_for
        )
        for symbol in {symbol for symbol, _ in rows}:
            new = {number for name, number in rows if name == symbol}
            if asked_for:
                came.setdefault(symbol, set()).update(new & before[symbol])
                continue
            lowest.setdefault(symbol, min(new))
            came.setdefault(symbol, set()).update(new)
        for symbol, low in lowest.items():
            expected = {number for number in range(low, max(came[symbol]) + 1) if number not in came[symbol]}
            now = as_set(numbers.missing(symbol))
            assert now == expected
            assert numbers.highest(symbol) == max(came[symbol])
            opened = as_set(each for name, each in changes.opened if name == symbol)
            closed = as_set(each for name, each in changes.closed if name == symbol)
            assert now == (before[symbol] | opened) - closed
            assert closed <= before[symbol]
            assert not opened & closed
    assert {symbol for symbol in "AB" if numbers.highest(symbol) is not None} == set(lowest)


def test_a_hole_stands_between_the_times_of_the_trades_beside_it_until_it_is_closed_in_parts():
    numbers = Numbers()
    numbers.see(of("A", 10, 11), 1)
    (found,) = numbers.see(of("A", 20, 21), 2).opened
    assert found == ("A", MissingRange(12, 19, START + 1_100_000, START + 2_000_000, 2))
    closed = numbers.see(of("A", 15, 14, 14), 3).closed
    assert [(each.first, each.last) for _, each in closed] == [(14, 15)]
    assert [(each.first, each.last) for each in numbers.missing("A")] == [(12, 13), (16, 19)]
    assert {each.since for each in numbers.missing("A")} == {2}


def test_numbers_that_begin_again_are_told_and_leave_no_hole():
    numbers = Numbers()
    numbers.see(of("A", 5_000, 5_001, 5_003), 1)
    changes = numbers.see(trades([("A", 1, 600 * SECOND), ("A", 2, 600 * SECOND), ("A", 4, 601 * SECOND)]), 2)
    (begun,) = changes.begun
    assert (begun.symbol, begun.first, begun.last) == ("A", 1, 5_003)
    assert as_set(begun.given_up) == {5_002}
    assert as_set(numbers.missing("A")) == {3}
    # A trade of the former numbering that comes late is neither a jump nor a third beginning.
    assert not numbers.see(trades([("A", 5_004, 500 * SECOND)]), 3).opened
    assert numbers.highest("A") == 4


def test_a_numbering_may_begin_with_zero():
    numbers = Numbers()
    numbers.see(of("A", 900), 1)
    changes = numbers.see(trades([("A", 0, 95 * SECOND), ("A", 1, 95 * SECOND)]), 2)
    assert [each.first for each in changes.begun] == [0]
    assert numbers.highest("A") == 1
    assert not list(numbers.missing("A"))


def test_an_old_trade_that_comes_again_is_no_new_numbering():
    numbers = Numbers()
    numbers.see(of("A", *range(1, 1_000)), 1)
    changes = numbers.see(of("A", 1, 2, 1_000), 2)
    assert not changes.begun
    assert not changes.opened
    assert numbers.highest("A") == 1_000


def test_a_jump_that_no_exchange_can_have_traded_is_a_new_numbering_and_a_long_absence_is_a_hole():
    numbers = Numbers()
    numbers.see(of("A", 10), 1)
    far = 10 + 50 * GIANT
    assert [each.first for each in numbers.see(trades([("A", far, 2 * SECOND)]), 2).begun] == [far]
    after_hours = numbers.see(trades([("A", far + 3 * GIANT, 40_000 * SECOND)]), 3)
    assert not after_hours.begun
    assert [each.count for _, each in after_hours.opened] == [3 * GIANT - 1]


def test_a_snapshot_in_any_order_starts_no_numbering():
    numbers = Numbers()
    numbers.see(of("A", 500), 1)
    rows = [("A", number, 300 * SECOND - number) for number in range(600, 300, -1)]
    changes = numbers.see(trades(rows), 2, in_order=False)
    assert not changes.begun
    assert not changes.opened
    assert numbers.highest("A") == 600


def test_trades_without_a_number_or_below_zero_are_not_looked_at():
    numbers = Numbers()
    changes = numbers.see(trades([("A", None, 1), ("A", -5, 2), (None, 3, 3)]), 1)
    assert not changes.opened
    assert numbers.highest("A") is None


def test_what_was_asked_for_tells_nothing_new():
    numbers = Numbers()
    numbers.see(of("A", 1, 5), 1)
    changes = numbers.see(of("A", 3, 9), 2, only_missing=True)
    assert [(each.first, each.last) for _, each in changes.closed] == [(3, 3)]
    assert numbers.highest("A") == 5


def test_more_holes_than_can_be_held_are_given_up_oldest_first():
    numbers = Numbers()
    changes = numbers.see(of("A", *range(1, 2 * MOST_RANGES + 6, 2)), 1)
    assert len(numbers.missing("A")) == MOST_RANGES
    assert [(each.first, each.last) for _, each in changes.given_up] == [(2, 2), (4, 4)]


def test_far_is_more_than_out_of_order():
    numbers = Numbers()
    numbers.see(of("A", *range(1, FAR + 2)), 1)
    # Newer by hours, and not so far below that it could not be a trade that came late with a wrong time.
    assert not numbers.see(trades([("A", 2, 9_000 * SECOND)]), 2).begun
