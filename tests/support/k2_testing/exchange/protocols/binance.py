"""Binance spot: streams by address or by message, raw or combined, and the REST interface beside them.

After binance-spot-api-docs (web-socket-streams.md, rest-api.md): names of streams in lower case, an unknown one confirmed and silent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from k2_testing.exchange.counting import Rules
from k2_testing.exchange.market import Listing, Quote, Trade
from k2_testing.exchange.protocols.protocol import Query, Reply, Talk, VenueProtocol, dumped, fixed, number

TRADE, QUOTE = "trade", "bookTicker"
WEIGHTS = {
    "/api/v3/historicalTrades": 25.0,
    "/api/v3/trades": 25.0,
    "/api/v3/exchangeInfo": 20.0,
    "/api/v3/ticker/24hr": 80.0,
}


class Binance(VenueProtocol):
    """See the module."""

    name = "binance"
    rules = Rules(
        messages_a_second=5,
        streams_a_connection=1024,
        connections=300,
        weight=6000,
        lifetime_seconds=86_400.0,
        ping_seconds=20.0,
    )
    price_key = b'"p":'

    @staticmethod
    def symbol(listing: Listing) -> str:
        return listing.base + listing.quote

    def spell(self, step: Decimal) -> Callable[[int], str]:
        return fixed(step, 8)

    def opened(self, path: str, values: Mapping[str, str], talk: Talk) -> list[bytes] | None:
        talk.resolution = 1 if values.get("timeUnit", "").upper() == "MICROSECOND" else 1000
        if path == "/stream":
            talk.combined = True
            names = values.get("streams", "").split("/")
        elif path == "/ws" or path.startswith("/ws/"):
            names = path.removeprefix("/ws").strip("/").split("/")
        else:
            return None
        self._hear(names, talk)
        return []

    def _hear(self, names: Sequence[str], talk: Talk, *, more: bool = True) -> None:
        for name in names:
            symbol, _, kind = name.partition("@")
            place = self.places.get(symbol.upper()) if symbol == symbol.lower() else None
            heard = {TRADE: talk.trades, QUOTE: talk.quotes}.get(kind)
            if place is not None and heard is not None:
                (heard.add if more else heard.discard)(place)

    def received(self, text: str, talk: Talk) -> list[bytes]:
        try:
            message = json.loads(text)
        except ValueError:
            return [dumped({"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"})]
        known = isinstance(message, dict)
        identity, names = (message.get("id"), message.get("params", [])) if known else (None, None)
        if not known or isinstance(identity, bool) or not isinstance(identity, int | str | None):
            return [dumped({"code": 2, "msg": "Invalid request: request ID must be an unsigned integer"})]
        method = message.get("method")
        if not isinstance(names, list) or not all(isinstance(name, str | bool) for name in names):
            return [dumped({"code": 2, "msg": "Invalid request: params must be an array of strings", "id": identity})]
        if method in {"SUBSCRIBE", "UNSUBSCRIBE"}:
            self._hear(names, talk, more=method == "SUBSCRIBE")
            return [dumped({"result": None, "id": identity})]
        if method == "LIST_SUBSCRIPTIONS":
            heard = [f"{self.symbols[place].lower()}@{TRADE}" for place in sorted(talk.trades)]
            heard += [f"{self.symbols[place].lower()}@{QUOTE}" for place in sorted(talk.quotes)]
            return [dumped({"result": heard, "id": identity})]
        if method == "SET_PROPERTY" and len(names) == 2 and names[0] == "combined":
            talk.combined = bool(names[1])
            return [dumped({"result": None, "id": identity})]
        return [dumped({"code": 2, "msg": f"Invalid request: unknown variant `{method}`", "id": identity})]

    def refusal(self, text: str, talk: Talk) -> bytes:
        return dumped({"code": 2, "msg": "Invalid request: too many subscriptions", "id": json.loads(text).get("id")})

    def _wrapped(self, place: int, kind: str, data: str, talk: Talk) -> bytes:
        if talk.combined:
            return f'{{"stream":"{self.symbols[place].lower()}@{kind}","data":{data}}}'.encode()
        return data.encode()

    def of_trades(self, trades: Sequence[Trade], talk: Talk) -> list[bytes]:
        place, unit = trades[0].listing, talk.resolution
        symbol, price, quantity = self.symbols[place], self.prices[place], self.quantities[place]
        now = self.clock.now() // unit
        return [
            self._wrapped(
                place,
                TRADE,
                f'{{"e":"trade","E":{max(now, trade.time // unit)},"s":"{symbol}","t":{trade.number},"p":"{price(trade.price)}",'
                f'"q":"{quantity(trade.quantity)}","T":{trade.time // unit},"m":{"false" if trade.buy else "true"},"M":true}}',
                talk,
            )
            for trade in trades
        ]

    def of_quotes(self, quotes: Sequence[Quote], talk: Talk) -> list[bytes]:
        place = quotes[0].listing
        symbol, price, quantity = self.symbols[place], self.prices[place], self.quantities[place]
        return [
            self._wrapped(
                place,
                QUOTE,
                f'{{"u":{quote.number},"s":"{symbol}","b":"{price(quote.bid)}","B":"{quantity(quote.bid_quantity)}",'
                f'"a":"{price(quote.ask)}","A":"{quantity(quote.ask_quantity)}"}}',
                talk,
            )
            for quote in quotes
        ]

    def shutdown(self, talk: Talk) -> list[bytes]:
        event = {"e": "serverShutdown", "E": self.clock.now() // talk.resolution}
        return [dumped({"stream": "!serverShutdown", "data": event} if talk.combined else event)]

    def unknown(self, talk: Talk, padding: str = "") -> bytes:
        event = {"e": "tradeCorrected", "E": self.clock.now() // talk.resolution, "note": padding}
        return dumped({"stream": "btcusdt@tradeCorrected", "data": event} if talk.combined else event)

    def weight(self, query: Query) -> float:
        if query.path == "/api/v3/ticker/24hr" and "symbol" in query.values:
            return 2.0
        return WEIGHTS.get(query.path, 1.0)

    def used(self, weight: float) -> dict[str, str]:
        return {"X-MBX-USED-WEIGHT": str(int(weight)), "X-MBX-USED-WEIGHT-1M": str(int(weight))}

    def limited(self, status: int, retry_after: int) -> Reply:
        words = "Too many requests; please use the websocket for live updates to avoid bans."
        if status == 418:
            until = self.clock.now() // 1000 + retry_after * 1000
            words = f"Way too many requests; IP banned until {until}. Please use the websocket for live updates to avoid bans."
        return Reply(dumped({"code": -1003, "msg": words}), status, {"Retry-After": str(retry_after)})

    def answer(self, query: Query) -> Reply:
        unit = 1 if query.headers.get("X-MBX-TIME-UNIT", "").upper() == "MICROSECOND" else 1000
        match query.path:
            case "/api/v3/ping":
                return Reply(b"{}")
            case "/api/v3/time":
                return Reply(dumped({"serverTime": self.clock.now() // unit}))
            case "/api/v3/exchangeInfo":
                return self._listing(query, unit)
            case "/api/v3/historicalTrades" | "/api/v3/trades":
                return self._trades(query, unit)
            case "/api/v3/ticker/24hr":
                return self._day(query)
            case _:
                return Reply(b"<html><body><h2>404 Not found</h2></body></html>", 404, {"Content-Type": "text/html"})

    def _asked(self, query: Query) -> list[int] | Reply:
        """The listings that a question is about: all of them where it names none."""
        symbols = query.values.get("symbols")
        names = (
            json.loads(symbols) if symbols else [query.values["symbol"]] if "symbol" in query.values else self.symbols
        )
        if any(name not in self.places for name in names):
            return _invalid(-1121, "Invalid symbol.")
        return [self.places[name] for name in names]

    def _listing(self, query: Query, unit: int) -> Reply:
        asked = self._asked(query)
        if isinstance(asked, Reply):
            return asked
        limits = [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self.rules.weight},
            {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 61_000},
        ]
        body = {"timezone": "UTC", "serverTime": self.clock.now() // unit, "rateLimits": limits, "exchangeFilters": []}
        return Reply(dumped(body | {"symbols": [self._instrument(place) for place in asked]}))

    def _instrument(self, place: int) -> dict[str, Any]:
        listing = self.market.listed[place]
        tick, lot = self.prices[place](1), self.quantities[place](1)
        most = self.quantities[place](int(listing.largest / listing.lot))
        return {
            "symbol": self.symbols[place],
            "status": "TRADING" if listing.trading else "BREAK",
            "baseAsset": listing.base,
            "baseAssetPrecision": 8,
            "quoteAsset": listing.quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "baseCommissionPrecision": 8,
            "quoteCommissionPrecision": 8,
            "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
            "icebergAllowed": True,
            "ocoAllowed": True,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
                {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": most, "stepSize": lot},
                {"filterType": "ICEBERG_PARTS", "limit": 10},
            ],
            "permissions": [],
            "permissionSets": [["SPOT"]],
        }

    def _trades(self, query: Query, unit: int) -> Reply:
        asked = self._asked(query)
        if isinstance(asked, Reply):
            return asked
        if "symbol" not in query.values:
            return _invalid(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        limit, place = number(query.values.get("limit"), 500, 1000), asked[0]
        if "fromId" in query.values and query.path == "/api/v3/historicalTrades":
            trades = self.market.numbered(place, number(query.values["fromId"], 0, 2**62), limit)
        else:
            trades = self.market.newest(place, limit)
        return Reply(dumped([self._row(trade, unit) for trade in trades]))

    def _row(self, trade: Trade, unit: int) -> dict[str, Any]:
        price, quantity = self.prices[trade.listing](trade.price), self.quantities[trade.listing](trade.quantity)
        return {
            "id": trade.number,
            "price": price,
            "qty": quantity,
            "quoteQty": f"{Decimal(price) * Decimal(quantity):.8f}",
            "time": trade.time // unit,
            "isBuyerMaker": not trade.buy,
            "isBestMatch": True,
        }

    def _day(self, query: Query) -> Reply:
        asked = self._asked(query)
        if isinstance(asked, Reply):
            return asked
        rows = [
            # The first listings are the most traded.
            {"symbol": self.symbols[place], "quoteVolume": f"{1_000_000_000 / (place + 1):.8f}", "count": 1000}
            for place in asked
        ]
        return Reply(dumped(rows[0] if "symbol" in query.values else rows))


def _invalid(code: int, words: str) -> Reply:
    return Reply(dumped({"code": code, "msg": words}), 400)
