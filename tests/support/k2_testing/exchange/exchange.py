"""The stand-in exchange on a thread of its own, for tests; `k2_testing.exchange` has the process."""

from __future__ import annotations

import asyncio
import copy
import ssl
import tempfile
import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pyarrow as pa
import trustme

from k2_testing.exchange.counting import Counts
from k2_testing.exchange.faults import Fault, Planned
from k2_testing.exchange.market import Trade
from k2_testing.exchange.server import Server
from k2_testing.exchange.setup import Setup

DECIMAL = pa.decimal128(38, 18)
TIMESTAMP = pa.timestamp("us", tz="UTC")
START_SECONDS = 30.0

T = TypeVar("T")


def certified(name: str, folder: Path) -> tuple[ssl.SSLContext, Path]:
    """What a server of that name needs, and the file with the authority that its clients trust."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    return context, ca_file


def oracle(server: Server, *, history: bool = False) -> pa.Table:
    """Every trade that the market made, by symbol and number, in the columns of a table of trades."""
    trades = server.market.all(history=history)
    listed = server.market.listed
    made = pa.table(
        {
            "symbol": pa.array([server.protocol.symbols[trade.listing] for trade in trades], pa.string()),
            "source_sequence": pa.array([trade.number for trade in trades], pa.int64()),
            "price": pa.array([listed[trade.listing].tick * trade.price for trade in trades], DECIMAL),
            "quantity": pa.array([listed[trade.listing].lot * trade.quantity for trade in trades], DECIMAL),
            "side": pa.array(["BUY" if trade.buy else "SELL" for trade in trades], pa.string()),
            "timestamp": pa.array([trade.time for trade in trades], pa.int64()).cast(TIMESTAMP),
        }
    )
    return made.sort_by([("symbol", "ascending"), ("source_sequence", "ascending")])


class Exchange:
    """A venue that tests can have, and can break.

        with Exchange(venue="binance", trades=1000, script=Script.drawn(seed=7, trades=1000, faults=12)) as exchange:
            ...  # a feed of exchange.url, exchange.rest_url, exchange.ca_file
            exchange.wait_quiet(60)
            assert table == exchange.oracle()

    Args:
        setup: what it is to be; see `Setup` for its fields.
    """

    def __init__(self, **setup: Any) -> None:
        self.setup = Setup(**setup)
        self._folder = tempfile.TemporaryDirectory(prefix="k2-exchange-")
        self._loop = asyncio.new_event_loop()
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="stand-in exchange", daemon=True)
        self._error: BaseException | None = None
        self._server: Server | None = None
        self.ca_file = Path()

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(START_SECONDS) or self._error is not None:
            raise RuntimeError("the stand-in exchange did not start") from self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS)
        self._folder.cleanup()
        if kind is None and self._error is not None:
            raise RuntimeError("the stand-in exchange failed") from self._error

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:  # noqa: BLE001  (told by the thread that asks)
            self._error = error
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self) -> None:
        context, self.ca_file = certified(self.setup.certified, Path(self._folder.name))
        self._server = Server(self.setup)
        await self._server.open(context)
        self._ready.set()
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({stopped, self._server.running}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        await self._server.close()

    @property
    def server(self) -> Server:
        """What runs on the other thread: touch it by `call` alone."""
        assert self._server is not None
        return self._server

    def call(self, question: Callable[[Server], T]) -> T:
        """Ask the server something on its own thread."""

        async def ask() -> T:
            return question(self.server)

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result(START_SECONDS)

    @property
    def url(self) -> str:
        """Where the streams are."""
        return f"wss://{self.setup.host}:{self.server.port}"

    @property
    def rest_url(self) -> str:
        """Where the REST interface is."""
        return f"https://{self.setup.host}:{self.server.port}"

    @property
    def symbols(self) -> list[str]:
        """What trades, as the venue writes it."""
        listed = self.server.market.listed
        return [symbol for symbol, listing in zip(self.server.protocol.symbols, listed, strict=True) if listing.trading]

    @property
    def counts(self) -> Counts:
        """What came in until now."""
        return self.call(lambda server: copy.deepcopy(server.counts))

    @property
    def connections(self) -> int:
        """How many are open."""
        return self.call(lambda server: sum(wire.listening for wire in server.wires))

    @property
    def made(self) -> int:
        """Trades since the market began."""
        return self.call(lambda server: server.market.made)

    def begin(self) -> None:
        """Let the market begin now."""
        self.call(lambda server: server.begin())

    def inject(self, fault: Fault, *, times: int = 1, seconds: float = 0.0, everywhere: bool = False) -> None:
        """Let a fault happen now, or to the next of its kind."""
        planned = Planned(0, fault, times, seconds, everywhere)
        self.call(lambda server: server.inject(planned))

    def forward(self, seconds: float) -> None:
        """Let so much time pass at once, for limits and lifetimes."""
        self.call(lambda server: server.clock.forward(seconds))

    def trade(self, trades: int) -> list[Trade]:
        """Make so many trades now, whatever the pace, and give them."""
        return self.call(lambda server: server.trade(trades))

    def wait_quiet(self, seconds: float) -> None:
        """Wait until the market has made what it was to make.

        Raises:
            TimeoutError: it did not within so many seconds.
        """
        asyncio.run_coroutine_threadsafe(asyncio.wait_for(self.server.quiet.wait(), seconds), self._loop).result(
            seconds + START_SECONDS
        )

    def oracle(self, *, history: bool = False) -> pa.Table:
        """Every trade since the market began, by symbol and number; with `history` those before it, too."""
        return self.call(lambda server: oracle(server, history=history))

    def quotes(self) -> pa.Table:
        """Every quote that was made, in order."""
        return self.call(_quotes)


def _quotes(server: Server) -> pa.Table:
    listed, quotes = server.market.listed, server.market.quoted

    def column(step: str, name: str) -> pa.Array:
        steps: Mapping[str, list[Decimal]] = {
            "tick": [listing.tick for listing in listed],
            "lot": [listing.lot for listing in listed],
        }
        return pa.array([steps[step][quote.listing] * getattr(quote, name) for quote in quotes], DECIMAL)

    return pa.table(
        {
            "symbol": pa.array([server.protocol.symbols[quote.listing] for quote in quotes], pa.string()),
            "source_sequence": pa.array([quote.number for quote in quotes], pa.int64()),
            "bid_price": column("tick", "bid"),
            "bid_quantity": column("lot", "bid_quantity"),
            "ask_price": column("tick", "ask"),
            "ask_quantity": column("lot", "ask_quantity"),
        }
    )
