"""OKX: trades one by one on the business address, best bids and asks on the public one, and the REST interface beside them.

After www.okx.com/docs-v5: a text "ping" keeps a connection open, lists stand newest first, and errors of REST come with a code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from k2_testing.exchange.counting import Rules
from k2_testing.exchange.market import Listing, Quote, Trade
from k2_testing.exchange.protocols.protocol import Query, Reply, Talk, VenueProtocol, dumped, number

TRADES, QUOTES = "trades-all", "bbo-tbt"
CHANNELS = {"/ws/v5/business": TRADES, "/ws/v5/public": QUOTES}


class Okx(VenueProtocol):
    """See the module."""

    name = "okx"
    # Twenty requests in two seconds; 3 connections a second.
    rules = Rules(
        connections=3, connection_seconds=1.0, weight=20, weight_seconds=2.0, ban_after=10**9, quiet_seconds=30.0
    )
    resolution = 1000
    finest = 12
    price_key = b'"px":'

    @staticmethod
    def symbol(listing: Listing) -> str:
        return f"{listing.base}-{listing.quote}"

    def opened(self, path: str, values: Mapping[str, str], talk: Talk) -> list[bytes] | None:
        talk.channel = CHANNELS.get(path, "")
        return [] if talk.channel else None

    def _error(self, code: str, words: str, talk: Talk) -> bytes:
        return dumped({"event": "error", "code": code, "msg": words, "connId": talk.identity})

    def received(self, text: str, talk: Talk) -> list[bytes]:
        if text == "ping":
            return [b"pong"]
        try:
            message = json.loads(text)
            kind, asked = message["op"], [(one["channel"], one["instId"]) for one in message["args"]]
        except (ValueError, KeyError, TypeError):
            return [self._error("60012", f"Invalid request: {text[:100]}", talk)]
        said: list[bytes] = []
        for channel, symbol in asked:
            place = self.places.get(symbol)
            if kind not in {"subscribe", "unsubscribe"} or channel != talk.channel or place is None:
                words = f"Wrong URL or channel:{channel},instId:{symbol} doesn't exist. Please use the correct URL, channel and parameters"
                said.append(self._error("60018", words, talk))
                continue
            heard = talk.trades if channel == TRADES else talk.quotes
            (heard.add if kind == "subscribe" else heard.discard)(place)
            argument = {"channel": channel, "instId": symbol}
            said.append(dumped({"event": kind, "arg": argument, "connId": talk.identity}))
        return said

    def refusal(self, text: str, talk: Talk) -> bytes:
        return self._error("60014", "Requests too frequent", talk)

    def _row(self, trade: Trade) -> str:
        return (
            f'{{"instId":"{self.symbols[trade.listing]}","tradeId":"{trade.number}","px":"{self.prices[trade.listing](trade.price)}",'
            f'"sz":"{self.quantities[trade.listing](trade.quantity)}","side":"{"buy" if trade.buy else "sell"}",'
            f'"source":"0","ts":"{trade.time // 1000}"}}'
        )

    def of_trades(self, trades: Sequence[Trade], talk: Talk) -> list[bytes]:
        argument = f'{{"channel":"{TRADES}","instId":"{self.symbols[trades[0].listing]}"}}'
        return [f'{{"arg":{argument},"data":[{self._row(trade)}]}}'.encode() for trade in trades]

    def of_quotes(self, quotes: Sequence[Quote], talk: Talk) -> list[bytes]:
        said: list[bytes] = []
        for quote in quotes:
            price, quantity = self.prices[quote.listing], self.quantities[quote.listing]
            data = {
                "asks": [[price(quote.ask), quantity(quote.ask_quantity), "0", "13"]],
                "bids": [[price(quote.bid), quantity(quote.bid_quantity), "0", "2"]],
                "ts": str(quote.time // 1000),
                "seqId": quote.number,
            }
            said.append(dumped({"arg": {"channel": QUOTES, "instId": self.symbols[quote.listing]}, "data": [data]}))
        return said

    def shutdown(self, talk: Talk) -> list[bytes]:
        words = "The connection will soon be closed for a service upgrade. Please reconnect."
        return [dumped({"event": "notice", "code": "64008", "msg": words, "connId": talk.identity})]

    def unknown(self, talk: Talk, padding: str = "") -> bytes:
        return dumped({"arg": {"channel": "trade-corrections", "instId": self.symbols[0]}, "data": [{"note": padding}]})

    def limited(self, status: int, retry_after: int) -> Reply:
        return Reply(dumped({"code": "50011", "data": [], "msg": "Too Many Requests"}), status)

    def answer(self, query: Query) -> Reply:
        if query.path == "/api/v5/public/time":
            return _data([{"ts": str(self.clock.now() // 1000)}])
        if query.path == "/api/v5/public/instruments":
            return _data([self._listed(place) for place in range(len(self.symbols))])
        if query.path not in {"/api/v5/market/history-trades", "/api/v5/market/trades"}:
            return Reply(dumped({"code": "404", "data": [], "msg": "Not Found"}), 404)
        place = self.places.get(query.values.get("instId", ""))
        if place is None:
            return Reply(dumped({"code": "51001", "data": [], "msg": "Instrument ID doesn't exist."}))
        limit = number(query.values.get("limit"), 100, 100 if query.path.endswith("history-trades") else 500)
        below = number(query.values.get("after"), 2**62, 2**62)
        rows = ",".join(self._row(trade) for trade in reversed(self.market.below(place, below, limit)))
        return Reply(f'{{"code":"0","msg":"","data":[{rows}]}}'.encode())

    def _listed(self, place: int) -> dict[str, Any]:
        listing = self.market.listed[place]
        return {
            "instType": "SPOT",
            "instId": self.symbols[place],
            "baseCcy": listing.base,
            "quoteCcy": listing.quote,
            "tickSz": self.prices[place](1),
            "lotSz": self.quantities[place](1),
            "minSz": self.quantities[place](1),
            "maxLmtSz": "9999999999999999",
            "state": "live" if listing.trading else "suspend",
        }


def _data(rows: Sequence[Mapping[str, Any]]) -> Reply:
    return Reply(dumped({"code": "0", "msg": "", "data": rows}))
