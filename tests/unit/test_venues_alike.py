"""Every venue is given messages that are cut, broken, strange and beyond measure: each is told, none raises, none costs another."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k2_testing.extent import sized
from k2_testing.venues import RECEIVED, columns, frames, kinds

from k2.feeds.venues.registry import VENUES
from k2.feeds.venues.venue import Frame, Hole, NoticeKind, Venue
from k2.model.errors import WorldError
from k2.model.events import arrow_schema
from k2.model.topics import DataType

TRADE, QUOTE = DataType.TRADES, DataType.QUOTES
EXAMPLES: dict[str, dict[DataType, bytes]] = {
    "binance": {
        TRADE: b'{"stream":"aaausdt@trade","data":{"e":"trade","E":1786000000123456,"s":"AAAUSDT","t":7,"p":"12.50","q":"0.3","T":1786000000123456,"m":true,"M":true}}',
        QUOTE: b'{"stream":"aaausdt@bookTicker","data":{"u":99,"s":"AAAUSDT","b":"12.4","B":"3","a":"12.5","A":"0.25"}}',
    },
    "coinbase": {
        TRADE: b'{"channel":"market_trades","timestamp":"2026-08-06T07:06:40.1Z","sequence_num":4,"events":[{"type":"update","trades":[{"product_id":"AAA-USD","trade_id":"7","price":"12.50","size":"0.3","time":"2026-08-06T07:06:40.1Z","side":"SELL"}]}]}',
        QUOTE: b'{"channel":"ticker","timestamp":"2026-08-06T07:06:40.1Z","sequence_num":5,"events":[{"type":"update","tickers":[{"product_id":"AAA-USD","best_bid":"12.4","best_bid_quantity":"3","best_ask":"12.5","best_ask_quantity":"0.25"}]}]}',
    },
    "kraken": {
        TRADE: b'{"channel":"trade","type":"update","data":[{"symbol":"AAA/USD","side":"sell","price":12.50,"qty":0.3,"ord_type":"limit","trade_id":7,"timestamp":"2026-08-06T07:06:40.1Z"}]}',
        QUOTE: b'{"channel":"ticker","type":"update","data":[{"symbol":"AAA/USD","bid":12.4,"bid_qty":3.0,"ask":12.5,"ask_qty":0.25,"timestamp":"2026-08-06T07:06:40.1Z"}]}',
    },
    "okx": {
        TRADE: b'{"arg":{"channel":"trades-all","instId":"AAA-USDT"},"data":[{"instId":"AAA-USDT","tradeId":"7","px":"12.50","sz":"0.3","side":"sell","source":"0","ts":"1786000000123"}]}',
        QUOTE: b'{"arg":{"channel":"bbo-tbt","instId":"AAA-USDT"},"data":[{"asks":[["12.5","0.25","0","2"]],"bids":[["12.4","3","0","1"]],"ts":"1786000000123","seqId":99}]}',
    },
    "bybit": {
        TRADE: b'{"topic":"publicTrade.AAAUSDT","type":"snapshot","ts":1786000000124,"data":[{"T":1786000000123,"s":"AAAUSDT","S":"Sell","v":"0.3","p":"12.50","L":"PlusTick","i":"9c1f","BT":false,"seq":753}]}',
        QUOTE: b'{"topic":"orderbook.1.AAAUSDT","type":"snapshot","ts":1786000000124,"data":{"s":"AAAUSDT","b":[["12.4","3"]],"a":[["12.5","0.25"]],"u":99,"seq":753},"cts":1786000000123}',
    },
}
"""A message of each kind of each venue, with one event in it."""
NONE = {
    "nothing": b"",
    "a page": b"<html><body>502 Bad Gateway</body></html>",
    "a text": b'"hello"',
    "a list": b"[1,2,3]",
    "a number": b"7",
    "broken UTF-8": b'\xff\xfe{"channel":"trade"}',
    "two messages": b"{}{}",
    "too deep": b'{"data":' + b"[" * 100_000,
    "an endless number": b'{"data":' + b"9" * 100_000 + b"}",
}

EXAMPLES_OF_EACH = settings(max_examples=sized(20, 500))

each_venue = pytest.mark.parametrize("name", sorted(EXAMPLES))


def made(name: str) -> Venue:
    return VENUES[name](columns(name.upper()))


def counted(venue: Venue, messages: Sequence[Frame]) -> tuple[dict[DataType, int], int, list[NoticeKind]]:
    heard = venue.parse(messages)
    for data_type, batch in heard.events.items():
        assert batch.schema == arrow_schema(data_type)
        batch.validate(full=True)
    return (
        {data_type: batch.num_rows for data_type, batch in heard.events.items()},
        len(heard.unreadable),
        kinds(heard),
    )


def test_every_venue_is_shown_here():
    assert set(EXAMPLES) == set(VENUES)


@each_venue
def test_a_venue_is_what_it_says(name):
    venue = made(name)
    assert (venue.name, venue.exchange) == (name, name.upper())
    assert venue.stream_url.startswith("wss://")
    assert venue.rest_url.startswith("https://")
    assert not venue.rest_url.endswith("/")
    assert set(EXAMPLES[name]) == set(venue.data_types)
    for data_type in venue.data_types:
        assert venue.subscription(["AAAUSDT"], (data_type,)).path.startswith("/")
    assert venue.instruments().path.startswith("/")


@each_venue
def test_an_example_is_one_event_and_nothing_else(name):
    for data_type, message in EXAMPLES[name].items():
        assert counted(made(name), frames(message)) == ({data_type: 1}, 0, [])


@each_venue
def test_the_same_message_by_two_connections_is_the_same_event(name):
    for data_type, message in EXAMPLES[name].items():
        events = made(name).parse(frames(message, message)).events[data_type]
        first, second = events.column("message_id").to_pylist()
        assert first == second
        assert len(set(events.column("ingestion_timestamp").to_pylist())) == 2


@each_venue
@pytest.mark.parametrize("broken", NONE.values(), ids=list(NONE))
def test_what_is_no_message_is_told_and_costs_no_other(name, broken):
    good = EXAMPLES[name]
    heard = made(name).parse(frames(good[TRADE], broken, good[QUOTE]))
    assert {data_type: batch.num_rows for data_type, batch in heard.events.items()} == {TRADE: 1, QUOTE: 1}
    # A JSON object may be of a kind that the venue does not know.
    assert len(heard.unreadable) == 1 or kinds(heard) == [NoticeKind.UNKNOWN]
    assert all(each.raw == broken and 0 < len(each.reason) < 600 for each in heard.unreadable)
    assert all(len(notice.text) < 300 for notice in heard.notices)


@each_venue
def test_a_message_that_is_cut_anywhere_is_a_dead_letter(name):
    venue = made(name)
    for message in EXAMPLES[name].values():
        cuts = [message[:length] for length in range(1, len(message))]
        events, unreadable, notices = counted(venue, frames(*cuts))
        assert (events, unreadable, notices) == ({}, len(cuts), [])


@each_venue
@EXAMPLES_OF_EACH
@given(data=st.data())
def test_a_message_with_any_byte_changed_raises_nothing(name, data):
    messages = list(EXAMPLES[name].values())
    broken = bytearray(data.draw(st.sampled_from(messages)))
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    events, _, _ = counted(made(name), frames(*messages, bytes(broken)))
    assert all(events[data_type] >= 1 for data_type in (TRADE, QUOTE))


def replaced(value: object, path: list[int], new: object) -> object:
    """A message with the part at that path, counted along it, as something else."""
    if not path or not isinstance(value, (dict, list)) or not value:
        return new
    if isinstance(value, list):
        place = path[0] % len(value)
        return [replaced(each, path[1:], new) if at == place else each for at, each in enumerate(value)]
    key = list(value)[path[0] % len(value)]
    return {name: replaced(each, path[1:], new) if name == key else each for name, each in value.items()}


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.sampled_from(["", "x", "-1", "1e5", "NaN", "é"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["s", "data", "x"]), inner, max_size=2),
    max_leaves=4,
)


@each_venue
@EXAMPLES_OF_EACH
@given(data=st.data())
def test_a_message_with_any_part_as_something_else_raises_nothing(name, data):
    messages = list(EXAMPLES[name].values())
    message = msgspec.json.decode(data.draw(st.sampled_from(messages)))
    path = data.draw(st.lists(st.integers(0, 9), max_size=5))
    events, _, _ = counted(made(name), frames(*messages, replaced(message, path, data.draw(ANY))))
    assert all(events[data_type] >= 1 for data_type in (TRADE, QUOTE))


@each_venue
def test_a_field_more_changes_nothing(name):
    def more(value: object) -> object:
        if isinstance(value, dict):
            return {key: more(inner) for key, inner in value.items()} | {"news": {"of": [1, "kind"]}}
        # Lists of numbers are levels of a book: their places mean something.
        return (
            [more(inner) if isinstance(inner, dict) else inner for inner in value] if isinstance(value, list) else value
        )

    for data_type, message in EXAMPLES[name].items():
        plain = made(name).parse(frames(message)).events[data_type]
        assert made(name).parse(frames(more(msgspec.json.decode(message)))).events[data_type] == plain


@each_venue
@pytest.mark.parametrize("body", NONE.values(), ids=list(NONE))
def test_an_answer_that_is_none_is_the_worlds_error(name, body):
    venue = made(name)
    hole = Hole("AAA-USD", 1, 9, RECEIVED, RECEIVED + 1)
    asked = venue.fill(hole) or venue.latest("AAA-USD")
    for parse in (
        venue.parse_instruments,
        lambda body: venue.parse_latest(body, RECEIVED, "AAA-USD"),
        lambda body: venue.parse_fill(asked, body, RECEIVED, hole),
    ):
        if body == b"[1,2,3]" and name in ("binance", "coinbase"):
            continue  # a list, if of nothing
        with pytest.raises(WorldError):
            parse(body)


@each_venue
@EXAMPLES_OF_EACH
@given(numbers=st.lists(st.integers(0, 30), max_size=6), pages=st.integers(1, 3))
def test_filling_ends_whatever_is_answered(name, numbers, pages):
    venue = made(name)
    hole = Hole("AAA-USD", 5, 25, RECEIVED, RECEIVED + 1)
    request = venue.fill(hole)
    asked = 0
    while request is not None:
        asked += 1
        assert asked < 50
        request = venue.parse_fill(request, filled(name, numbers, asked % pages), RECEIVED, hole).next


def filled(name: str, numbers: Sequence[int], shift: int) -> bytes:
    """A page of such trades, as the venue would answer, a little different each time."""
    numbers = [number + shift for number in numbers]
    time = "2026-08-06T07:06:40.1Z"
    answers = {
        "binance": [{"id": each, "price": "1", "qty": "1", "time": 1, "isBuyerMaker": True} for each in numbers],
        "coinbase": [{"trade_id": each, "price": "1", "size": "1", "time": time, "side": "buy"} for each in numbers],
        "kraken": {
            "error": [],
            "result": {"P": [["1", "1", 1786000000.5, "b", "l", "", each] for each in numbers] * 400, "last": "1"},
        },
        "okx": {"code": "0", "data": [{"tradeId": str(each), "px": "1", "sz": "1", "ts": "1"} for each in numbers]},
        "bybit": {"retCode": 0, "result": {"list": []}},
    }
    return msgspec.json.encode(answers[name])
