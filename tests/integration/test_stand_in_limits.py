"""The stand-in exchange's doors: whom it lets in, how it answers questions, and what it counts."""

from __future__ import annotations

import json

import aiohttp
import pytest
from k2_testing.exchange import Exchange, Fault
from k2_testing.exchange_client import all_heard, drive, heard


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
        # An hour ago there was nothing yet.
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
