"""What OKX says becomes events: each trade by its number, best quotes by the book's, from two addresses."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2_testing.venues import RECEIVED, columns, frames, kinds, rows, spelled_trades, told

from k2.feeds.venues.okx.venue import Okx
from k2.feeds.venues.venue import Hole, Notice, NoticeKind, Request
from k2.model.errors import WorldError
from k2.model.events import Decimals
from k2.model.ids import message_id
from k2.model.topics import DataType

AT = 1_786_000_000_123
HOLE = Hole("AAA-USDT", 10, 14, AT * 1000, AT * 1000 + 1_000_000)


@pytest.fixture
def venue():
    return Okx(columns("OKX"))


def trade(number=7, **others):
    given = {"instId": "AAA-USDT", "tradeId": str(number), "px": "12.50", "sz": "0.3", "side": "sell", "ts": str(AT)}
    return given | {"source": "0"} | others


def traded(*trades):
    return {"arg": {"channel": "trades-all", "instId": "AAA-USDT"}, "data": list(trades)}


def quoted(**others):
    given = {"asks": [["12.5", "0.25", "0", "2"]], "bids": [["12.4", "3", "0", "1"]], "ts": str(AT), "seqId": 99}
    return {"arg": {"channel": "bbo-tbt", "instId": "AAA-USDT"}, "data": [given | others]}


def answered(*parts, **others):
    return msgspec.json.encode({"code": "0", "msg": "", "data": list(parts)} | others)


@given(st.data(), spelled_trades(unit=1000))
def test_any_trade_of_a_message_is_told_exactly(data, spelled):
    def written(each):
        form = data.draw(st.sampled_from([str, int]))
        time = form(each.time // 1000)
        return trade(px=each.price, sz=each.quantity, side=each.side.lower(), ts=time) | {"tradeId": form(each.number)}

    heard = Okx(columns("OKX")).parse(frames(traded(*map(written, spelled))))
    assert told(heard) == [each.told() for each in spelled]
    assert [row["source_sequence"] for row in rows(heard)] == [each.number for each in spelled]
    assert heard.unreadable == ()


def test_a_trade_is_the_same_event_in_the_stream_and_over_rest(venue):
    streamed = venue.parse(frames(traded(trade(10))))
    filled = venue.parse_fill(venue.fill(HOLE), answered(trade(10)), RECEIVED, HOLE).heard
    latest = venue.parse_latest(answered(trade(10)), RECEIVED, "AAA-USDT")
    same = [rows(each)[0] | {"ingestion_timestamp": None} for each in (streamed, filled, latest)]
    assert same == [same[0]] * 3
    assert same[0]["message_id"] == message_id(DataType.TRADES, "OKX", "AAA-USDT", "10").bytes
    assert (same[0]["side"], same[0]["vendor_data"]) == ("SELL", [("source", "0")])


def test_a_number_may_stand_for_a_text_without_becoming_a_float(venue):
    message = b'{"arg":{"channel":"trades-all"},"data":[{"instId":"A-B","tradeId":7,"px":0.10000000000000001,"sz":3,"ts":1786000000123}]}'
    heard = Okx(columns("OKX", Decimals.WIDE)).parse(frames(message))
    assert [(row["price"], row["quantity"]) for row in rows(heard)] == [(Decimal("0.10000000000000001"), Decimal(3))]


def test_one_bad_trade_costs_no_other(venue):
    bad = [
        trade(3, px=None),
        trade(4, ts="0"),
        trade(5, px="0.123456789"),
        trade(6, sz="99999999999"),
        trade("x"),
        {"instId": "AAA-USDT"},
        trade(8, instId=""),
    ]
    heard = venue.parse(frames(traded(trade(2), *bad, trade(9)), traded(trade(10))))
    assert [row["trade_id"] for row in rows(heard)] == ["2", "9", "10"]
    reasons = [each.reason for each in heard.unreadable]
    assert len(reasons) == len(bad)
    for reason in (
        "price has more than 8 decimals: found '0.123456789'",
        "quantity has more than 10 integer digits: found '99999999999'",
        "time is out of range",
        "trade has no tradeId",
        "trade has no instId",
        "`null` - at `$.px`",
    ):
        assert any(reason in each for each in reasons), reason


def test_a_best_quote_has_the_id_of_its_time_and_the_books_number(venue):
    quote = rows(venue.parse(frames(quoted())), DataType.QUOTES)[0]
    assert (quote["symbol"], quote["timestamp"], quote["quote_id"]) == ("AAA-USDT", AT * 1000, f"{AT}/99")
    assert (quote["bid_price"], quote["bid_quantity"]) == (Decimal("12.4"), Decimal(3))
    assert (quote["ask_price"], quote["ask_quantity"]) == (Decimal("12.5"), Decimal("0.25"))


def test_a_best_quote_without_the_books_number_is_known_by_what_it_says(venue):
    without = [quoted(bids=[[price, "3"]]) for price in ("12.4", "12.4", "12.3")]
    for message in without:
        del message["data"][0]["seqId"]
    first, same, other = (row["message_id"] for row in rows(venue.parse(frames(*without)), DataType.QUOTES))
    assert first == same != other


@pytest.mark.parametrize("none", [[], [[]], [["0", "0"]]])
def test_a_side_without_orders_is_null(venue, none):
    quote = rows(venue.parse(frames(quoted(asks=none))), DataType.QUOTES)[0]
    assert (quote["ask_price"], quote["ask_quantity"], quote["bid_price"]) == (None, None, Decimal("12.4"))


def test_what_is_no_event_is_a_notice(venue):
    argument = {"channel": "trades-all", "instId": "AAA-USDT"}
    heard = venue.parse(
        frames(
            b"pong",
            {"event": "subscribe", "arg": argument, "connId": "a4d3ae55"},
            {"event": "error", "code": "60018", "msg": "ZZZ-USDT does not exist", "connId": "a4d3ae55"},
            {"event": "notice", "code": "64008", "msg": "The connection will soon be closed"},
            {"event": "unsubscribe", "arg": argument},
            {"event": "channel-conn-count", "channel": "trades-all", "connCount": "1"},
            {"event": "notice", "code": "1", "msg": "something"},
            {"arg": {"channel": "tickers", "instId": "AAA-USDT"}, "data": [{"last": "1"}]},
            {"arg": {"channel": "books", "instId": "AAA-USDT"}, "data": {"new": True}},
            {"surprise": True},
        )
    )
    assert heard.unreadable == ()
    assert heard.notices[:4] == (
        Notice(NoticeKind.ALIVE, 3),
        Notice(NoticeKind.SUBSCRIBED, 3, symbols=("AAA-USDT",)),
        Notice(NoticeKind.REFUSED, 3, "ZZZ-USDT does not exist (code 60018)"),
        Notice(NoticeKind.ENDING, 3, "The connection will soon be closed"),
    )
    assert kinds(heard)[4:] == [NoticeKind.ALIVE] * 2 + [NoticeKind.UNKNOWN] * 4
    assert [notice.text for notice in heard.notices[6:9]] == ["notice", "tickers", "books"]


def test_each_data_type_has_an_address_of_its_own(venue):
    assert venue.separate
    trades = venue.subscription(["A-B"], (DataType.TRADES,))
    quotes = venue.subscription(["A-B"], (DataType.QUOTES,))
    assert (trades.path, quotes.path) == ("/ws/v5/business", "/ws/v5/public")
    assert msgspec.json.decode(trades.messages[0]) == {
        "op": "subscribe",
        "args": [{"channel": "trades-all", "instId": "A-B"}],
    }
    assert b"bbo-tbt" in quotes.messages[0]
    changed = venue.changed([f"A{place}-B" for place in range(101)], ["A-B"], (DataType.TRADES,))
    assert [msgspec.json.decode(each)["op"] for each in changed] == ["unsubscribe", "subscribe", "subscribe"]
    assert venue.ping == b"ping"


def test_a_hole_is_filled_page_by_page_from_its_end(venue):
    request = venue.fill(HOLE)
    assert request == Request("/api/v5/market/history-trades?instId=AAA-USDT&type=1&after=15&limit=100", 1)
    page = venue.parse_fill(request, answered(trade(14), trade(13), trade(12)), RECEIVED, HOLE)
    assert [row["trade_id"] for row in rows(page.heard)] == ["12", "13", "14"]
    assert page.next == Request("/api/v5/market/history-trades?instId=AAA-USDT&type=1&after=12&limit=100", 1)
    following = venue.parse_fill(page.next, answered(trade(11), trade(10), trade(9)), RECEIVED, HOLE)
    assert [row["trade_id"] for row in rows(following.heard)] == ["10", "11"]
    assert following.next is None


def test_a_fill_ends_where_the_exchange_has_no_more_or_does_not_go_back(venue):
    assert venue.parse_fill(venue.fill(HOLE), answered(), RECEIVED, HOLE).next is None
    newest = answered(trade(99), trade(98))
    first = venue.parse_fill(venue.fill(HOLE), newest, RECEIVED, HOLE)
    assert (rows(first.heard), first.next) == ([], None)


def test_a_bad_trade_of_a_page_costs_no_other(venue):
    bad = [trade(12, px=None), {"px": "1"}, "none"]
    filled = venue.parse_fill(venue.fill(HOLE), answered(*bad, trade(11)), RECEIVED, HOLE)
    assert [row["trade_id"] for row in rows(filled.heard)] == ["11"]
    assert len(filled.heard.unreadable) == len(bad)


@pytest.mark.parametrize(
    "body",
    [b"<html>no</html>", answered(code="50011", msg="Too Many Requests"), b"[]", b"{}", b"\xff", answered(data={})],
)
def test_an_answer_that_is_none_is_the_worlds_error(venue, body):
    for parse in (venue.parse_instruments, lambda body: venue.parse_latest(body, RECEIVED, "AAA-USDT")):
        with pytest.raises(WorldError, match="answer is not a list of"):
            parse(body)


def test_the_listing_has_currency_steps_and_what_is_open(venue):
    listed = {"instType": "SPOT", "baseCcy": "AAA", "quoteCcy": "USDT", "tickSz": "0.000000000001", "lotSz": "1"}
    body = answered(
        listed | {"instId": "AAA-USDT", "state": "live"},
        listed | {"instId": "B-C", "state": "suspend", "lotSz": ""},
        {},
    )
    first, second = venue.parse_instruments(body)
    assert (first.symbol, first.base, first.quote, first.trading) == ("AAA-USDT", "AAA", "USDT", True)
    assert (first.tick, first.lot) == (Decimal("0.000000000001"), Decimal(1))
    assert (second.trading, second.status, second.lot) == (False, "suspend", None)
