"""What Bybit says becomes events: trades whose ids prove nothing, and best quotes that are the same over two connections."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2_testing.venues import RECEIVED, columns, frames, kinds, rows, spelled_trades, told

from k2.feeds.venues.bybit.venue import Bybit
from k2.feeds.venues.venue import Hole, Notice, NoticeKind, Numbering, Request
from k2.model.errors import WorldError
from k2.model.events import Decimals
from k2.model.ids import message_id
from k2.model.topics import DataType

AT = 1_786_000_000_123


@pytest.fixture
def venue():
    return Bybit(columns("BYBIT"))


def trade(number=7, **others):
    given = {"T": AT, "s": "AAAUSDT", "S": "Sell", "v": "0.3", "p": "12.50", "L": "PlusTick", "i": f"id-{number}"}
    return given | {"BT": False, "RPI": True, "seq": 753} | others


def traded(*trades):
    return {"topic": "publicTrade.AAAUSDT", "type": "snapshot", "ts": AT + 1, "data": list(trades)}


def quoted(kind="snapshot", cts=AT, **others):
    data = {"s": "AAAUSDT", "b": [["12.4", "3"]], "a": [["12.5", "0.25"]], "u": 99, "seq": 753} | others
    return {"topic": "orderbook.1.AAAUSDT", "type": kind, "ts": AT + 5, "data": data} | ({"cts": cts} if cts else {})


def rest(number=7, **others):
    given = {"execId": f"id-{number}", "symbol": "AAAUSDT", "price": "12.50", "size": "0.3", "side": "Sell"}
    return given | {"time": str(AT), "isBlockTrade": False, "isRPITrade": True, "seq": "753"} | others


def answered(*parts, **others):
    return msgspec.json.encode({"retCode": 0, "retMsg": "OK", "result": {"list": list(parts)}} | others)


@given(st.data(), spelled_trades(unit=1000))
def test_any_trade_of_a_message_is_told_exactly(data, spelled):
    def written(each):
        time = data.draw(st.sampled_from([str, int]))(each.time // 1000)
        return trade(p=each.price, v=each.quantity, S=each.side.title(), T=time, i=str(each.number))

    heard = Bybit(columns("BYBIT")).parse(frames(traded(*map(written, spelled))))
    assert told(heard) == [each.told() for each in spelled]
    assert {row["source_sequence"] for row in rows(heard)} == {None}
    assert heard.unreadable == ()


def test_a_message_may_have_a_thousand_trades(venue):
    heard = venue.parse(frames(traded(*map(trade, range(1024)))))
    assert [row["trade_id"] for row in rows(heard)] == [f"id-{number}" for number in range(1024)]


def test_a_trade_is_the_same_event_in_the_stream_and_over_rest(venue):
    streamed = rows(venue.parse(frames(traded(trade()))))[0]
    latest = rows(venue.parse_latest(answered(rest()), RECEIVED, "AAAUSDT"))[0]
    assert streamed["message_id"] == latest["message_id"]
    assert streamed["message_id"] == message_id(DataType.TRADES, "BYBIT", "AAAUSDT", "id-7").bytes
    assert streamed["vendor_data"] == [("L", "PlusTick"), ("RPI", "true"), ("seq", "753")]
    # REST does not say which way the price went.
    assert latest["vendor_data"] == [("RPI", "true"), ("seq", "753")]
    same = {"vendor_data": None, "ingestion_timestamp": None}
    assert streamed | same == latest | same


def test_a_number_may_stand_for_a_text_without_becoming_a_float(venue):
    message = b'{"topic":"publicTrade.AB","data":[{"s":"AB","i":7,"p":0.10000000000000001,"v":3,"T":1786000000123,"S":"Buy"}]}'
    heard = Bybit(columns("BYBIT", Decimals.WIDE)).parse(frames(message))
    assert [(row["price"], row["quantity"]) for row in rows(heard)] == [(Decimal("0.10000000000000001"), Decimal(3))]


def test_one_bad_trade_costs_no_other(venue):
    bad = [
        trade(3, p=None),
        trade(4, T=0),
        trade(5, p="0.123456789"),
        trade(6, v="99999999999"),
        trade(7, i=""),
        trade(8, s=""),
        {"s": "AAAUSDT"},
    ]
    heard = venue.parse(frames(traded(trade(2), *bad, trade(9)), traded(trade(10))))
    assert [row["trade_id"] for row in rows(heard)] == ["id-2", "id-9", "id-10"]
    reasons = [each.reason for each in heard.unreadable]
    assert len(reasons) == len(bad)
    for reason in (
        "price has more than 8 decimals: found '0.123456789'",
        "quantity has more than 10 integer digits: found '99999999999'",
        "time is out of range",
        "`null` - at `$.p`",
        "missing required field `i`",
    ):
        assert any(reason in each for each in reasons), reason


def test_a_best_quote_sent_again_is_the_same_one(venue):
    first, again = rows(venue.parse(frames(quoted(), quoted() | {"ts": AT + 3000})), DataType.QUOTES)
    assert first | {"ingestion_timestamp": 0} == again | {"ingestion_timestamp": 0}
    assert (first["symbol"], first["timestamp"], first["quote_id"]) == ("AAAUSDT", AT * 1000, f"{AT}/99")
    assert (first["bid_price"], first["bid_quantity"]) == (Decimal("12.4"), Decimal(3))
    assert (first["ask_price"], first["ask_quantity"]) == (Decimal("12.5"), Decimal("0.25"))


def test_a_best_quote_without_the_engines_time_has_the_messages(venue):
    assert rows(venue.parse(frames(quoted(cts=None))), DataType.QUOTES)[0]["timestamp"] == (AT + 5) * 1000


def test_a_side_without_orders_is_null(venue):
    quote = rows(venue.parse(frames(quoted(a=[]))), DataType.QUOTES)[0]
    assert (quote["ask_price"], quote["ask_quantity"], quote["bid_price"]) == (None, None, Decimal("12.4"))


def test_a_quote_with_numbers_for_texts_is_read_and_one_that_says_a_change_is_refused(venue):
    heard = venue.parse(frames(quoted(b=[[12.4, 3]]), quoted("delta"), quoted(b=[["12"]])))
    assert [row["bid_price"] for row in rows(heard, DataType.QUOTES)] == [Decimal("12.4")]
    assert "found type 'delta'" in heard.unreadable[0].reason
    assert "is no quote" in heard.unreadable[1].reason


def test_what_is_no_event_is_a_notice(venue):
    refused = "Invalid symbol :[publicTrade.ZZZUSDT],[orderbook.1.YYYUSDT]"
    heard = venue.parse(
        frames(
            {"success": True, "ret_msg": "subscribe", "conn_id": "d9", "op": "subscribe"},
            {"success": True, "ret_msg": "pong", "conn_id": "d9", "req_id": "", "op": "ping"},
            {"success": False, "ret_msg": refused, "conn_id": "d9", "op": "subscribe"},
            {"success": True, "ret_msg": "", "op": "unsubscribe"},
            {"topic": "tickers.AAAUSDT", "type": "delta", "data": {"symbol": "AAAUSDT"}, "ts": AT},
            {"topic": "kline.1.AAAUSDT", "data": [{"start": 1}]},
            {"surprise": True},
        )
    )
    assert heard.unreadable == ()
    assert heard.notices[:3] == (
        Notice(NoticeKind.SUBSCRIBED, 3),
        Notice(NoticeKind.ALIVE, 3),
        Notice(NoticeKind.REFUSED, 3, refused, ("ZZZUSDT", "YYYUSDT")),
    )
    assert kinds(heard)[3:] == [NoticeKind.ALIVE] + [NoticeKind.UNKNOWN] * 3
    assert [notice.text for notice in heard.notices[4:6]] == ["tickers", "kline.1"]


def test_it_subscribes_ten_topics_at_a_time(venue):
    subscription = venue.subscription([f"A{place}USDT" for place in range(8)], (DataType.TRADES, DataType.QUOTES))
    assert subscription.path == "/v5/public/spot"
    sent = [msgspec.json.decode(message) for message in subscription.messages]
    assert [len(each["args"]) for each in sent] == [10, 6]
    assert sent[0]["args"][0] == "publicTrade.A0USDT"
    assert sent[1]["args"][-1] == "orderbook.1.A7USDT"
    gone = [msgspec.json.decode(each) for each in venue.changed((), ["AUSDT"], (DataType.QUOTES,))]
    assert gone == [{"op": "unsubscribe", "args": ["orderbook.1.AUSDT"]}]
    assert venue.ping == b'{"op":"ping"}'


def test_ids_prove_nothing_so_only_the_newest_trades_can_be_asked_for(venue):
    hole = Hole("AAAUSDT", 1, 2, AT * 1000, AT * 1000 + 5)
    assert venue.numbering is Numbering.NONE
    assert venue.fill(hole) is None
    asked = venue.latest("AAAUSDT")
    assert asked == Request("/v5/market/recent-trade?category=spot&symbol=AAAUSDT&limit=60", 1)
    newest_first = answered(rest(3, time=str(AT + 1)), rest(2), rest(1), rest(0, price=None))
    heard = venue.parse_latest(newest_first, RECEIVED, "AAAUSDT")
    assert [row["trade_id"] for row in rows(heard)] == ["id-1", "id-2", "id-3"]
    assert len(heard.unreadable) == 1
    assert [row["trade_id"] for row in rows(venue.parse_fill(asked, newest_first, RECEIVED, hole).heard)] == [
        "id-1",
        "id-2",
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"<html>no</html>",
        answered(retCode=10006, retMsg="Too many visits!", result={}),
        b"[]",
        b"{}",
        b"\xff",
        answered(result={"list": {}}),
    ],
)
def test_an_answer_that_is_none_is_the_worlds_error(venue, body):
    for parse in (venue.parse_instruments, lambda body: venue.parse_latest(body, RECEIVED, "AAAUSDT")):
        with pytest.raises(WorldError, match="answer is not a list of"):
            parse(body)


def test_the_listing_has_currency_steps_and_what_is_open(venue):
    listed = {"baseCoin": "AAA", "quoteCoin": "USDT", "priceFilter": {"tickSize": "0.0000000000001"}}
    body = answered(
        listed | {"symbol": "AAAUSDT", "status": "Trading", "lotSizeFilter": {"basePrecision": "0.1"}},
        listed | {"symbol": "BBBUSDT", "status": "PreLaunch"},
        {"status": "Trading"},
    )
    first, second = venue.parse_instruments(body)
    assert (first.symbol, first.base, first.quote, first.trading) == ("AAAUSDT", "AAA", "USDT", True)
    assert (first.tick, first.lot) == (Decimal("0.0000000000001"), Decimal("0.1"))
    assert (second.trading, second.status, second.lot) == (False, "PreLaunch", None)
    assert venue.instruments().path == "/v5/market/instruments-info?category=spot&limit=1000"
