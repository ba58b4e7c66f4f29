"""What venues' messages say, as columns of events: exact, with words for what cannot be held."""

from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.feeds.venues.columns import EventColumns, QuoteRows, TradeRows, amount, micros, times_in_micros
from k2.model.events import Decimals, arrow_schema
from k2.model.ids import message_id
from k2.model.topics import DataType

AT = 1_790_000_000_123_456


def trades(prices, quantities=None, **others):
    count = len(prices)
    return TradeRows(
        raw=[f"message {row}".encode() for row in range(count)],
        received=[AT + 1_000] * count,
        symbols=others.pop("symbols", ["AAABBB"] * count),
        ids=others.pop("ids", list(range(7, 7 + count))),
        times=others.pop("times", [AT] * count),
        prices=prices,
        quantities=quantities or ["1"] * count,
        sides=["BUY"] * count,
        **others,
    )


def test_a_trade_has_the_id_that_its_venue_exchange_symbol_and_number_make():
    rows = trades(["0.1", "0.20000000"], vendor={"b": ["11", ""]})
    rows.sequences = rows.ids
    made = EventColumns("BINANCE", currency="USD").trades(rows)
    assert made.events is not None
    assert made.unreadable == ()
    assert made.events.schema == arrow_schema(DataType.TRADES)
    assert made.events.column("message_id").to_pylist() == [
        message_id(DataType.TRADES, "BINANCE", "AAABBB", number).bytes for number in ("7", "8")
    ]
    assert made.events.column("trade_id").to_pylist() == ["7", "8"]
    assert made.events.column("source_sequence").to_pylist() == [7, 8]
    assert made.events.column("price").to_pylist() == [Decimal("0.1"), Decimal("0.2")]
    assert made.events.column("vendor_data").to_pylist() == [[("b", "11")], None]
    assert made.events.column("timestamp").cast(pa.int64()).to_pylist() == [AT, AT]
    assert made.events.column("ingestion_timestamp").cast(pa.int64()).to_pylist() == [AT + 1_000] * 2


def test_prices_are_in_the_currency_that_the_listing_says():
    columns = EventColumns("BINANCE", currency="USD")
    columns.currencies["ETHBTC"] = "BTC"
    events = columns.trades(trades(["1", "2"], symbols=["ETHBTC", "OTHER"])).events
    assert events is not None
    assert events.column("currency").to_pylist() == ["BTC", "USD"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (trades(["1", "0.123456789"]), "price has more than 8 decimals: found '0.123456789'; an IcebergTable with"),
        (
            trades(["1", "1"], ["1", "92141578065.00"]),
            "quantity has more than 10 integer digits: found '92141578065.00'",
        ),
        (trades(["1", "NaN"]), "price is not a finite number: found 'NaN'"),
        (trades(["1", ""]), "price is missing"),
        (trades(["1", "1,5"]), "price is not a number"),
        (trades(["1", "1"], times=[AT, 2**62]), "time is out of range"),
    ],
)
def test_what_a_table_cannot_hold_is_told_with_its_message_and_nothing_else_is_lost(rows, reason):
    made = EventColumns("BINANCE").trades(rows)
    assert made.events is not None
    assert made.events.column("trade_id").to_pylist() == ["7"]
    assert [bad.raw for bad in made.unreadable] == [b"message 1"]
    assert made.unreadable[0].reason.startswith(reason)


def test_wide_tables_hold_what_standard_ones_do_not():
    columns = EventColumns("BINANCE", decimals={DataType.TRADES: Decimals.WIDE})
    made = columns.trades(trades(["0.0000000000001"], ["92141578065.00"]))
    assert made.events is not None
    assert made.events.column("quantity").to_pylist() == [Decimal(92141578065)]
    assert made.events.column("price").to_pylist() == [Decimal("1E-13")]


def test_a_side_that_is_not_there_is_null_and_a_crossed_quote_is_as_it_is():
    made = EventColumns("BINANCE").quotes(
        QuoteRows(
            raw=[b"1", b"2", b"3"],
            received=[AT] * 3,
            symbols=["A"] * 3,
            ids=["1", "2", "3"],
            times=[AT] * 3,
            bid_prices=["0.00000000", "1.5", "9"],
            bid_quantities=["0.00000000", "2", "1"],
            ask_prices=["2", "", "8"],
            ask_quantities=["1", "", "1"],
        )
    )
    assert made.events is not None
    assert made.unreadable == ()
    rows = made.events.select(["bid_price", "bid_quantity", "ask_price", "ask_quantity"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        (None, None, Decimal(2), Decimal(1)),
        (Decimal("1.5"), Decimal(2), None, None),
        (Decimal(9), Decimal(1), Decimal(8), Decimal(1)),
    ]


def test_no_rows_are_no_events():
    made = EventColumns("BINANCE").trades(TradeRows())
    assert (made.events, made.unreadable) == (None, ())


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9))
def test_a_number_of_a_message_is_written_digit_for_digit(value):
    assert Decimal(amount(value)) == value
    assert "E" not in amount(value)


def test_a_time_says_its_unit_by_its_size():
    assert [micros(time) for time in (AT * 1_000 + 7, AT, AT // 1_000, AT // 1_000_000)] == [
        AT,
        AT,
        AT // 1_000 * 1_000,
        AT // 1_000_000 * 1_000_000,
    ]
    assert times_in_micros([AT // 1_000, AT]) == [AT // 1_000 * 1_000, AT]
    assert times_in_micros([]) == []


@pytest.mark.parametrize(
    ("text", "micros_since_1970"),
    [
        ("2026-08-09T21:05:42.514318Z", 1_786_309_542_514_318),
        ("2026-08-09T21:05:42.5Z", 1_786_309_542_500_000),
        ("2026-08-09T21:05:42Z", 1_786_309_542_000_000),
        ("2026-08-09T21:05:42.5143189Z", 1_786_309_542_514_318),
        ("2026-08-09T21:05:42.514318999Z", 1_786_309_542_514_318),
        ("2026-08-09T21:05:42.51431899999Z", 1_786_309_542_514_318),
        ("2026-08-09T22:05:42.5+01:00", 1_786_309_542_500_000),
    ],
)
def test_a_written_time_is_read_to_the_microsecond_and_what_is_finer_is_cut(text, micros_since_1970):
    made = EventColumns("COINBASE").trades(trades(["1"], times=[text]))
    assert made.events is not None
    assert made.events.column("timestamp").cast(pa.int64()).to_pylist() == [micros_since_1970]


def test_a_row_whose_written_time_is_none_is_refused_alone():
    times = ["2026-08-09T21:05:42Z", "yesterday", "2026-08-09 21:05:42", "", "2300-01-01T00:00:00Z"]
    made = EventColumns("COINBASE").trades(trades(["1"] * 5, times=times))
    assert made.events is not None
    assert made.events.num_rows == 1
    assert [each.raw for each in made.unreadable] == [f"message {row}".encode() for row in range(1, 5)]
    assert all("time is no time: found" in each.reason and "ISO 8601" in each.reason for each in made.unreadable)
