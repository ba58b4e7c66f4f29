"""What Coinbase says becomes events: trades from the oldest on, with the aggressor's side, the same whichever way they came."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2_testing.venues import RECEIVED, columns, frames, iso, kinds, rows, spelled_trades, told

from k2.feeds.formats.layouts import Assembler, Files
from k2.feeds.formats.registry import file_format
from k2.feeds.load.csv_source import CsvFiles, ids_of
from k2.feeds.venues.coinbase.venue import Coinbase
from k2.feeds.venues.venue import Hole, Notice, NoticeKind, Request
from k2.model.errors import WorldError
from k2.model.events import Decimals
from k2.model.exchanges import exchange
from k2.model.ids import message_id
from k2.model.topics import DataType

AT = 1_786_000_000_123_450
MAKER = {"BUY": "SELL", "SELL": "BUY"}
HOLE = Hole("AAA-USD", 10, 14, AT, AT + 1_000_000)


@pytest.fixture
def venue():
    return Coinbase(columns("COINBASE"))


def trade(number=7, **others):
    given = {
        "product_id": "AAA-USD",
        "trade_id": str(number),
        "price": "12.50",
        "size": "0.3",
        "time": iso(AT),
        "side": "SELL",
    }
    return given | others


def market_trades(*trades, kind="update", **others):
    return {
        "channel": "market_trades",
        "timestamp": "2026-08-06T00:00:00.1Z",
        "sequence_num": 4,
        "events": [{"type": kind, "trades": list(trades)}],
    } | others


def ticker(**others):
    given = {"product_id": "AAA-USD", "best_bid": "12.4", "best_bid_quantity": "3", "best_ask": "12.5"}
    tickers = [given | {"best_ask_quantity": "0.25", "price": "12.45"} | others]
    return {
        "channel": "ticker",
        "timestamp": "2026-08-06T07:06:40.123456789Z",
        "sequence_num": 5,
        "events": [{"type": "update", "tickers": tickers}],
    }


def rest(number, **others):
    given = {"trade_id": number, "price": "12.50", "size": "0.3", "time": iso(AT), "side": "sell"}
    return given | others


def answered(*trades):
    return msgspec.json.encode(list(trades))


@given(st.data(), spelled_trades(), st.booleans())
def test_any_trade_of_a_message_is_told_exactly_and_from_the_oldest_on(data, spelled, as_numbers):
    def written(each):
        time = iso(each.time, zeros=data.draw(st.booleans()), beyond=data.draw(st.sampled_from(["", "9", "999"])))
        number = each.number if as_numbers else str(each.number)
        return trade(number, price=each.price, size=each.quantity, time=time, side=MAKER[each.side]) | {
            "trade_id": number
        }

    heard = Coinbase(columns("COINBASE")).parse(frames(market_trades(*map(written, reversed(spelled)))))
    assert told(heard) == [each.told() for each in spelled]
    assert [row["source_sequence"] for row in rows(heard)] == [each.number for each in spelled]
    assert heard.unreadable == ()


def test_a_trade_is_the_same_event_in_the_stream_in_a_snapshot_and_over_rest(venue):
    streamed = venue.parse(frames(market_trades(trade(10))))
    snapshot = venue.parse(frames(market_trades(trade(12), trade(10), kind="snapshot")))
    filled = venue.parse_fill(venue.fill(HOLE), answered(rest(10)), RECEIVED, HOLE).heard
    latest = venue.parse_latest(answered(rest(10)), RECEIVED, "AAA-USD")
    same = [rows(each)[0] | {"ingestion_timestamp": None} for each in (streamed, snapshot, filled, latest)]
    assert same == [same[0]] * 4
    assert same[0]["message_id"] == message_id(DataType.TRADES, "COINBASE", "AAA-USD", "10").bytes
    assert same[0]["side"] == "BUY"
    assert same[0]["symbol"] == "AAA-USD"
    assert same[0]["vendor_data"] is None


def test_a_file_of_a_vendor_tells_the_same_trade(venue, tmp_path):
    path = tmp_path / "trades.csv"
    path.write_text(
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
        f"coinbase,AAA-USD,{AT},{AT + 9},10,buy,12.5,0.3\n"
    )
    market = exchange("COINBASE")
    form = file_format("tardis-trades", Files(DataType.TRADES, market, paths=[path]))
    ids = ids_of(form, None, None, None)
    assembler = Assembler(DataType.TRADES, market, market.currency, str(market.asset_class), ids)
    (loaded,) = [batch for chunk in CsvFiles([path], form, assembler).chunks() for _, batch in chunk.events]
    streamed = venue.parse(frames(market_trades(trade(10)))).events[DataType.TRADES]
    for name in ("message_id", "trade_id", "symbol", "exchange", "timestamp", "price", "quantity", "side", "currency"):
        assert loaded.column(name).to_pylist() == streamed.column(name).to_pylist(), name


def test_an_unknown_side_is_said_to_be_unknown(venue):
    assert [row["side"] for row in rows(venue.parse(frames(market_trades(trade(side=""), trade(side="HOLD")))))] == [
        "UNKNOWN"
    ] * 2


def test_a_number_may_stand_for_a_text_without_becoming_a_float(venue):
    message = b'{"channel":"market_trades","events":[{"trades":[{"product_id":"AAA-USD","trade_id":7,"price":0.10000000000000001,"size":3,"time":"2026-08-06T00:00:00Z","side":"BUY"}]}]}'
    heard = Coinbase(columns("COINBASE", Decimals.WIDE)).parse(frames(message))
    assert [(row["price"], row["quantity"]) for row in rows(heard)] == [(Decimal("0.10000000000000001"), Decimal(3))]


def test_one_bad_trade_costs_no_other(venue):
    bad = [
        trade(3, price=None),
        trade(4, time="noon"),
        trade(5, price="0.123456789"),
        trade(6, size="99999999999"),
        {"trade_id": "8"},
        trade("x"),
    ]
    heard = venue.parse(frames(market_trades(trade(9), *bad, trade(2)), market_trades(trade(10))))
    assert [row["trade_id"] for row in rows(heard)] == ["2", "9", "10"]
    reasons = sorted(each.reason for each in heard.unreadable)
    assert len(reasons) == len(bad)
    assert any("price has more than 8 decimals: found '0.123456789'" in reason for reason in reasons)
    assert any("quantity has more than 10 integer digits: found '99999999999'" in reason for reason in reasons)
    assert any("`null` - at `$.price`" in reason for reason in reasons)
    assert any("time is no time: found 'noon'" in reason for reason in reasons)
    assert all(b'"channel":"market_trades"' in each.raw for each in heard.unreadable)


def test_a_ticker_is_a_quote_whose_id_is_its_time_and_what_it_says(venue):
    first, second, other = (
        rows(venue.parse(frames(message)), DataType.QUOTES)[0]
        for message in (ticker(), ticker(price="12.46"), ticker(best_bid="12.41"))
    )
    assert first["timestamp"] == 1_786_000_000_123_456
    assert (first["bid_price"], first["bid_quantity"]) == (Decimal("12.4"), Decimal(3))
    assert (first["ask_price"], first["ask_quantity"]) == (Decimal("12.5"), Decimal("0.25"))
    assert first["message_id"] == second["message_id"] != other["message_id"]
    assert first["quote_id"].startswith("2026-08-06T07:06:40.123456789Z/")
    assert first["source_sequence"] is None


@pytest.mark.parametrize("none", ["", "0", "0.00"])
def test_a_side_without_orders_is_null(venue, none):
    quote = rows(venue.parse(frames(ticker(best_ask=none, best_ask_quantity=none))), DataType.QUOTES)[0]
    assert (quote["ask_price"], quote["ask_quantity"]) == (None, None)
    assert quote["bid_price"] == Decimal("12.4")


def test_what_is_no_event_is_a_notice(venue):
    answer = {"subscriptions": {"market_trades": ["AAA-USD"], "ticker": ["BBB-USD"], "heartbeats": ["heartbeats"]}}
    heard = venue.parse(
        frames(
            {"channel": "heartbeats", "events": [{"heartbeat_counter": 4}]},
            {"channel": "subscriptions", "events": [answer]},
            {"type": "error", "message": "ZZZ-USD is not a valid product"},
            {"channel": "candles", "events": [{"candles": [{"open": 1}]}]},
            {"channel": "candles", "events": {"none": "of ours"}},
            {"surprise": True},
        )
    )
    assert heard.unreadable == ()
    assert heard.notices[:3] == (
        Notice(NoticeKind.ALIVE, 3),
        Notice(NoticeKind.SUBSCRIBED, 3, symbols=("AAA-USD", "BBB-USD")),
        Notice(NoticeKind.REFUSED, 3, "ZZZ-USD is not a valid product"),
    )
    assert kinds(heard)[3:] == [NoticeKind.UNKNOWN] * 3
    assert heard.notices[3].text == "candles"


def test_it_subscribes_to_heartbeats_first_and_then_in_batches(venue):
    symbols = [f"S{number}-USD" for number in range(70)]
    subscription = venue.subscription(symbols, (DataType.TRADES, DataType.QUOTES))
    sent = [msgspec.json.decode(message) for message in subscription.messages]
    assert sent[0] == {"type": "subscribe", "channel": "heartbeats"}
    assert [(each["channel"], len(each["product_ids"])) for each in sent[1:]] == [
        ("market_trades", 50),
        ("market_trades", 20),
        ("ticker", 50),
        ("ticker", 20),
    ]
    sent = [msgspec.json.decode(message) for message in venue.changed(["B-USD"], ["A-USD"], (DataType.TRADES,))]
    assert sent == [
        {"type": "unsubscribe", "product_ids": ["A-USD"], "channel": "market_trades"},
        {"type": "subscribe", "product_ids": ["B-USD"], "channel": "market_trades"},
    ]


def test_a_hole_is_filled_page_by_page_from_its_end(venue):
    request = venue.fill(HOLE)
    assert request == Request("/products/AAA-USD/trades?limit=1000&after=15", 1)
    page = venue.parse_fill(request, answered(rest(14), rest(13), rest(12)), RECEIVED, HOLE)
    assert [row["trade_id"] for row in rows(page.heard)] == ["12", "13", "14"]
    assert page.next == Request("/products/AAA-USD/trades?limit=1000&after=12", 1)
    rest_of_it = venue.parse_fill(page.next, answered(rest(11), rest(10), rest(9)), RECEIVED, HOLE)
    assert [row["trade_id"] for row in rows(rest_of_it.heard)] == ["10", "11"]
    assert rest_of_it.next is None


def test_a_fill_ends_where_the_exchange_has_no_more_or_does_not_go_back(venue):
    request = venue.fill(HOLE)
    assert venue.parse_fill(request, b"[]", RECEIVED, HOLE).next is None
    newest = answered(rest(99), rest(98))
    first = venue.parse_fill(venue.fill(HOLE), newest, RECEIVED, HOLE)
    assert (rows(first.heard), first.next) == ([], None)


def test_a_bad_trade_of_a_page_costs_no_other(venue):
    filled = venue.parse_fill(venue.fill(HOLE), answered(rest(12, price=None), rest(11)), RECEIVED, HOLE)
    assert [row["trade_id"] for row in rows(filled.heard)] == ["11"]
    assert [b'"trade_id":"12"' in each.raw for each in filled.heard.unreadable] == [True]


@pytest.mark.parametrize("body", [b"<html>no</html>", b'{"message":"NotFound"}', b"[1", b"\xff", b"[" * 99_999])
def test_an_answer_that_is_none_is_the_worlds_error(venue, body):
    for parse in (venue.parse_instruments, lambda body: venue.parse_latest(body, RECEIVED, "AAA-USD")):
        with pytest.raises(WorldError, match="is not a list of"):
            parse(body)


def test_the_listing_has_currency_steps_and_what_is_open(venue):
    listed = {"base_currency": "AAA", "quote_currency": "USD", "quote_increment": "0.01", "base_increment": "0.0001"}
    body = msgspec.json.encode(
        [
            listed | {"id": "AAA-USD", "status": "online", "trading_disabled": False, "news": {}},
            listed | {"id": "BBB-USD", "status": "delisted", "trading_disabled": True, "base_increment": None},
            {"id": 5},
        ]
    )
    first, second = venue.parse_instruments(body)
    assert (first.symbol, first.base, first.quote, first.trading) == ("AAA-USD", "AAA", "USD", True)
    assert (first.tick, first.lot) == (Decimal("0.01"), Decimal("0.0001"))
    assert (second.trading, second.status, second.lot) == (False, "delisted, trading disabled", None)
    assert venue.instruments().path == "/products"
