"""The stand-in exchange as Coinbase, Kraken, OKX and Bybit: each protocol says what the market made, in the venue's own manner.

Messages are read here by hand, not by K2's venues: the two are made from the same documentation and are not to agree in a mistake.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest
from k2_testing.cluster import until
from k2_testing.exchange import Exchange, Fault, listings
from k2_testing.exchange.counting import VenueClock
from k2_testing.exchange.market import Market
from k2_testing.exchange.protocols.protocol import Talk
from k2_testing.exchange.protocols.registry import PROTOCOLS
from k2_testing.exchange_client import SECONDS, all_heard, drive, heard

FRAMES = Path(os.environ.get("K2_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data") / "frames"
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00Z")


def micros(text):
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def of_coinbase(message):
    for event in message["events"] if message["channel"] == "market_trades" else []:
        for trade in reversed(event["trades"]):
            side = "BUY" if trade["side"] == "SELL" else "SELL"
            yield (
                trade["product_id"],
                int(trade["trade_id"]),
                trade["price"],
                trade["size"],
                side,
                micros(trade["time"]),
            )


def of_kraken(message):
    for trade in message["data"] if message.get("channel") == "trade" else []:
        time = micros(trade["timestamp"])
        yield trade["symbol"], trade["trade_id"], trade["price"], trade["qty"], trade["side"].upper(), time


def of_okx(message):
    for trade in message.get("data", []):
        time = int(trade["ts"]) * 1000
        yield trade["instId"], int(trade["tradeId"]), trade["px"], trade["sz"], trade["side"].upper(), time


def of_bybit(message):
    for trade in message.get("data", []):
        # Its ids are no numbers; only we know that `seq` here is made of them.
        assert len(trade["i"]) == 36
        yield trade["s"], trade["seq"] // 7, trade["p"], trade["v"], trade["S"].upper(), trade["T"] * 1000


@dataclass(frozen=True)
class Spoken:
    """How a client asks for trades, and reads them."""

    path: str
    ask: Callable
    read: Callable
    page: str
    quotes: tuple = ()
    beside: str | None = None
    """The quotes' address, where it is another."""


SPOKEN = {
    "coinbase": Spoken(
        "/",
        lambda symbols: {"type": "subscribe", "product_ids": symbols, "channel": "market_trades"},
        of_coinbase,
        "/products/{symbol}/trades?limit=3&after={number}",
        ({"type": "subscribe", "product_ids": ["BTC-USD"], "channel": "ticker"},),
    ),
    "kraken": Spoken(
        "/v2",
        lambda symbols: {"method": "subscribe", "params": {"channel": "trade", "symbol": symbols, "snapshot": False}},
        of_kraken,
        "/0/public/Trades?pair=XBTUSD&count=3&since={since}",
        ({"method": "subscribe", "params": {"channel": "ticker", "symbol": ["BTC/USD"], "event_trigger": "bbo"}},),
    ),
    "okx": Spoken(
        "/ws/v5/business",
        lambda symbols: {"op": "subscribe", "args": [{"channel": "trades-all", "instId": name} for name in symbols]},
        of_okx,
        "/api/v5/market/history-trades?instId={symbol}&limit=3&after={number}",
        ({"op": "subscribe", "args": [{"channel": "bbo-tbt", "instId": "BTC-USDT"}]},),
        "/ws/v5/public",
    ),
    "bybit": Spoken(
        "/v5/public/spot",
        lambda symbols: {"op": "subscribe", "args": [f"publicTrade.{name}" for name in symbols]},
        of_bybit,
        "/v5/market/recent-trade?category=spot&symbol={symbol}&limit=3",
        ({"op": "subscribe", "args": ["orderbook.1.BTCUSDT"]},),
    ),
}
VENUES = pytest.mark.parametrize("venue", sorted(SPOKEN))


@VENUES
def test_what_a_client_hears_is_what_the_market_made(venue):
    spoken = SPOKEN[venue]

    async def work(client):
        async with await client.stream(spoken.path) as stream:
            await stream.send_json(spoken.ask(exchange.symbols))
            said = []
            while len(said) < 300 + 2 * len(exchange.symbols):
                message = await heard(stream)
                assert message.type is aiohttp.WSMsgType.TEXT, message
                said.extend(spoken.read(json.loads(message.data, parse_float=Decimal, parse_int=int)))
            return said

    with Exchange(venue=venue, listed=8, rate=None, trades=300) as exchange:
        said = drive(exchange, work)
        exchange.wait_quiet(SECONDS)
        made = exchange.oracle().to_pylist()
    heard_rows = {
        (symbol, number, Decimal(price), Decimal(size), side, time) for symbol, number, price, size, side, time in said
    }
    assert len(heard_rows) == len(said)
    # Other venues' times come out as they went in; here as microseconds of the epoch.
    assert heard_rows == {
        (row["symbol"], row["source_sequence"], row["price"], row["quantity"], row["side"], (row["timestamp"] - EPOCH) // timedelta(microseconds=1))
        for row in made
    }  # fmt: skip
    assert max(row["quantity"] for row in made) > 10**8
    finest = min(row["price"] for row in made)
    assert finest < Decimal("1e-6") if PROTOCOLS[venue].finest <= 10 else finest < Decimal("1e-8")


@VENUES
def test_rest_goes_on_from_where_a_client_says_and_lists_what_trades(venue):
    spoken = SPOKEN[venue]

    async def work(client):
        symbol = exchange.symbols[0]
        made = exchange.call(lambda server: server.market.newest(0, 10))
        place = {"symbol": symbol, "number": made[-2].number, "since": made[-5].time * 1000}
        status, _, body = await client.get(spoken.page.format(**place))
        assert status == 200
        # In whichever order and by whichever key: three trades, one after the other.
        wanted = {"kraken": made[-4:-1], "bybit": made[-3:]}.get(venue, made[-5:-2])
        ids = [
            exchange.call(lambda server, t=t: server.protocol.identity(t)) if venue == "bybit" else t.number
            for t in wanted
        ]
        found = [body.find(str(identity).encode()) for identity in ids]
        assert -1 not in found
        assert found == (sorted(found) if venue == "kraken" else sorted(found, reverse=True))
        assert body.count(exchange.call(lambda server: server.protocol.prices[0](wanted[0].price)).encode()) >= 1
        unknown = (spoken.page.replace("XBTUSD", "{symbol}")).format(**place | {"symbol": "NOBODY"})
        status, _, body = await client.get(unknown)
        assert (
            status == 404 or b"rror" in body or json.loads(body).get("retCode") or json.loads(body).get("code") != "0"
        )

    with Exchange(venue=venue, listed=2, rate=0.0, waits=False, history=20) as exchange:
        drive(exchange, work)


@VENUES
def test_quotes_are_said_as_they_change(venue):
    spoken = SPOKEN[venue]

    async def work(client):
        async with await client.stream(spoken.beside or spoken.path) as stream:
            await stream.send_json(spoken.quotes[0])
            until(lambda: exchange.call(lambda server: server.wires[0].talk.quotes), "it was not subscribed", SECONDS)
            exchange.begin()
            return [(await heard(stream)).data for _ in range(12)]

    with Exchange(venue=venue, listed=1, rate=0.0, waits=False, quote_rate=500.0) as exchange:
        said = drive(exchange, work)
        made = exchange.quotes().slice(0, 5).to_pylist()
        text = exchange.call(
            lambda server: [server.protocol.quantities[0](quote.bid_quantity) for quote in server.market.quoted[:5]]
        )
    assert len(made) == 5
    assert all(any(size in message for message in said) for size in text)


@VENUES
def test_an_unknown_symbol_is_refused_in_the_venues_words(venue):
    spoken = SPOKEN[venue]

    async def work(client):
        async with await client.stream(spoken.path) as stream:
            await stream.send_json(spoken.ask(["NO-BODY"]))
            while "NO-BODY" not in (said := (await heard(stream)).data):
                pass
            return said

    with Exchange(venue=venue, listed=1, rate=0.0, waits=False) as exchange:
        assert any(word in drive(exchange, work).lower() for word in ("error", "not supported"))


def test_coinbase_numbers_its_messages_and_tells_the_last_trades_before_it_confirms():
    async def work(client):
        async with await client.stream("/") as stream:
            await stream.send_json({"type": "subscribe", "channel": "heartbeats"})
            await stream.send_json(SPOKEN["coinbase"].ask(["BTC-USDC"]))
            said = await all_heard(stream, 3)
            exchange.trade(3)
            said += await all_heard(stream, 1)
            exchange.forward(1.0)
            return said + await all_heard(stream, 1)

    listed = [listings(1, "USD")[0]]
    with Exchange(venue="coinbase", listed=listed, rate=0.0, waits=False, history=120) as exchange:
        # A second name, under which the same trades come.
        exchange.call(lambda server: object.__setattr__(server.market.listed[0], "alias", "USDC"))
        said = drive(exchange, work)
    assert [message["sequence_num"] for message in said] == [0, 1, 2, 3, 4]
    assert [message["channel"] for message in said] == [
        "subscriptions",
        "market_trades",
        "subscriptions",
        "market_trades",
        "heartbeats",
    ]
    numbers = [int(trade["trade_id"]) for trade in said[1]["events"][0]["trades"]]
    assert numbers == list(range(numbers[0], numbers[0] - 100, -1))
    assert {trade["product_id"] for trade in said[1]["events"][0]["trades"]} == {"BTC-USD"}


def test_a_connection_to_coinbase_that_asks_for_nothing_or_hears_nothing_is_closed():
    async def work(client):
        async with await client.stream("/") as idle:
            exchange.forward(5.0)
            assert (await heard(idle)).type is aiohttp.WSMsgType.CLOSE
        async with await client.stream("/") as quiet:
            await quiet.send_json(SPOKEN["coinbase"].ask(exchange.symbols))
            assert len(await all_heard(quiet, 2)) == 2
            exchange.forward(80.0)
            assert (await heard(quiet)).type is aiohttp.WSMsgType.CLOSE

    with Exchange(venue="coinbase", listed=1, rate=0.0, waits=False) as exchange:
        drive(exchange, work)


def test_kraken_says_its_state_first_and_beats_and_errs_with_200():
    async def work(client):
        async with await client.stream("/v2") as stream:
            assert (await all_heard(stream, 1))[0]["channel"] == "status"
            await stream.send_json({"method": "ping", "req_id": 5})
            (pong,) = await all_heard(stream, 1)
            assert (pong["method"], pong["req_id"]) == ("pong", 5)
            ask = {"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USD"], "snapshot": True}}
            await stream.send_json(ask)
            confirmed, snapshot = await all_heard(stream, 2)
            assert confirmed["success"]
            assert (snapshot["type"], len(snapshot["data"])) == ("snapshot", 50)
            exchange.forward(1.0)
            assert await all_heard(stream, 1) == [{"channel": "heartbeat"}]
        for _ in range(21):
            status, _, body = await client.get("/0/public/Trades?pair=XBTUSD")
        assert (status, json.loads(body)["error"]) == (200, ["EGeneral:Too many requests"])

    with Exchange(venue="kraken", listed=1, rate=0.0, waits=False, history=60) as exchange:
        drive(exchange, work)


@pytest.mark.parametrize("venue", ["okx", "bybit"])
def test_a_ping_by_message_keeps_a_connection_open(venue):
    spoken = SPOKEN[venue]
    ping, pong, seconds = {"okx": ("ping", "pong", 20.0), "bybit": ('{"op":"ping"}', '"op":"ping"', 400.0)}[venue]

    async def work(client):
        async with await client.stream(spoken.path) as stream:
            for _ in range(3):
                exchange.forward(seconds)
                await stream.send_str(ping)
                assert pong in (await heard(stream)).data
            exchange.forward(2 * seconds)
            assert (await heard(stream)).type is aiohttp.WSMsgType.CLOSE

    with Exchange(venue=venue, listed=1, rate=0.0, waits=False) as exchange:
        drive(exchange, work)


@VENUES
def test_a_new_field_and_another_spelling_leave_the_rest_of_a_message(venue):
    spoken = SPOKEN[venue]

    async def work(client):
        async with await client.stream(spoken.path) as stream:
            await stream.send_json(spoken.ask(exchange.symbols))
            until(lambda: exchange.call(lambda server: server.wires[0].talk.trades), "it was not subscribed", SECONDS)
            exchange.trade(1)
            for fault in (Fault.NEW_FIELD, Fault.NUMBER_FOR_STRING):
                exchange.inject(fault)
                exchange.trade(1)
            said = []
            while len(said) < 3:
                message = (await heard(stream)).data
                if list(spoken.read(json.loads(message))):
                    said.append(message)
            return said

    with Exchange(venue=venue, listed=1, rate=0.0, waits=False) as exchange:
        plain, more, other = drive(exchange, work)
    assert len(list(spoken.read(json.loads(more)))) == len(list(spoken.read(json.loads(other)))) == 1
    assert "addedLater" in more
    assert "addedLater" not in plain + other
    key = PROTOCOLS[venue].price_key.decode()
    assert (key + '"' in other) != (key + '"' in plain)


def shape(value):
    """What a message is made of: keys in their order, and types."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def recorded(name):
    lines = (FRAMES / name).read_text().splitlines()
    return [json.loads(json.loads(line)["raw"]) for line in lines]


# What is in a recording alone: from before Binance left its order ids out, or because no update has every field.
GONE = {"b", "a"}


@pytest.mark.data
@pytest.mark.skipif(not FRAMES.is_dir(), reason=f"nothing recorded in {FRAMES} (K2_TEST_DATA names its folder)")
@pytest.mark.parametrize(
    ("venue", "kind", "file", "combined"),
    [
        ("binance", "trade", "binance/trade.jsonl", True),
        ("binance", "quote", "binance/bookTicker.jsonl", True),
        ("coinbase", "trade", "coinbase/market_trades.jsonl", False),
        ("coinbase", "quote", "coinbase/ticker.jsonl", False),
        ("coinbase", "heartbeat", "coinbase/heartbeats.jsonl", False),
        ("kraken", "trade", "kraken_v2/trade.jsonl", False),
        ("bybit", "trade", "bybit/publicTrade.jsonl", False),
    ],
)
def test_a_message_has_the_keys_and_types_of_those_that_were_recorded(venue, kind, file, combined):
    market = Market(listings(1, PROTOCOLS[venue].quote_asset), 1)
    protocol = PROTOCOLS[venue](market, VenueClock())
    talk = Talk("c1", combined=combined, heartbeats=True, resolution=1000)
    ours = {
        "trade": lambda: protocol.of_trades(market.trade(1, 10**15, 10**15), talk),
        "quote": lambda: protocol.of_quotes(market.quote(1, 10**15), talk),
        "heartbeat": lambda: protocol.heartbeat(talk),
    }[kind]()
    theirs = [shape(message) for message in recorded(file) if isinstance(message, dict)]
    assert theirs
    for one in theirs:
        if venue == "binance" and kind == "trade":
            one["data"] = {key: each for key, each in one["data"].items() if key not in GONE}
    assert shape(json.loads(ours[0])) in theirs
