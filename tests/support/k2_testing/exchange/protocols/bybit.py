"""Bybit: spot trades whose ids prove nothing, best bids and asks, and a REST interface that knows the last sixty trades.

After bybit-exchange.github.io/docs/v5: many trades a message, ids are UUIDs, the client pings by message.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from k2_testing.exchange.counting import Rules
from k2_testing.exchange.market import Listing, Quote, Trade
from k2_testing.exchange.protocols.protocol import Query, Reply, Talk, VenueProtocol, dumped, number

TRADES, QUOTES = "publicTrade", "orderbook.1"
RECENT = 60
IDENTITIES = uuid.UUID("6f1f7f5e-3c0a-4d35-9d7e-0b3f8f6f2a11")


class Bybit(VenueProtocol):
    """See the module."""

    name = "bybit"
    rules = Rules(connections=500, weight=600, weight_seconds=5.0, quiet_seconds=600.0)
    resolution = 1000
    finest = 13
    price_key = b'"p":'

    @staticmethod
    def symbol(listing: Listing) -> str:
        return listing.base + listing.quote

    def identity(self, trade: Trade) -> str:
        """The venue's id of a trade."""
        return str(uuid.uuid5(IDENTITIES, f"{self.symbols[trade.listing]} {trade.number}"))

    def opened(self, path: str, values: Mapping[str, str], talk: Talk) -> list[bytes] | None:
        return [] if path == "/v5/public/spot" else None

    def _answer(self, operation: str, talk: Talk, asked: Any, words: str = "", *, success: bool = True) -> bytes:
        known = asked.get("req_id", "") if isinstance(asked, dict) else ""
        return dumped(
            {"success": success, "ret_msg": words, "conn_id": talk.identity, "req_id": known, "op": operation}
        )

    def received(self, text: str, talk: Talk) -> list[bytes]:
        try:
            message = json.loads(text)
            operation, topics = message["op"], message.get("args", [])
        except (ValueError, KeyError, TypeError, AttributeError):
            return [self._answer("", talk, None, "error:request is invalid", success=False)]
        if operation == "ping":
            return [self._answer("ping", talk, message, "pong")]
        asked = [topic.rpartition(".") for topic in topics]
        unknown = [topic for topic, (kind, _, symbol) in zip(topics, asked, strict=True)
                   if kind not in {TRADES, QUOTES} or symbol not in self.places]  # fmt: skip
        if operation not in {"subscribe", "unsubscribe"} or unknown or len(topics) > 10:
            words = f"error:handler not found,topic:{','.join(unknown)}" if unknown else "args size >10"
            return [self._answer(operation, talk, message, words, success=False)]
        for kind, _, symbol in asked:
            heard = talk.trades if kind == TRADES else talk.quotes
            (heard.add if operation == "subscribe" else heard.discard)(self.places[symbol])
        return [self._answer(operation, talk, message)]

    def refusal(self, text: str, talk: Talk) -> bytes:
        return self._answer("subscribe", talk, json.loads(text), "error:too many requests", success=False)

    def of_trades(self, trades: Sequence[Trade], talk: Talk) -> list[bytes]:
        place = trades[0].listing
        symbol, price, quantity = self.symbols[place], self.prices[place], self.quantities[place]
        told = ",".join(
            f'{{"T":{trade.time // 1000},"s":"{symbol}","S":"{"Buy" if trade.buy else "Sell"}","v":"{quantity(trade.quantity)}",'
            f'"p":"{price(trade.price)}","L":"PlusTick","i":"{self.identity(trade)}","BT":false,"RPI":false,"seq":{trade.number * 7}}}'
            for trade in trades
        )
        now = max(self.clock.now(), trades[-1].time) // 1000
        return [f'{{"topic":"{TRADES}.{symbol}","type":"snapshot","ts":{now},"data":[{told}]}}'.encode()]

    def of_quotes(self, quotes: Sequence[Quote], talk: Talk) -> list[bytes]:
        said: list[bytes] = []
        for quote in quotes:
            price, quantity = self.prices[quote.listing], self.quantities[quote.listing]
            book = {
                "s": self.symbols[quote.listing],
                "b": [[price(quote.bid), quantity(quote.bid_quantity)]],
                "a": [[price(quote.ask), quantity(quote.ask_quantity)]],
                "u": quote.number,
                "seq": quote.number * 7,
            }
            now = quote.time // 1000
            message = {"topic": f"{QUOTES}.{book['s']}", "type": "snapshot", "ts": now, "data": book, "cts": now}
            said.append(dumped(message))
        return said

    def unknown(self, talk: Talk, padding: str = "") -> bytes:
        return dumped({"topic": f"tradeCorrection.{self.symbols[0]}", "type": "snapshot", "data": [{"note": padding}]})

    def limited(self, status: int, retry_after: int) -> Reply:
        body = {"retCode": 10006, "retMsg": "Too many visits. Exceeded the API Rate Limit.", "result": {}}
        return Reply(dumped(body), 403 if status == 418 else 200, {"X-Bapi-Limit-Reset-Timestamp": str(retry_after)})

    def answer(self, query: Query) -> Reply:
        if query.path == "/v5/market/time":
            return self._result({"timeSecond": str(self.clock.now() // 1_000_000)})
        if query.path == "/v5/market/instruments-info":
            listed = [self._listed(place) for place in range(len(self.symbols))]
            return self._result({"category": "spot", "list": listed})
        if query.path != "/v5/market/recent-trade":
            return Reply(b"", 404)
        place = self.places.get(query.values.get("symbol", ""))
        if place is None:
            return Reply(dumped({"retCode": 10001, "retMsg": "Not supported symbols", "result": {}}))
        trades = self.market.newest(place, number(query.values.get("limit"), RECENT, RECENT))[::-1]
        return self._result({"category": "spot", "list": [self._row(trade) for trade in trades]})

    def _result(self, result: Mapping[str, Any]) -> Reply:
        return Reply(
            dumped({"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": self.clock.now() // 1000})
        )

    def _row(self, trade: Trade) -> dict[str, Any]:
        return {
            "execId": self.identity(trade),
            "symbol": self.symbols[trade.listing],
            "price": self.prices[trade.listing](trade.price),
            "size": self.quantities[trade.listing](trade.quantity),
            "side": "Buy" if trade.buy else "Sell",
            "time": str(trade.time // 1000),
            "isBlockTrade": False,
            "isRPITrade": False,
            "seq": str(trade.number * 7),
        }

    def _listed(self, place: int) -> dict[str, Any]:
        listing = self.market.listed[place]
        return {
            "symbol": self.symbols[place],
            "baseCoin": listing.base,
            "quoteCoin": listing.quote,
            "innovation": "0",
            "status": "Trading" if listing.trading else "Closed",
            "marginTrading": "none",
            "lotSizeFilter": {"basePrecision": self.quantities[place](1), "quotePrecision": "0.0000001"},
            "priceFilter": {"tickSize": self.prices[place](1)},
        }
