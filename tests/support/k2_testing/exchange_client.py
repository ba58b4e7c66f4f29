"""A client of the stand-in exchange as people write them, with nothing of K2: aiohttp, and a certificate that is checked."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time

import aiohttp

SECONDS = 60.0
STREAMS = "/stream?streams=btcusdt@trade/ethusdt@trade/bnbusdt@trade&timeUnit=MICROSECOND"


class Client:
    """Streams and questions; what it opened is closed when it is left."""

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
    """Symbols and numbers of trades of Binance's combined streams."""
    return [(message["data"]["s"], message["data"]["t"]) for message in messages]


def drive(exchange, work):
    """Run a client's work against an exchange."""

    async def main():
        async with Client(exchange) as client:
            return await asyncio.wait_for(work(client), 2 * SECONDS)

    return asyncio.run(main())
