"""What Kraken says becomes events: JSON numbers without a float between, and pages of REST that leave nothing out."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2_testing.venues import RECEIVED, columns, frames, iso, kinds, rows, spelled_trades, told

from k2.feeds.venues.kraken.venue import Kraken
from k2.feeds.venues.venue import Hole, Notice, NoticeKind, Request
from k2.model.errors import WorldError
from k2.model.events import Decimals
from k2.model.ids import message_id
from k2.model.topics import DataType

AT = 1_786_000_000_123_450
HOLE = Hole("BTC/USD", 10, 14, AT, AT + 1_000_000)


@pytest.fixture
def venue():
    return Kraken(columns("KRAKEN"))


def trade(number=7, price="12.50", qty="0.3", time=AT, side="sell", symbol="BTC/USD"):
    """A trade's JSON: a number is written as it is given."""
    return (
        f'{{"symbol":"{symbol}","side":"{side}","price":{price},"qty":{qty},"ord_type":"limit",'
        f'"trade_id":{number},"timestamp":"{time if isinstance(time, str) else iso(time)}"}}'
    )


def traded(*trades, kind="update"):
    return f'{{"channel":"trade","type":"{kind}","data":[{",".join(trades)}]}}'.encode()


def ticker(bid="12.4", ask="12.5", ask_qty="0.25", further=',"timestamp":"2026-08-06T07:06:40.123456Z"'):
    data = f'{{"symbol":"BTC/USD","bid":{bid},"bid_qty":3.0,"ask":{ask},"ask_qty":{ask_qty},"last":12.45{further}}}'
    return f'{{"channel":"ticker","type":"update","data":[{data}]}}'.encode()


def rest(number, price="12.50", seconds="1786000000.1234567", side="s"):
    return f'["{price}","0.3",{seconds},"{side}","l","",{number}]'


def answered(*trades, last=1_786_000_000_123_456_789):
    return f'{{"error":[],"result":{{"XXBTZUSD":[{",".join(trades)}],"last":"{last}"}}}}'.encode()


@given(st.data(), spelled_trades(), st.sampled_from(["{}", '"{}"']))
def test_any_trade_of_a_message_is_told_exactly(data, spelled, form):
    def written(each):
        time = iso(each.time, zeros=data.draw(st.booleans()))
        price, quantity = form.format(each.price), form.format(each.quantity)
        return trade(form.format(each.number), price, quantity, time, each.side.lower())

    heard = Kraken(columns("KRAKEN")).parse(frames(traded(*map(written, spelled))))
    assert told(heard) == [each.told() for each in spelled]
    assert [row["source_sequence"] for row in rows(heard)] == [each.number for each in spelled]
    assert heard.unreadable == ()


@pytest.mark.parametrize(
    ("written", "exact"),
    [
        ("0.10000000000000001", Decimal("0.10000000000000001")),
        ("12345678901234567.125", Decimal("12345678901234567.125")),
        ("5e-7", Decimal("0.0000005")),
        ("1E3", Decimal(1000)),
        ("6423.0", Decimal(6423)),
        ("740", Decimal(740)),
    ],
)
def test_a_number_keeps_every_digit_that_it_came_with(written, exact):
    heard = Kraken(columns("KRAKEN", Decimals.WIDE)).parse(frames(traded(trade(price=written, qty=written))))
    assert [(row["price"], row["quantity"]) for row in rows(heard)] == [(exact, exact)]


def test_a_trade_is_the_same_event_in_the_stream_in_a_snapshot_and_over_rest(venue):
    time = "2026-08-06T07:06:40.123456Z"
    streamed = venue.parse(frames(traded(trade(10, time=time))))
    snapshot = venue.parse(frames(traded(trade(10, "12.5", time=time), trade(12), kind="snapshot")))
    filled = venue.parse_fill(venue.fill(HOLE), answered(rest(10)), RECEIVED, HOLE).heard
    latest = venue.parse_latest(answered(rest(10)), RECEIVED, "BTC/USD")
    same = [rows(each)[0] | {"ingestion_timestamp": None} for each in (streamed, snapshot, filled, latest)]
    assert same == [same[0]] * 4
    assert same[0]["message_id"] == message_id(DataType.TRADES, "KRAKEN", "BTC/USD", "10").bytes
    assert (same[0]["side"], same[0]["vendor_data"]) == ("SELL", [("ord_type", "limit")])


def test_one_bad_trade_costs_no_other(venue):
    bad = [
        trade(3, price="null"),
        trade(4, time="noon"),
        trade(5, price="0.123456789"),
        trade(6, qty="99999999999"),
        trade('"x"'),
        trade(8, symbol=""),
        '{"symbol":"BTC/USD"}',
        "[]",
    ]
    heard = venue.parse(frames(traded(trade(2), *bad, trade(9)), traded(trade(10))))
    assert [row["trade_id"] for row in rows(heard)] == ["2", "9", "10"]
    reasons = [each.reason for each in heard.unreadable]
    assert len(reasons) == len(bad)
    for reason in (
        "price has more than 8 decimals: found '0.123456789'",
        "quantity has more than 10 integer digits: found '99999999999'",
        "time is no time: found 'noon'",
        "trade has no trade_id",
        "trade has no symbol",
    ):
        assert any(reason in each for each in reasons), reason


def test_a_bad_number_of_a_message_that_is_else_of_its_type_costs_no_other(venue):
    heard = venue.parse(
        frames(traded(trade(1), trade(2, price="null"), trade(3, price='"a"'), trade(4, price="1e999999999")))
    )
    assert [row["trade_id"] for row in rows(heard)] == ["1"]
    assert [each.reason.partition(":")[0] for each in heard.unreadable] == ["price is not a number"] * 2 + [
        "price is not a plain decimal"
    ]


def test_a_ticker_is_a_quote_whose_id_is_its_time_and_what_it_says(venue):
    first, second, other = (
        rows(venue.parse(frames(message)), DataType.QUOTES)[0]
        for message in (ticker(), ticker().replace(b'"last":12.45', b'"last":12.46'), ticker(bid="12.41"))
    )
    assert first["timestamp"] == 1_786_000_000_123_456
    assert (first["bid_price"], first["bid_quantity"]) == (Decimal("12.4"), Decimal(3))
    assert (first["ask_price"], first["ask_quantity"]) == (Decimal("12.5"), Decimal("0.25"))
    assert first["quote_id"] == "2026-08-06T07:06:40.123456Z/12.4/3.0/12.5/0.25"
    assert first["message_id"] == second["message_id"] != other["message_id"]


def test_a_ticker_without_a_time_has_that_at_which_it_was_received(venue):
    quote = rows(venue.parse(frames(ticker(further=""))), DataType.QUOTES)[0]
    assert quote["timestamp"] == quote["ingestion_timestamp"] == RECEIVED


def test_a_side_without_orders_is_null(venue):
    quote = rows(venue.parse(frames(ticker(ask="0.0", ask_qty="0.0"))), DataType.QUOTES)[0]
    assert (quote["ask_price"], quote["ask_quantity"], quote["bid_price"]) == (None, None, Decimal("12.4"))


def test_what_is_no_event_is_a_notice(venue):
    refused = {
        "method": "subscribe",
        "success": False,
        "error": "Currency pair not supported ZZZ/USD",
        "symbol": "ZZZ/USD",
    }
    heard = venue.parse(
        frames(
            {"channel": "status", "type": "update", "data": [{"system": "online", "connection_id": 2**63}]},
            {"method": "subscribe", "success": True, "result": {"channel": "trade", "symbol": "BTC/USD"}, "req_id": 1},
            refused,
            {"channel": "heartbeat"},
            {"method": "pong", "time_in": "2026-08-06T07:06:40Z"},
            {"method": "unsubscribe", "success": True, "result": {"channel": "trade", "symbol": "BTC/USD"}},
            {"channel": "status", "data": [{"system": "maintenance"}]},
            {"channel": "instrument", "data": {"pairs": []}},
            {"channel": "ohlc", "data": [{"symbol": "BTC/USD"}]},
            {"surprise": True},
        )
    )
    assert heard.unreadable == ()
    assert heard.notices[1:3] == (
        Notice(NoticeKind.SUBSCRIBED, 3, symbols=("BTC/USD",)),
        Notice(NoticeKind.REFUSED, 3, "Currency pair not supported ZZZ/USD", ("ZZZ/USD",)),
    )
    alive, unknown = NoticeKind.ALIVE, NoticeKind.UNKNOWN
    assert [kinds(heard)[0], *kinds(heard)[3:]] == [alive] * 5 + [unknown] * 3
    assert [notice.text for notice in heard.notices[6:9]] == ["maintenance", "instrument", "ohlc"]


def test_it_asks_for_snapshots_and_for_each_change_of_the_best_prices(venue):
    subscription = venue.subscription(["BTC/USD"], (DataType.TRADES, DataType.QUOTES))
    assert subscription.path == "/v2"
    assert [msgspec.json.decode(message) for message in subscription.messages] == [
        {"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USD"], "snapshot": True}},
        {
            "method": "subscribe",
            "params": {"channel": "ticker", "symbol": ["BTC/USD"], "event_trigger": "bbo", "snapshot": True},
        },
    ]
    assert [msgspec.json.decode(each) for each in venue.changed((), ["A/USD"], (DataType.TRADES,))] == [
        {"method": "unsubscribe", "params": {"channel": "trade", "symbol": ["A/USD"]}}
    ]
    assert len(venue.changed([f"A{place}/USD" for place in range(201)], (), (DataType.TRADES,))) == 3


def test_a_hole_is_filled_from_the_time_before_it_on_page_by_page(venue):
    hole = replace(HOLE, last=1500)
    request = venue.fill(hole)
    assert request == Request(f"/0/public/Trades?pair=XBTUSD&since={AT * 1000 - 1}&count=1000", 1)
    last = AT * 1000 + 500
    page = venue.parse_fill(request, answered(*map(rest, range(9, 1009)), last=last), RECEIVED, hole)
    assert [row["source_sequence"] for row in rows(page.heard)] == list(range(10, 1009))
    assert page.next == Request(f"/0/public/Trades?pair=XBTUSD&since={last - 1}&count=1000", 1)
    following = venue.parse_fill(page.next, answered(*map(rest, range(1008, 2008)), last=last + 9), RECEIVED, hole)
    assert [row["source_sequence"] for row in rows(following.heard)] == list(range(1008, 1501))
    assert following.next is None


def test_a_page_of_one_time_alone_is_gone_on_from_once_and_ends(venue):
    hole = replace(HOLE, last=1500)
    page = answered(*map(rest, range(10, 1010)), last=AT * 1000)
    first = venue.parse_fill(venue.fill(hole), page, RECEIVED, hole)
    assert first.next == Request(f"/0/public/Trades?pair=XBTUSD&since={AT * 1000}&count=1000", 1)
    assert venue.parse_fill(first.next, page, RECEIVED, hole).next is None


def test_a_fill_ends_where_the_exchange_has_no_more(venue):
    for body in (answered(), answered(rest(10)), b'{"error":[],"result":{"last":"0"}}'):
        assert venue.parse_fill(venue.fill(HOLE), body, RECEIVED, HOLE).next is None


@pytest.mark.parametrize(
    ("seconds", "micros"),
    [
        ("1786000000.1234567", 1_786_000_000_123_456),
        ("1786000000", 1_786_000_000_000_000),
        ("1786000000.5", 1_786_000_000_500_000),
    ],
)
def test_a_time_over_rest_is_cut_to_the_microsecond(venue, seconds, micros):
    heard = venue.parse_latest(answered(rest(1, seconds=seconds)), RECEIVED, "BTC/USD")
    assert [row["timestamp"] for row in rows(heard)] == [micros]


def test_a_bad_trade_of_a_page_costs_no_other(venue):
    bad = [rest(2, seconds='"NaN"'), rest(3, seconds="1e999999999"), '["1","2"]', rest('"x"'), rest(5, price="")]
    heard = venue.parse_latest(answered(rest(1), *bad, rest(6)), RECEIVED, "BTC/USD")
    assert [row["trade_id"] for row in rows(heard)] == ["1", "6"]
    assert len(heard.unreadable) == len(bad)


@pytest.mark.parametrize(
    "body",
    [b"<html>no</html>", b'{"error":["EAPI:Rate limit exceeded"]}', b"[]", b'{"error', b"\xff", b'{"result":[]}'],
)
def test_an_answer_that_is_none_is_the_worlds_error(venue, body):
    for parse in (venue.parse_instruments, lambda body: venue.parse_latest(body, RECEIVED, "BTC/USD")):
        with pytest.raises(WorldError, match="answer is not a list"):
            parse(body)


def test_the_listing_has_the_streams_names(venue):
    pair = {"wsname": "XBT/USD", "status": "online", "tick_size": "0.1", "pair_decimals": 1, "lot_decimals": 8}
    result = {
        "XXBTZUSD": pair | {"altname": "XBTUSD"},
        "XDGEUR": pair | {"wsname": "XDG/EUR", "status": "cancel_only", "tick_size": None, "pair_decimals": 7},
        "XBTUSD.d": {"altname": "XBTUSD.d", "status": "online"},
        "ODD": {"wsname": 5},
    }
    first, second = venue.parse_instruments(msgspec.json.encode({"error": [], "result": result}))
    assert (first.symbol, first.base, first.quote, first.trading) == ("BTC/USD", "BTC", "USD", True)
    assert (first.tick, first.lot) == (Decimal("0.1"), Decimal("0.00000001"))
    assert (second.symbol, second.trading, second.status, second.tick) == (
        "DOGE/EUR",
        False,
        "cancel_only",
        Decimal("0.0000001"),
    )
