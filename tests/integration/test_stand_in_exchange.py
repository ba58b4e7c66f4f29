"""The stand-in exchange itself: what it says is what it made, each fault does on the wire what its name says, and it counts right."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import aiohttp
import pyarrow as pa
import pytest
from k2_testing.exchange import Exchange, Fault, Planned, Script, listings

SECONDS = 60.0
STREAMS = "/stream?streams=btcusdt@trade/ethusdt@trade/bnbusdt@trade&timeUnit=MICROSECOND"
DECIMAL = pa.decimal128(38, 18)


class Client:
    """A client as people write them: aiohttp, and a certificate that is checked."""

    def __init__(self, exchange):
        self._exchange, self._sockets = exchange, []

    async def __aenter__(self):
        context = ssl.create_default_context(cafile=str(self._exchange.ca_file))
        connector = aiohttp.TCPConnector(ssl=context, socket_factory=self._opened)
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    def _opened(self, address):
        self._sockets.append(socket.socket(*address[:3]))
        self._sockets[-1].setblocking(False)
        return self._sockets[-1]

    async def __aexit__(self, *_):
        await self._session.close()
        # The loop ends with us, and TLS has still to say goodbye.
        end = time.monotonic() + SECONDS
        while any(one.fileno() != -1 for one in self._sockets) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def stream(self, path=STREAMS, **options):
        return await self._session.ws_connect(self._exchange.url + path, max_msg_size=0, **options)

    async def get(self, path, **headers):
        async with self._session.get(self._exchange.rest_url + path, headers=headers) as response:
            return response.status, response.headers, await response.read()


async def heard(stream):
    """The next message."""
    return await asyncio.wait_for(stream.receive(), SECONDS)


async def all_heard(stream, messages):
    """The data of so many messages."""
    return [json.loads((await heard(stream)).data) for _ in range(messages)]


def numbers(messages):
    return [(message["data"]["s"], message["data"]["t"]) for message in messages]


def drive(exchange, work):
    """Run a client's work against an exchange."""

    async def main():
        async with Client(exchange) as client:
            return await asyncio.wait_for(work(client), 2 * SECONDS)

    return asyncio.run(main())


def until(question, what):
    deadline = time.monotonic() + SECONDS
    while not question():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.fixture(scope="module")
def shared():
    with Exchange(listed=3, rate=0.0, waits=False, history=5, rules={"weight": 0, "messages_a_second": 0}) as exchange:
        yield exchange


@pytest.fixture
def still(shared):
    """An exchange whose market moves only when it is told to, with nobody connected."""
    until(lambda: shared.connections == 0, "somebody is still connected")
    return shared


def spelled(exchange, rows):
    """Rows of (symbol, number, price, quantity, side, time) as the oracle has them."""
    columns = list(zip(*sorted(rows), strict=True))
    names = exchange.oracle().schema.names
    table = pa.table({name: pa.array(column) for name, column in zip(names, columns, strict=True)})
    for name in ("price", "quantity"):
        table = table.set_column(names.index(name), name, table[name].cast(DECIMAL))
    return table.set_column(5, "timestamp", table["timestamp"].cast(pa.timestamp("us", tz="UTC")))


def test_what_a_client_hears_is_what_the_market_made_whatever_its_sizes():
    async def work(client):
        names = "/".join(f"{symbol.lower()}@trade" for symbol in symbols)
        async with await client.stream(f"/stream?streams={names}&timeUnit=MICROSECOND") as stream:
            return [message["data"] for message in await all_heard(stream, 2_000 + 2 * len(symbols))]

    with Exchange(listed=listings(6), rate=None, trades=2_000) as exchange:
        symbols = exchange.symbols
        said = drive(exchange, work)
        exchange.wait_quiet(SECONDS)
        rows = [(m["s"], m["t"], m["p"], m["q"], "SELL" if m["m"] else "BUY", m["T"]) for m in said]
        assert spelled(exchange, rows) == exchange.oracle()
        assert len({symbol for symbol, *_ in rows}) == 6
        assert max(float(row[3]) for row in rows) > 1e9
        assert min(float(row[2]) for row in rows) < 1e-6
        # Some have the very microsecond of the one before.
        times = [m["T"] for m in said]
        assert len(set(times)) < len(times)
    for symbol in symbols:
        theirs = [m["t"] for m in said if m["s"] == symbol]
        assert theirs == list(range(theirs[0], theirs[0] + len(theirs)))


def test_a_market_is_the_same_for_the_same_seed_and_another_for_another():
    def made(seed):
        with Exchange(seed=seed, rate=0.0, waits=False) as exchange:
            exchange.trade(200)
            return exchange.oracle().drop_columns("timestamp")

    assert made(5) == made(5)
    assert made(5) != made(6)


def test_streams_are_asked_for_by_message_and_an_unknown_one_is_confirmed_and_silent(still):
    async def work(client):
        async with await client.stream("/ws") as stream:
            await stream.send_json(
                {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "nobody@trade", "ETHUSDT@trade"], "id": 7}
            )
            assert await all_heard(stream, 1) == [{"result": None, "id": 7}]
            await stream.send_json({"method": "LIST_SUBSCRIPTIONS", "id": "eight"})
            assert await all_heard(stream, 1) == [{"result": ["btcusdt@trade"], "id": "eight"}]
            made = [trade for trade in still.trade(20) if trade.listing == 0]
            said = await all_heard(stream, len(made))
            assert [message["t"] for message in said] == [trade.number for trade in made]
            # Without being asked for more, milliseconds.
            assert [message["T"] for message in said] == [trade.time // 1000 for trade in made]
            await stream.send_json({"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": 9})
            assert await all_heard(stream, 1) == [{"result": None, "id": 9}]
            still.trade(20)
            await stream.send_str("{")
            await stream.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": {}})
            assert [message["code"] for message in await all_heard(stream, 2)] == [3, 2]

    drive(still, work)


def test_quotes_have_rising_numbers_and_no_time():
    async def work(client):
        async with await client.stream("/ws/btcusdt@bookTicker") as stream:
            exchange.begin()
            return await all_heard(stream, 20)

    with Exchange(listed=1, rate=0.0, waits=False, quote_rate=500.0) as exchange:
        said = drive(exchange, work)
        quotes = exchange.quotes().slice(0, 20)
    assert {tuple(message) for message in said} == {("u", "s", "b", "B", "a", "A")}
    assert [message["u"] for message in said] == quotes["source_sequence"].to_pylist()
    assert pa.array([message["a"] for message in said]).cast(DECIMAL) == quotes["ask_price"].combine_chunks()
    steps = {after["u"] - before["u"] for before, after in pairwise(said)}
    assert min(steps) >= 1
    assert max(steps) > 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.CLOSE_1000, 1000),
        (Fault.CLOSE_1001, 1001),
        (Fault.CLOSE_1006, 1006),
        (Fault.CLOSE_1008, 1008),
        (Fault.CLOSE_1011, 1011),
        (Fault.LIFETIME, 1001),
        (Fault.CUT_FRAME, 1006),
    ],
)
def test_a_connection_is_closed_with_the_code_that_was_asked_for(still, fault, code):
    async def work(client):
        async with await client.stream() as stream:
            still.inject(fault)
            still.trade(1)
            while not stream.closed:
                await heard(stream)
            return stream.close_code

    assert drive(still, work) == code


class Raw:
    """A connection without a library: what the sockets say."""

    def __init__(self, exchange):
        context = ssl.create_default_context(cafile=str(exchange.ca_file))
        plain = socket.create_connection(("127.0.0.1", exchange.server.port), timeout=SECONDS)
        self.socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        self.socket.sendall(
            f"GET {STREAMS} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += self.socket.recv(1)
        assert answer.startswith(b"HTTP/1.1 101")

    def error(self):
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def ping(self):
        self.socket.sendall(b"\x89\x80\x00\x00\x00\x00")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.socket.close()


def test_a_reset_is_a_reset_and_an_end_without_a_word_is_none(still):
    with Raw(still) as client:
        still.inject(Fault.RESET)
        # What TLS makes of it differs by its version: the socket itself is asked.
        until(lambda: client.error() == errno.ECONNRESET, "no RST came")
    with Raw(still) as client:
        still.inject(Fault.CLOSE_1006)
        assert client.socket.recv(4096) == b""
        assert client.error() == 0


def test_a_half_open_connection_says_nothing_answers_nothing_and_does_not_end(still):
    with Raw(still) as client:
        client.ping()
        assert client.socket.recv(2) == b"\x8a\x00"
        still.inject(Fault.HALF_OPEN)
        before = still.counts.messages
        still.trade(10)
        client.ping()
        client.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        assert still.counts.messages == before
        assert still.connections == 0
        still.call(lambda server: [wire.reset() for wire in server.wires])


def test_a_mute_connection_answers_pings_and_has_no_data(still):
    with Raw(still) as client:
        still.inject(Fault.MUTE)
        still.trade(10)
        client.ping()
        assert client.socket.recv(4096) == b"\x8a\x00"


def test_a_ping_wants_its_payload_back(still):
    async def work(client):
        async with await client.stream(autoping=False) as stream:
            pongs = still.counts.pongs
            still.inject(Fault.PING_WITH_PAYLOAD)
            message = await heard(stream)
            assert message.type is aiohttp.WSMsgType.PING
            assert len(message.data) == 125
            await stream.pong(b"another")
            await stream.ping()
            assert (await heard(stream)).type is aiohttp.WSMsgType.PONG
            assert still.counts.pongs == pongs + 1
            still.forward(61.0)
            while not stream.closed:
                await heard(stream)
            return stream.close_code

    missing = still.counts.missing_pongs
    assert drive(still, work) == 1008
    assert still.counts.missing_pongs == missing + 1


def test_pings_come_are_answered_by_a_client_that_knows_how_and_can_cease():
    async def work(client):
        async with await client.stream(autoping=False) as stream:
            for _ in range(3):
                message = await heard(stream)
                assert message.type is aiohttp.WSMsgType.PING
                await stream.pong(message.data)
            exchange.inject(Fault.NO_PINGS)
            # Whatever was on its way comes before the answer.
            await stream.ping(b"mine")
            while (await heard(stream)).data != b"mine":
                pass
            exchange.forward(30.0)
            exchange.trade(1)
            return (await heard(stream)).type

    rules = {"ping_seconds": 0.05, "pong_seconds": 3600.0, "messages_a_second": 0}
    with Exchange(rate=0.0, waits=False, rules=rules) as exchange:
        assert drive(exchange, work) is aiohttp.WSMsgType.TEXT
        assert exchange.counts.pongs >= 3


def test_a_shutdown_is_announced_and_then_comes(still):
    async def work(client):
        async with await client.stream() as stream:
            still.inject(Fault.SHUTDOWN, seconds=600.0)
            (told,) = await all_heard(stream, 1)
            made = still.trade(1)
            assert numbers(await all_heard(stream, 1)) == [(still.symbols[made[0].listing], made[0].number)]
            still.forward(601.0)
            while not stream.closed:
                await heard(stream)
            assert stream.close_code == 1001
            return told

    told = drive(still, work)
    assert told["stream"] == "!serverShutdown"
    assert told["data"]["e"] == "serverShutdown"


def test_a_connection_has_a_lifetime_by_the_venues_own_clock(still):
    async def work(client):
        async with await client.stream() as stream:
            still.forward(86_399.0)
            still.trade(1)
            assert (await heard(stream)).type is aiohttp.WSMsgType.TEXT
            still.forward(1.0)
            assert (await heard(stream)).type is aiohttp.WSMsgType.CLOSE

    drive(still, work)


def test_a_dead_stream_is_silent_among_living_ones(still):
    async def work(client):
        async with await client.stream() as stream:
            still.inject(Fault.DEAD_STREAM)
            made = [trade for trade in still.trade(60) if trade.listing != 0]
            said = await all_heard(stream, len(made))
            assert {symbol for symbol, _ in numbers(said)} == {"ETHUSDT", "BNBUSDT"}

    drive(still, work)


def spoiled(still, fault, trades=6, **options):
    """What of trades should be heard, and what is after a fault happened to the first."""

    async def work(client):
        async with await client.stream(autoping=False) as stream:
            still.inject(fault, **options)
            made = still.trade(trades)
            await stream.ping(b"end")
            said = []
            while (message := await heard(stream)).type is not aiohttp.WSMsgType.PONG:
                said.append(message.data)
                if message.type is aiohttp.WSMsgType.ERROR:
                    break
            return made, said

    made, said = drive(still, work)
    return [(still.symbols[trade.listing], trade.number) for trade in made], said


def whole(said):
    return numbers(map(json.loads, said))


def test_dropped_messages_leave_a_hole(still):
    made, said = spoiled(still, Fault.DROPPED, times=2)
    assert whole(said) == made[2:]


def test_repeated_and_swapped_messages_are_whole(still):
    made, said = spoiled(still, Fault.REPEATED, times=2)
    assert whole(said) == [made[0], made[0], made[1], made[1], *made[2:]]
    made, said = spoiled(still, Fault.SWAPPED)
    assert whole(said) == [made[1], made[0], *made[2:]]


def test_a_message_is_cut_and_the_next_is_whole(still):
    made, said = spoiled(still, Fault.CUT_JSON)
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(said[0])
    assert whole(said[1:]) == made[1:]


def test_broken_utf8_is_what_no_client_can_read(still):
    _, said = spoiled(still, Fault.BROKEN_UTF8)
    assert isinstance(said[0], Exception)
    assert still.counts.faults[Fault.BROKEN_UTF8] >= 1


@pytest.mark.parametrize("fault", [Fault.HUGE_FRAME, Fault.HTML_MESSAGE, Fault.UNKNOWN_EVENT])
def test_a_message_that_nobody_knows_comes_between_those_that_are_whole(still, fault):
    made, said = spoiled(still, fault)
    assert whole(said[1:]) == made
    if fault is Fault.HTML_MESSAGE:
        assert said[0].startswith("<html>")
    else:
        assert json.loads(said[0])["data"]["e"] == "tradeCorrected"
        assert (len(said[0]) >= 10_000_000) == (fault is Fault.HUGE_FRAME)


def test_a_field_more_and_a_price_as_a_number_change_nothing_else(still):
    made, said = spoiled(still, Fault.NEW_FIELD)
    assert whole(said) == made
    first, second = (json.loads(message)["data"] for message in said[:2])
    assert set(first) - set(second) == {"addedLater"}
    made, said = spoiled(still, Fault.NUMBER_FOR_STRING)
    assert whole(said) == made
    assert [type(json.loads(message)["data"]["p"]) for message in said[:2]] == [float, str]


def test_the_last_trades_come_once_more(still):
    still.trade(3)
    last = {(still.symbols[n], t.number) for n in range(3) for t in still.call(lambda s, n=n: s.market.newest(n, 100))}
    made, said = spoiled(still, Fault.SNAPSHOT_AGAIN)
    assert whole(said)[-len(made) :] == made
    assert set(whole(said)[: -len(made)]) == last


def test_a_subscription_is_slow_refused_or_deaf(still):
    ask = {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1}

    async def work(client):
        async with await client.stream("/ws", autoping=False) as stream:
            still.inject(Fault.REFUSED_SUBSCRIPTION)
            await stream.send_json(ask)
            assert (await all_heard(stream, 1))[0]["code"] == 2
            still.inject(Fault.SLOW_SUBSCRIPTION, seconds=0.2)
            await stream.send_json(ask)
            await stream.ping()
            assert (await heard(stream)).type is aiohttp.WSMsgType.PONG
            assert await all_heard(stream, 1) == [{"result": None, "id": 1}]
        async with await client.stream("/stream") as stream:
            still.inject(Fault.DEAF_SUBSCRIPTION)
            await stream.send_json(ask)
            assert await all_heard(stream, 1) == [{"result": None, "id": 1}]
            still.trade(30)
            await stream.send_json(ask | {"params": ["ethusdt@trade"]})
            assert await all_heard(stream, 1) == [{"result": None, "id": 1}]

    drive(still, work)


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Fault.CONNECT_429, 429), (Fault.CONNECT_418, 418), (Fault.CONNECT_451, 451), (Fault.CONNECT_403, 403)],
)
def test_a_connection_is_refused_by_status_and_the_next_is_not(still, fault, status):
    async def work(client):
        still.inject(fault, seconds=7.0)
        with pytest.raises(aiohttp.WSServerHandshakeError) as told:
            await client.stream()
        async with await client.stream():
            return told.value

    told = drive(still, work)
    assert told.status == status
    assert told.headers.get("Retry-After") == ("7" if status in {429, 418} else None)


def test_trades_are_asked_for_by_number_and_the_newest_by_none(still):
    async def work(client):
        made = still.call(lambda server: server.market.newest(0, 100_000))
        path = "/api/v3/historicalTrades?symbol=BTCUSDT"
        _, headers, body = await client.get(
            f"{path}&fromId={made[-4].number}&limit=3", **{"X-MBX-TIME-UNIT": "MICROSECOND"}
        )
        rows = json.loads(body)
        assert [row["id"] for row in rows] == [trade.number for trade in made[-4:-1]]
        assert [row["time"] for row in rows] == [trade.time for trade in made[-4:-1]]
        assert [row["isBuyerMaker"] for row in rows] == [not trade.buy for trade in made[-4:-1]]
        assert int(headers["X-MBX-USED-WEIGHT-1M"]) >= 25
        _, _, body = await client.get(f"{path}&limit=2")
        assert [row["id"] for row in json.loads(body)] == [trade.number for trade in made[-2:]]
        status, _, body = await client.get("/api/v3/historicalTrades?symbol=NOBODY")
        assert (status, json.loads(body)["code"]) == (400, -1121)
        _, _, body = await client.get("/api/v3/exchangeInfo")
        assert [one["symbol"] for one in json.loads(body)["symbols"]] == still.symbols

    still.trade(50)
    drive(still, work)


def test_an_answer_is_a_page_or_cut_or_broken_or_empty_or_stale_or_refused(still):
    path = "/api/v3/historicalTrades?symbol=BTCUSDT&limit=5"

    async def work(client):
        _, _, good = await client.get(path)
        still.inject(Fault.REST_HTML)
        status, headers, body = await client.get(path)
        assert (status, headers["Content-Type"]) == (200, "text/html")
        assert body.startswith(b"<html>")
        still.inject(Fault.REST_CUT)
        with pytest.raises(aiohttp.ClientPayloadError):
            await client.get(path)
        still.inject(Fault.REST_BROKEN_UTF8)
        _, _, body = await client.get(path)
        assert body.replace(b"\xff\xfe", b"") == good != body
        still.inject(Fault.REST_EMPTY)
        assert (await client.get(path))[2] == b"[]"
        # Half a minute ago there were those of the history alone.
        still.inject(Fault.REST_STALE, seconds=3600.0)
        assert json.loads((await client.get(path))[2]) == []
        still.inject(Fault.REST_429, seconds=2.0)
        status, headers, _ = await client.get(path)
        assert (status, headers["Retry-After"]) == (429, "2")
        for fault, code in ((Fault.REST_451, 451), (Fault.REST_403, 403), (Fault.REST_503, 503), (Fault.REST_418, 418)):
            still.inject(fault)
            assert (await client.get(path))[0] == code
        still.inject(Fault.REST_SLOW, seconds=0.05)
        assert (await client.get(path))[2] == good

    still.trade(20)
    drive(still, work)


def test_too_many_messages_a_second_close_a_connection_and_are_counted():
    async def work(client):
        async with await client.stream("/ws") as stream:
            for n in range(5):
                await stream.send_json({"method": "LIST_SUBSCRIPTIONS", "id": n})
            assert len(await all_heard(stream, 5)) == 5
            exchange.forward(1.0)
            for n in range(6):
                await stream.send_json({"method": "LIST_SUBSCRIPTIONS", "id": n})
            while not stream.closed:
                await heard(stream)
            return stream.close_code

    with Exchange(rate=0.0, waits=False) as exchange:
        assert drive(exchange, work) == 1008
        counts = exchange.counts
    assert (counts.messages, counts.most_messages_a_second, counts.over_messages) == (11, 6, 1)


def test_too_much_weight_is_429_then_a_ban_and_passes():
    async def work(client):
        async def status():
            code, headers, _ = await client.get("/api/v3/historicalTrades?symbol=BTCUSDT")
            return code, int(headers.get("Retry-After", 0))

        # From the beginning of a window, wherever the clock stands.
        exchange.call(lambda server: server.clock.forward(60.0 - server.clock.seconds() % 60.0))
        assert [(await status())[0] for _ in range(4)] == [200] * 4
        told = [await status() for _ in range(3)]
        assert [code for code, _ in told] == [429, 429, 418]
        assert 0 < told[0][1] <= 61
        assert told[2][1] == 120
        exchange.forward(60.0)
        assert (await status())[0] == 418
        exchange.forward(61.0)
        assert (await status())[0] == 200

    with Exchange(rate=0.0, waits=False, rules={"weight": 100, "ban_after": 2}) as exchange:
        drive(exchange, work)
        counts = exchange.counts
    assert (counts.requests, counts.weight, counts.most_weight_in_window) == (9, 225.0, 175.0)
    assert (counts.status_429, counts.bans) == (2, 1)
    assert counts.paths == {"/api/v3/historicalTrades": 9}


def test_too_many_connections_are_refused_until_time_has_passed():
    async def work(client):
        for _ in range(2):
            await (await client.stream()).close()
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await client.stream()
        exchange.forward(301.0)
        await (await client.stream()).close()

    with Exchange(rate=0.0, waits=False, rules={"connections": 2}) as exchange:
        drive(exchange, work)
        counts = exchange.counts
    assert (counts.connections, counts.refused_connections, counts.most_connections_in_window) == (3, 1, 3)


def test_ids_begin_again_and_the_clock_jumps():
    async def work(client):
        async with await client.stream("/stream?streams=btcusdt@trade&timeUnit=MICROSECOND") as stream:
            exchange.trade(1)
            exchange.inject(Fault.IDS_FROM_ONE)
            exchange.inject(Fault.CLOCK, seconds=5.0)
            exchange.trade(2)
            return [message["data"] for message in await all_heard(stream, 3)]

    with Exchange(listed=1, rate=0.0, waits=False) as exchange:
        said = drive(exchange, work)
        assert [row["source_sequence"] for row in exchange.oracle().to_pylist()] == [1, 2, said[0]["t"]]
    assert [message["t"] for message in said[1:]] == [1, 2]
    assert 5_000_000 <= said[1]["T"] - said[0]["T"] < 5_000_000 + SECONDS * 1e6


def test_a_script_happens_at_its_place_whatever_the_pace_and_ends_before_the_market_does():
    """A client that hears all of it misses what the script dropped, and only that."""
    script = Script([Planned(50, Fault.DROPPED, times=3), Planned(120, Fault.REPEATED, times=2)])

    async def work(client):
        async with await client.stream(autoping=False) as stream:
            exchange.wait_quiet(SECONDS)
            await stream.ping(b"end")
            said = []
            while (message := await heard(stream)).type is not aiohttp.WSMsgType.PONG:
                said.append(json.loads(message.data))
            return numbers(said)

    runs = []
    for rate in (None, 5_000.0):
        with Exchange(seed=3, rate=rate, trades=200, script=script) as exchange:
            said = drive(exchange, work)
            made = {(row["symbol"], row["source_sequence"]) for row in exchange.oracle().to_pylist()}
        assert len(made) == 206
        assert len(made - set(said)) == 3
        assert len(said) - len(set(said)) == 2
        runs.append((sorted(made - set(said)), sorted(made)))
    assert runs[0] == runs[1]


def test_a_script_is_the_same_for_a_seed_and_has_every_kind_over_many():
    assert Script.drawn(4, 1000, 20).planned == Script.drawn(4, 1000, 20).planned
    assert Script.drawn(4, 1000, 20).planned != Script.drawn(5, 1000, 20).planned
    drawn = {planned.fault for seed in range(60) for planned in Script.drawn(seed, 1000, 20, kinds=Fault).planned}
    assert drawn == set(Fault)


def test_a_certificate_for_another_name_does_not_fit():
    async def work(client):
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await client.stream()

    with Exchange(rate=0.0, waits=False, certified="exchange.example") as exchange:
        drive(exchange, work)


def test_the_exchange_is_a_process_too(tmp_path):
    command = [
        sys.executable,
        "-m",
        "k2_testing.exchange",
        "--symbols",
        "2",
        "--rate",
        "500",
        "--ca-out",
        str(tmp_path / "ca.pem"),
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            where = json.loads(process.stdout.readline())
            assert where["symbols"] == ["BTCUSDT", "ETHUSDT"]

            async def main():
                context = ssl.create_default_context(cafile=where["ca_file"])
                async with (
                    aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
                    session.ws_connect(where["url"] + "/ws/btcusdt@trade") as stream,
                ):
                    return await all_heard(stream, 3)

            assert {message["s"] for message in asyncio.run(main())} == {"BTCUSDT"}
            process.send_signal(signal.SIGTERM)
            counted = json.loads(process.stdout.readline())
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()
    assert counted["connections"] == 1
    assert counted["made"] > 0
