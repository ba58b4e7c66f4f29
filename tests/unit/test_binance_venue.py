"""Binance's messages as events: exact, the same ids as its public files give, and nothing in a message that is an error of ours."""

import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.feeds.formats.layouts import Assembler, Files
from k2.feeds.formats.registry import file_format
from k2.feeds.load.csv_source import CsvFiles, ids_of
from k2.feeds.venues.binance.venue import Binance
from k2.feeds.venues.columns import EventColumns
from k2.feeds.venues.registry import VENUES
from k2.feeds.venues.venue import Frame, Hole, NoticeKind, Numbering
from k2.model.errors import WorldError
from k2.model.exchanges import exchange
from k2.model.ids import message_id
from k2.model.topics import DataType

AT = 1_790_000_000_123_456
TRADES, QUOTES = DataType.TRADES, DataType.QUOTES
RECORDED = Path(__file__).parents[2].parent / "shared" / "data" / "frames" / "binance"


def binance():
    columns = EventColumns("BINANCE")
    columns.currencies |= {"BTCUSDT": "USDT", "ETHBTC": "BTC"}
    return Binance(columns)


def trade(number=7, symbol="BTCUSDT", **others):
    said = {"e": "trade", "E": AT + 50, "s": symbol, "t": number, "p": "65001.50000000", "q": "0.00120000", "T": AT}
    return said | {"m": True, "M": True} | others


def ticker(update=3, symbol="BTCUSDT", **others):
    return {"u": update, "s": symbol, "b": "1.10", "B": "5", "a": "1.20", "A": "6"} | others


def combined(*said):
    return [json.dumps({"stream": f"x@{each.get('e', 'bookTicker')}", "data": each}).encode() for each in said]


def heard(*raw, received=AT + 900):
    return binance().parse([Frame(each, received + at, 1) for at, each in enumerate(raw)])


def rows(found, kind=TRADES):
    return found.events[kind].to_pylist() if kind in found.events else []


def test_the_registry_makes_it_and_it_is_a_venue_whose_numbers_prove_something():
    venue = VENUES["binance"](EventColumns("BINANCE"))
    assert isinstance(venue, Binance)
    assert venue.numbering is Numbering.CONSECUTIVE


def test_a_trade_is_exact_and_the_aggressor_is_the_seller_when_the_buyer_made_the_price():
    (sold, bought) = rows(heard(*combined(trade(), trade(8, "ETHBTC", m=False, q="92141578.1", b=11, a=12))))
    assert (sold["price"], sold["quantity"], sold["side"]) == (Decimal("65001.5"), Decimal("0.0012"), "SELL")
    assert (sold["trade_id"], sold["source_sequence"], sold["currency"]) == ("7", 7, "USDT")
    assert sold["message_id"] == message_id(TRADES, "BINANCE", "BTCUSDT", "7").bytes
    assert sold["vendor_data"] == [("E", str(AT + 50))]
    assert (bought["side"], bought["currency"]) == ("BUY", "BTC")
    assert bought["vendor_data"] == [("E", str(AT + 50)), ("b", "11"), ("a", "12")]


def test_both_clocks_are_kept_and_milliseconds_are_told_by_their_size():
    found = heard(*combined(trade(), trade(8, T=AT // 1000, E=AT // 1000)))
    times = found.events[TRADES].column("timestamp").cast(pa.int64()).to_pylist()
    assert times == [AT, AT // 1000 * 1000]
    assert found.events[TRADES].column("ingestion_timestamp").cast(pa.int64()).to_pylist() == [AT + 900, AT + 901]


def test_a_book_ticker_is_a_quote_with_the_update_id_and_the_time_of_receipt():
    found = heard(*combined(ticker(), ticker(5, b="0.00000000", B="0.00000000")))
    first, second = rows(found, QUOTES)
    assert (first["quote_id"], first["source_sequence"], first["bid_price"]) == ("3", 3, Decimal("1.1"))
    assert first["message_id"] == message_id(QUOTES, "BINANCE", "BTCUSDT", "3").bytes
    assert second["bid_price"] is None
    assert second["ask_price"] == Decimal("1.2")
    times = found.events[QUOTES].column("timestamp").cast(pa.int64()).to_pylist()
    assert times == [AT + 900, AT + 901]


def test_the_same_update_by_two_connections_is_the_same_quote():
    one, other = (rows(heard(*combined(ticker()), received=at), QUOTES) for at in (AT, AT + 40_000))
    assert one[0]["message_id"] == other[0]["message_id"]


def test_raw_streams_are_read_like_combined_ones():
    assert rows(heard(json.dumps(trade()).encode())) == rows(heard(*combined(trade())))


@pytest.mark.parametrize(
    "said",
    [
        trade(t="7", T=str(AT), E=str(AT + 50)),
        trade() | {"p": 65001.5, "q": 0.0012},
        trade(new={"of": ["its", "own"]}, X=1),
    ],
    ids=["texts for numbers", "numbers for texts", "new fields"],
)
def test_numbers_for_texts_texts_for_numbers_and_new_fields_change_nothing(said):
    found = heard(*combined(trade(6), said, trade(8)))
    assert found.unreadable == ()
    right = rows(heard(*combined(trade(6), trade(7), trade(8))))
    # Those that had to be looked at by themselves keep their place.
    assert rows(found) == right


def test_a_number_for_a_price_is_taken_digit_for_digit():
    raw = json.dumps({"stream": "x@trade", "data": trade()}).replace('"65001.50000000"', "12345678.12345678").encode()
    assert rows(heard(raw))[0]["price"] == Decimal("12345678.12345678")


@pytest.mark.parametrize(
    ("raw", "kind", "text"),
    [
        (b'{"result":null,"id":1}', NoticeKind.SUBSCRIBED, ""),
        (b'{"code":2,"msg":"Invalid request: too many"}', NoticeKind.REFUSED, "Invalid request: too many (code 2)"),
        (b'{"error":{"code":3,"msg":"Invalid JSON"},"id":9}', NoticeKind.REFUSED, "Invalid JSON (code 3)"),
        (b'{"e":"serverShutdown","E":1790000000123}', NoticeKind.ENDING, "serverShutdown"),
        (
            b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1790000000123}}',
            NoticeKind.ENDING,
            "serverShutdown",
        ),
        (b'{"stream":"x@kline_1m","data":{"e":"kline","k":{"t":1}}}', NoticeKind.UNKNOWN, "kline"),
        (b'{"stream":"!ticker@arr","data":[{"e":"24hrTicker"}]}', NoticeKind.UNKNOWN, "arr"),
        (
            b'{"stream":"x@aggTrade","data":{"e":"aggTrade","s":"X","a":1,"p":"1","q":"1"}}',
            NoticeKind.UNKNOWN,
            "aggTrade",
        ),
        (b"{}", NoticeKind.UNKNOWN, "without a name"),
    ],
)
def test_what_is_no_event_is_a_notice_and_holds_up_nothing(raw, kind, text):
    found = heard(combined(trade(7))[0], raw, combined(trade(8))[0])
    assert [(each.kind, each.text, each.connection) for each in found.notices] == [(kind, text, 1)]
    assert found.unreadable == ()
    assert [row["trade_id"] for row in rows(found)] == ["7", "8"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (
            b'{"stream":"x@trade","data":{"e":"trade","s":"BTCUSDT","t":8',
            "is no message of Binance: Input data was trunc",
        ),
        (b"<html>502 Bad Gateway</html>", "is no message of Binance: JSON is malformed"),
        (b'{"stream":"x\xff@trade"', "is no message of Binance"),
        (b"7", "is no message of Binance: Expected `object`, got `int`"),
        (combined({"e": "trade", "t": 8, "p": "1", "q": "1", "T": AT})[0], "trade has no symbol (s)"),
        (combined({"e": "trade", "s": "BTCUSDT", "p": "1", "q": "1", "T": AT})[0], "trade has no number (t)"),
        (combined(trade(8, t=None))[0], "trade has no number (t)"),
        (combined(trade(8, p="a lot"))[0], "price is not a number: found 'a lot'"),
        (combined(trade(8, p=["1"]))[0], "trade cannot be read: Expected `decimal | null`, got `array` - at `$.p`"),
        (combined(trade(2**70))[0], "trade cannot be read"),
        (combined(trade(8, T=0))[0], "time is out of range"),
        (combined(trade(8, p="0.1234567891"))[0], "price has more than 8 decimals"),
    ],
)
def test_what_should_have_been_an_event_is_told_whole_with_its_reason(raw, reason):
    found = heard(combined(trade(7))[0], raw, combined(trade(9))[0])
    assert [row["trade_id"] for row in rows(found)] == ["7", "9"]
    (bad,) = found.unreadable
    assert bad.raw == raw
    assert bad.reason.startswith(reason)


@given(st.lists(st.binary(max_size=80) | st.sampled_from(combined(trade(), ticker())), max_size=8))
def test_nothing_in_a_message_raises_and_each_becomes_something(said):
    found = heard(*said)
    events = sum(batch.num_rows for batch in found.events.values())
    assert events + len(found.notices) + len(found.unreadable) == len(said)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**63 - 1),
            st.decimals(min_value=0, max_value=10**9, places=8),
            st.decimals(min_value=0, max_value=10**9, places=8),
            st.booleans(),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_whatever_was_traded_comes_out_as_it_was_said(market):
    found = heard(*combined(*(trade(n, p=f"{p:f}", q=f"{q:f}", m=made) for n, p, q, made in market)))
    told = [(row["source_sequence"], row["price"], row["quantity"], row["side"] == "SELL") for row in rows(found)]
    assert told == market


def test_a_connection_asks_for_its_first_streams_by_its_address_and_for_the_others_in_batches():
    subscription = binance().subscription([f"S{number}USDT" for number in range(300)], [TRADES, QUOTES])
    assert subscription.path.startswith("/stream?streams=s0usdt@trade/s0usdt@bookTicker/s1usdt@trade/")
    assert subscription.path.endswith("&timeUnit=MICROSECOND")
    asked = [json.loads(each) for each in subscription.messages]
    assert [(each["method"], len(each["params"]), each["id"]) for each in asked] == [
        ("SUBSCRIBE", 200, 1),
        ("SUBSCRIBE", 200, 2),
    ]
    first = subscription.path.partition("streams=")[2].partition("&")[0].split("/")
    assert len({*first, *asked[0]["params"], *asked[1]["params"]}) == 600


def test_what_is_listed_anew_and_what_is_gone_is_asked_for_on_the_open_connection():
    asked = [json.loads(each) for each in binance().changed(["NEWUSDT"], ["OLDUSDT"], [TRADES])]
    assert asked == [
        {"method": "UNSUBSCRIBE", "params": ["oldusdt@trade"], "id": 1},
        {"method": "SUBSCRIBE", "params": ["newusdt@trade"], "id": 2},
    ]


def test_the_listing_says_currency_status_and_the_smallest_steps():
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01000000", "tickSize": "0.01000000"},
        {"filterType": "LOT_SIZE", "stepSize": "0.00001000"},
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
        {"filterType": "MARKET_LOT_SIZE", "stepSize": "0.00000000"},
    ]
    body = {
        "timezone": "UTC",
        "symbols": [
            {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "filters": filters},
            {"symbol": "LUNAUSDT", "status": "BREAK", "baseAsset": "LUNA", "quoteAsset": "USDT", "permissions": []},
        ],
    }
    traded, halted = binance().parse_instruments(json.dumps(body).encode())
    assert (traded.base, traded.quote, traded.trading) == ("BTC", "USDT", True)
    assert (traded.tick, traded.lot) == (Decimal("0.01"), Decimal("0.00001"))
    assert (halted.trading, halted.status, halted.tick) == (False, "BREAK", None)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"code":-1121,"msg":"Invalid symbol."}', b"\xff"])
def test_an_answer_that_is_none_is_told(body):
    venue, hole = binance(), Hole("BTCUSDT", 5, 9, AT, AT + 1)
    request = venue.fill(hole)
    with pytest.raises(WorldError, match="cannot be read"):
        venue.parse_instruments(body)
    with pytest.raises(WorldError, match="is no list of trades"):
        venue.parse_fill(request, body, AT, hole)
    with pytest.raises(WorldError, match="is no list of trades"):
        venue.parse_latest(body, AT, "BTCUSDT")


def answer(numbers):
    return json.dumps(
        [
            {"id": n, "price": "65001.50000000", "qty": "0.0012", "quoteQty": "78", "time": AT, "isBuyerMaker": True}
            for n in numbers
        ]
    ).encode()


def test_a_hole_is_asked_for_by_numbers_a_thousand_at_a_time_and_only_what_was_missing_is_taken():
    venue, hole = binance(), Hole("BTCUSDT", 1_000, 2_500, AT, AT + 1)
    request = venue.fill(hole)
    assert request.path == "/api/v3/historicalTrades?symbol=BTCUSDT&fromId=1000&limit=1000"
    assert (request.weight, request.headers) == (25, {"X-MBX-TIME-UNIT": "MICROSECOND"})
    first = venue.parse_fill(request, answer(range(1_000, 2_000)), AT, hole)
    assert first.next.path == "/api/v3/historicalTrades?symbol=BTCUSDT&fromId=2000&limit=501"
    second = venue.parse_fill(first.next, answer(range(2_000, 3_000)), AT, hole)
    assert second.next is None
    taken = [row["source_sequence"] for part in (first, second) for row in rows(part.heard)]
    assert taken == list(range(1_000, 2_501))


@pytest.mark.parametrize("numbers", [[], [3, 4]], ids=["nothing", "others than were asked for"])
def test_an_answer_without_what_was_asked_for_ends_the_filling(numbers):
    venue, hole = binance(), Hole("BTCUSDT", 5, 9, AT, AT + 1)
    filled = venue.parse_fill(venue.fill(hole), answer(numbers), AT, hole)
    assert (rows(filled.heard), filled.next) == ([], None)


def test_a_trade_is_the_same_event_by_stream_and_by_rest():
    venue = binance()
    by_stream = rows(heard(*combined(trade(7))))[0]
    by_rest = rows(venue.parse_latest(answer([7]), AT + 900, "BTCUSDT"))[0]
    assert venue.latest("BTCUSDT").path == "/api/v3/historicalTrades?symbol=BTCUSDT&limit=1000"
    assert by_rest | {"vendor_data": None} == by_stream | {"vendor_data": None}


def test_a_bad_trade_in_an_answer_is_told_and_the_others_are_taken():
    body = json.dumps(
        [*json.loads(answer([7])), {"id": "x"}, {"id": 9, "price": None, "qty": "1", "time": AT}]
    ).encode()
    found = binance().parse_latest(body, AT, "BTCUSDT")
    assert [row["trade_id"] for row in rows(found)] == ["7"]
    assert [bad.reason[:21] for bad in found.unreadable] == ["trade cannot be read:", "price is missing"]


def test_a_trade_is_the_same_event_by_stream_and_by_a_file_of_the_public_archive(tmp_path):
    path = tmp_path / "BTCUSDT-trades-2026-09-21.csv"
    path.write_text(f"7,65001.50000000,0.00120000,78.0,{AT},True,True\n")
    files = Files(TRADES, exchange("BINANCE"), symbol=None, paths=[path])
    form = file_format("binance-trades", files)
    assembler = Assembler(TRADES, exchange("BINANCE"), "USDT", "crypto", ids_of(form, None, None, None))
    (chunk,) = CsvFiles([path], form, assembler, symbol=None, clock=lambda: AT + 900).chunks()
    by_file = chunk.events[0][1].to_pylist()[0]
    by_stream = rows(heard(*combined(trade(7))))[0]
    # The archive numbers trades as ids alone, and has not the time at which the message was made.
    assert by_stream | {"vendor_data": None, "source_sequence": None} == by_file


@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"{RECORDED} is not there")
def test_recorded_messages_are_read_whole():
    recorded = {
        path.stem: [json.loads(line)["raw"].encode() for line in path.read_text().splitlines()]
        for path in RECORDED.glob("*.jsonl")
    }
    found = heard(*recorded["trade"], *recorded["bookTicker"])
    assert (found.unreadable, found.notices) == ((), ())
    assert len(rows(found)) == len(recorded["trade"])
    assert len(rows(found, QUOTES)) == len(recorded["bookTicker"])
    others = heard(*recorded["control"], *recorded["serverShutdown"], *recorded["aggTrade"], *recorded["blockTrade"])
    assert (others.unreadable, dict(others.events)) == ((), {})
    for said in recorded["rest_historicalTrades"]:
        assert rows(binance().parse_latest(said, AT, "BTCUSDT"))
