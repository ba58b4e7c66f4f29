"""The stand-in exchange itself: what it says is what it made, and what befalls a connection is what was asked for."""

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
from itertools import pairwise
from pathlib import Path

import aiohttp
import pyarrow as pa
import pytest
from k2_testing.cluster import until
from k2_testing.exchange import Exchange, Fault, Planned, Script, listings
from k2_testing.exchange_client import SECONDS, STREAMS, all_heard, drive, heard, numbers

DECIMAL = pa.decimal128(38, 18)


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
        until(lambda: client.error() == errno.ECONNRESET, "no RST came", SECONDS)
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
                    async with session.get(where["rest_url"] + "/api/v3/time") as response:
                        assert response.status == 200
                    return await all_heard(stream, 3)

            assert {message["s"] for message in asyncio.run(main())} == {"BTCUSDT"}
            process.send_signal(signal.SIGTERM)
            counted = json.loads(process.stdout.readline())
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()
    assert counted["connections"] == 1
    assert counted["paths"] == {"/api/v3/time": 1}
    assert counted["made"] > 0
