"""Trades with the quotes that prevailed, on real tables, beside a search in Python."""

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k2_testing.asking import questions_of
from k2_testing.lake import make_lake
from k2_testing.ticks import OPEN, append_ticks

from k2.model.errors import UserError
from k2.model.times import micros
from k2.model.topics import DataType
from k2.query.aggregates import asof as asof_module
from k2.query.asked.asof_requests import AsofQuery, parse_lookback
from k2.query.asked.requests import At, Window
from k2.query.rows.errors import AmbiguousSymbolError
from k2.query.rows.visibility import Sight

ZONE = ZoneInfo("Australia/Sydney")


def when(seconds):
    return OPEN + timedelta(microseconds=round(seconds * 1_000_000))


def amount(text):
    return None if text is None else Decimal(text)


def trade(seconds, price="10", **more):
    return {"timestamp": when(seconds), "price": Decimal(price)} | more


def quote(seconds, bid, ask, **more):
    return {"timestamp": when(seconds), "bid_price": amount(bid), "ask_price": amount(ask)} | more


def ask(questions, **more):
    return questions.asof(AsofQuery(("BHP",), **more)).rows.to_pylist()


def column(rows, name):
    return [row[name] for row in rows]


def test_each_trade_has_the_last_quote_strictly_before_it(lake, questions):
    append_ticks(lake, [quote(0, "9", "11"), quote(5, "10", "12"), quote(7, "1", "2")], DataType.QUOTES)
    append_ticks(lake, [trade(0), trade(4), trade(5), trade(6), trade(7)])
    rows = ask(questions)
    assert column(rows, "bid_price") == [None, 9, 9, 10, 10]
    assert column(rows, "quote_timestamp") == [None, when(0), when(0), when(5), when(5)]
    assert column(rows, "mid") == [None, 10, 10, 11, 11]
    assert column(rows, "spread") == [None, 2, 2, 2, 2]
    assert column(rows, "effective_spread") == [None, 0, 0, 2, 2]
    assert column(rows, "trade_id") == ["T0", "T1", "T2", "T3", "T4"]


def test_of_quotes_at_one_time_the_last_in_the_order_prevails(lake, questions):
    append_ticks(lake, [quote(0, "1", "2"), quote(0, "3", "4"), quote(0, "2", "3")], DataType.QUOTES)
    append_ticks(lake, [quote(0, "9", "10", source_sequence=4)], DataType.QUOTES)  # before those without a sequence
    append_ticks(lake, [trade(1)])
    assert column(ask(questions), "bid_price") == [2]


def test_a_one_sided_or_crossed_quote_tells_no_side(lake, questions):
    append_ticks(
        lake,
        [quote(0, "9", None), quote(10, None, "9"), quote(20, "12", "9"), quote(30, None, None), quote(40, "9", "9")],
        DataType.QUOTES,
    )
    append_ticks(lake, [trade(5), trade(15), trade(25), trade(35), trade(45)])
    rows = ask(questions)
    assert column(rows, "inferred_side") == ["UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", "BUY"]
    assert column(rows, "spread") == [None, None, -3, None, 0]
    assert column(rows, "mid") == [None, None, Decimal("10.5"), None, 9]
    assert column(rows, "effective_spread") == [None, None, None, None, 2]


def test_the_middle_is_rounded_half_to_even_and_the_spreads_are_exact(lake, questions):
    append_ticks(lake, [quote(0, "0.00000001", "0.00000002"), quote(5, "0.00000002", "0.00000003")], DataType.QUOTES)
    append_ticks(lake, [trade(1, "9999999999.99999999"), trade(6, "0.00000002")])
    rows = ask(questions)
    assert column(rows, "mid") == [Decimal("0.00000002"), Decimal("0.00000002")]
    assert column(rows, "effective_spread") == [Decimal("19999999999.99999995"), Decimal("0.00000001")]
    assert column(rows, "inferred_side") == ["BUY", "SELL"]


def test_prices_of_zero_and_less_are_prices(lake, questions):
    sides = [("-2", "-1"), ("-1", "0"), ("-1", "1"), ("-0.00000002", "-0.00000001"), ("1", "-1")]
    append_ticks(lake, [quote(10 * n, *each) for n, each in enumerate(sides)], DataType.QUOTES)
    append_ticks(lake, [trade(10 * n + 1, price) for n, price in enumerate(["-2", "0", "0", "-37.63", "0"])])
    rows = ask(questions)
    assert column(rows, "mid") == [Decimal(each) for each in ("-1.5", "-0.5", "0", "-0.00000002", "0")]
    assert column(rows, "spread") == [1, 1, 2, Decimal("0.00000001"), -2]
    assert column(rows, "effective_spread") == [1, 1, 0, Decimal("75.25999997"), None]
    # At the middle the tick test decides: the last other price, -2, was lower.
    assert column(rows, "inferred_side") == ["SELL", "BUY", "BUY", "SELL", "UNKNOWN"]


def test_a_quote_of_another_trading_date_or_older_than_the_lookback_prevails_no_more(lake, questions):
    append_ticks(lake, [quote(-86400, "1", "2"), quote(0, "9", "11")], DataType.QUOTES)
    append_ticks(lake, [trade(-36000 - 1), trade(-1), trade(59), trade(61), trade(3600)])
    # 13:00 UTC is midnight in Sydney: the first trade is of the 9th, as is the first quote.
    assert column(ask(questions), "bid_price") == [1, None, 9, 9, 9]
    assert column(ask(questions, lookback_us=parse_lookback("1m")), "bid_price") == [None, None, 9, None, None]
    assert column(ask(questions, lookback_us=parse_lookback("2d")), "bid_price") == [1, 1, 9, 9, 9]


def test_a_quote_long_before_the_window_is_found(lake, questions):
    append_ticks(lake, [quote(-36000, "9", "11"), quote(-35000, "8", "12")], DataType.QUOTES)
    append_ticks(lake, [trade(0), trade(10)])
    assert column(ask(questions, window=Window(micros(when(5)))), "bid_price") == [8]


def test_a_side_does_not_depend_on_where_the_window_begins(lake, questions):
    append_ticks(lake, [quote(0, "9", "11")], DataType.QUOTES)
    append_ticks(lake, [trade(1, "9"), trade(2, "10"), trade(3, "10"), trade(4, "10")])
    assert column(ask(questions), "inferred_side") == ["SELL", "BUY", "BUY", "BUY"]
    assert column(ask(questions, window=Window(micros(when(3)))), "inferred_side") == ["BUY", "BUY"]
    # the day before tells nothing
    append_ticks(lake, [trade(-86400, "20")])
    append_ticks(lake, [trade(86400 * 2, "10")])
    append_ticks(lake, [quote(86400 * 2 - 1, "9", "11")], DataType.QUOTES)
    assert column(ask(questions, window=Window(micros(when(86400 * 2)))), "inferred_side") == ["UNKNOWN"]


def test_fields_and_limit(lake, questions):
    append_ticks(lake, [quote(0, "9", "11")], DataType.QUOTES)
    append_ticks(lake, [trade(number) for number in range(1, 6)])
    found = questions.asof(AsofQuery(("BHP",), limit=2, fields=("inferred_side", "trade_id", "mid")))
    assert found.rows.column_names == ["inferred_side", "trade_id", "mid"]
    assert (found.rows["trade_id"].to_pylist(), found.more) == (["T0", "T1"], True)
    assert not questions.asof(AsofQuery(("BHP",), limit=5)).more
    with pytest.raises(UserError, match="Unknown field: found 'kafka'"):
        questions.asof(AsofQuery(("BHP",), fields=("kafka",)))


def test_several_symbols_of_several_exchanges_have_their_own_quotes(lake, questions):
    append_ticks(lake, [quote(0, "9", "11"), quote(0, "1", "2", symbol="RIO")], DataType.QUOTES)
    append_ticks(lake, [quote(0, "4", "5", symbol="BTC", exchange="BINANCE")], DataType.QUOTES)
    append_ticks(lake, [quote(0, "77", "78", exchange="NYSE")], DataType.QUOTES)
    append_ticks(lake, [trade(1, "10", symbol=symbol) for symbol in ("RIO", "BHP", "RIO")])
    append_ticks(lake, [trade(1, "5", symbol="BTC", exchange="BINANCE")])
    found = questions.asof(AsofQuery(("RIO", "BTC", "BHP", "NONE")))
    pairs = [(row["symbol"], row["bid_price"]) for row in found.rows.to_pylist()]
    assert pairs == [("BHP", 9), ("RIO", 1), ("RIO", 1), ("BTC", 4)]


def test_a_symbol_of_several_exchanges_needs_one(lake, questions):
    append_ticks(lake, [trade(0), trade(1, exchange="NYSE")])
    with pytest.raises(AmbiguousSymbolError):
        ask(questions)
    assert len(ask(questions, exchange="NYSE")) == 1


def test_quotes_are_as_they_were_when_the_trades_were(lake, questions):
    append_ticks(lake, [quote(0, "9", "11")], DataType.QUOTES)
    first = append_ticks(lake, [trade(10)])
    append_ticks(lake, [quote(5, "8", "12")], DataType.QUOTES)
    assert column(ask(questions), "bid_price") == [8]
    found = questions.asof(AsofQuery(("BHP",), at=At(snapshot=first)))
    assert found.rows["bid_price"].to_pylist() == [9]
    assert found.quotes.table == "market_data.quotes"


def test_rows_that_may_not_be_seen_are_neither_trades_nor_quotes(lake, questions):
    append_ticks(lake, [quote(0, "9", "11"), quote(20, "8", "12")], DataType.QUOTES)
    append_ticks(lake, [trade(5), trade(15), trade(25)])
    seen = questions.seen_by(Sight(oldest_us=micros(when(10))))
    assert column(ask(seen), "bid_price") == [None, 8]


def test_nothing_is_answered_with_a_note_and_all_columns(lake, questions):
    append_ticks(lake, [quote(0, "9", "11")], DataType.QUOTES)
    found = questions.asof(AsofQuery(("BHP",)))
    assert found.rows.num_rows == 0
    assert found.rows.column_names[-1] == "inferred_side"
    assert found.note == "market_data.trades has no data yet"


def test_trades_without_any_quote_are_answered(lake, questions):
    append_ticks(lake, [trade(0), trade(1, "11")])
    rows = ask(questions)
    assert column(rows, "mid") == [None, None]
    assert column(rows, "inferred_side") == ["UNKNOWN", "UNKNOWN"]


@pytest.mark.parametrize(("text", "us"), [(None, None), ("day", None), ("500ms", 500_000), ("2h", 7_200_000_000)])
def test_lookbacks(text, us):
    assert parse_lookback(text) == us


@pytest.mark.parametrize("text", ["", "5", "-5s", "1w", "1e3s", "9999999999s"])
def test_lookbacks_that_are_none(text):
    with pytest.raises(UserError, match="lookback is no duration"):
        parse_lookback(text)


@pytest.mark.parametrize(
    "make", [lambda: AsofQuery(()), lambda: AsofQuery(("BHP",), limit=0), lambda: AsofQuery(("BHP",), lookback_us=0)]
)
def test_questions_that_cannot_be_asked(make):
    with pytest.raises(UserError):
        make()


# --- beside a search in Python -----------------------------------------------------------------------------------------

SECOND = st.integers(-86_400, 86_400).map(lambda number: number - number % 7) | st.integers(0, 30)
PRICE = st.integers(-3, 3).map(Decimal)
TRADES = st.lists(st.tuples(SECOND, PRICE), min_size=1, max_size=25)
QUOTES = st.lists(
    st.lists(st.tuples(SECOND, st.none() | PRICE, st.none() | PRICE), min_size=1, max_size=25), max_size=3
)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Tables for many examples: each appends ticks of a symbol of its own."""
    folder = tmp_path_factory.mktemp("crowded")
    catalog = make_lake(folder, DataType.TRADES, DataType.QUOTES)
    numbers = count()

    def append(trades, quotes):
        symbol = f"X{next(numbers)}"
        append_ticks(catalog, [trade(second, price, symbol=symbol) for second, price in trades])
        for part in quotes:
            append_ticks(catalog, [quote(*each, symbol=symbol) for each in part], DataType.QUOTES)
        return symbol

    with questions_of(folder) as questions:
        yield questions, append


def search(trades, quotes, lookback):
    """For each trade in order what it should have, by looking at every quote and every earlier trade."""
    ordered = sorted(trades, key=lambda each: each[0])  # stable: by offset where times tie
    in_order = sorted((each for part in quotes for each in part), key=lambda each: each[0])
    day = lambda second: when(second).astimezone(ZONE).date()  # noqa: E731
    for number, (second, price) in enumerate(ordered):
        prevails = [
            each
            for each in in_order
            if each[0] < second
            and (second - each[0] <= lookback if lookback is not None else day(each[0]) == day(second))
        ]
        _, bid, offer = prevails[-1] if prevails else (None, None, None)
        side = "UNKNOWN"
        if bid is not None and offer is not None and bid <= offer:
            others = [p for s, p in ordered[:number] if p != price and day(s) == day(second)]
            middle = Fraction(bid + offer) / 2
            against = middle if price != middle else others[-1] if others else price
            side = "BUY" if price > against else "SELL" if price < against else "UNKNOWN"
        yield second, price, bid, offer, side


@settings(max_examples=20, deadline=None)
@given(TRADES, QUOTES, st.none() | st.sampled_from([1, 60, 86_400]), SECOND, st.integers(1, 30))
def test_the_join_is_what_a_search_finds_in_any_window_and_stretch(crowded, trades, quotes, lookback, start, limit):
    questions, append = crowded
    symbol = append(trades, quotes)
    expected = [row for row in search(trades, quotes, lookback) if row[0] >= start]
    query = AsofQuery(
        (symbol,),
        window=Window(micros(when(start))),
        limit=limit,
        lookback_us=None if lookback is None else lookback * 1_000_000,
    )
    whole = questions.asof(query)
    rows = [
        (
            round((row["timestamp"] - OPEN).total_seconds()),
            row["price"],
            row["bid_price"],
            row["ask_price"],
            row["inferred_side"],
        )
        for row in whole.rows.to_pylist()
    ]
    assert rows == expected[:limit]
    assert whole.more == (len(expected) > limit)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(asof_module, "SLICE_ROWS", 2)
        assert questions.asof(query).rows == whole.rows
