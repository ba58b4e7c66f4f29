"""The side that began a trade: quote rule and tick test, example by example and beside the rule as it is told."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from k2.query.aggregates.lee_ready import sides, tick_signs


def ints(*values):
    return np.array(values, np.int64)


def test_above_the_middle_is_bought_and_below_it_sold():
    found = sides(ints(11, 9, 10, 12), ints(9, 9, 9, 9), ints(11, 11, 11, 11), np.ones(4, bool), ints(0, 0, 0, 0))
    assert found.tolist() == ["BUY", "SELL", "UNKNOWN", "BUY"]


def test_at_the_middle_the_tick_test_decides():
    bid, ask = np.full(5, 9), np.full(5, 11)
    price = ints(9, 10, 10, 11, 10)
    tick = tick_signs(price, np.zeros(5, np.int64))
    assert tick.tolist() == [0, 1, 1, 1, -1]
    assert sides(price, bid, ask, np.ones(5, bool), tick).tolist() == ["SELL", "BUY", "BUY", "BUY", "SELL"]


def test_without_a_usable_quote_nothing_is_told():
    found = sides(ints(11, 9), ints(9, 9), ints(11, 11), np.zeros(2, bool), ints(1, -1))
    assert found.tolist() == ["UNKNOWN", "UNKNOWN"]


def test_half_a_unit_from_the_middle_is_not_at_it():
    assert sides(ints(10), ints(9), ints(12), np.ones(1, bool), ints(1)).tolist() == ["SELL"]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=40), st.integers(-1, 1))
def test_the_tick_test_compares_with_the_last_other_price_of_its_group(trades, earlier):
    trades.sort(key=lambda pair: pair[0])
    group, price = ints(*(g for g, _ in trades)), ints(*(p for _, p in trades))
    expected = []
    for number, (own, value) in enumerate(trades):
        others = [p for g, p in trades[:number] if g == own and p != value]
        expected.append(earlier if not others else 1 if others[-1] < value else -1)
    assert tick_signs(price, group, np.full(len(trades), earlier)).tolist() == expected
