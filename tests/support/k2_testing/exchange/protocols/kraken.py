"""Kraken: the second version of its streams, whose prices are JSON numbers, and the REST interface, whose names are older.

After docs.kraken.com (websocket-v2, rest-api): a snapshot of trades comes when it is asked for, each symbol is confirmed by itself,
errors of REST come with status 200, and BTC is XBT there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from k2_testing.exchange.counting import Rules
from k2_testing.exchange.market import Listing, Quote, Trade, digits
from k2_testing.exchange.protocols.protocol import Query, Reply, Talk, VenueProtocol, dumped, iso, number

TRADES, TICKER = "trade", "ticker"
SNAPSHOT = 50
OLD_NAMES = {"BTC": "XBT", "DOGE": "XDG"}


class Kraken(VenueProtocol):
    """See the module."""

    name = "kraken"
    rules = Rules(connections=150, connection_seconds=600.0, weight=20, weight_seconds=20.0, ban_after=10**9)
    quote_asset = "USD"
    finest = 10
    price_key = b'"price":'

    @staticmethod
    def symbol(listing: Listing) -> str:
        return f"{listing.base}/{listing.quote}"

    def pair(self, place: int) -> tuple[str, str, str]:
        """The key, the short and the slashed name of a pair in the REST interface."""
        listing = self.market.listed[place]
        base = OLD_NAMES.get(listing.base, listing.base)
        key = f"X{base}Z{listing.quote}" if base in {"XBT", "ETH"} else base + listing.quote
        return key, base + listing.quote, f"{base}/{listing.quote}"

    def opened(self, path: str, values: Mapping[str, str], talk: Talk) -> list[bytes] | None:
        if path != "/v2":
            return None
        state = {
            "version": "2.0.10",
            "system": "online",
            "api_version": "v2",
            "connection_id": 12_393_906_104_898_154_338,
        }
        return [dumped({"channel": "status", "type": "update", "data": [state]})]

    def received(self, text: str, talk: Talk) -> list[bytes]:
        now = {"time_in": iso(self.clock.now(), 6), "time_out": iso(self.clock.now(), 6)}
        try:
            message = json.loads(text)
            method, asked = message["method"], message.get("params", {})
            known = {"req_id": message["req_id"]} if "req_id" in message else {}
        except (ValueError, KeyError, TypeError, AttributeError):
            return [dumped({"error": "Malformed request", "success": False, **now})]
        if method == "ping":
            return [dumped({"method": "pong", **known, **now})]
        channel = asked.get("channel")
        if method not in {"subscribe", "unsubscribe"} or channel not in {TRADES, TICKER}:
            return [dumped({"error": "Channel not supported", "method": method, "success": False, **known, **now})]
        heard, said = talk.trades if channel == TRADES else talk.quotes, []
        for symbol in asked.get("symbol", []):
            place = self.places.get(symbol)
            if place is None:
                words = {
                    "error": f"Currency pair not supported {symbol}",
                    "method": method,
                    "success": False,
                    "symbol": symbol,
                }
                said.append(dumped(words | known | now))
                continue
            result = {"channel": channel, "snapshot": bool(asked.get("snapshot", channel == TICKER)), "symbol": symbol}
            said.append(dumped({"method": method, "result": result, "success": True, **now, **known}))
            (heard.add if method == "subscribe" else heard.discard)(place)
            if method == "subscribe" and channel == TRADES and result["snapshot"]:
                said.extend(self.snapshot(place, talk))
        return said

    def refusal(self, text: str, talk: Talk) -> bytes:
        return dumped({"error": "Exceeded msg rate", "method": "subscribe", "success": False})

    def _message(self, kind: str, trades: Sequence[Trade]) -> bytes:
        told = ",".join(
            f'{{"symbol":"{self.symbols[trade.listing]}","side":"{"buy" if trade.buy else "sell"}",'
            f'"price":{self.prices[trade.listing](trade.price)},"qty":{self.quantities[trade.listing](trade.quantity)},'
            f'"ord_type":"{"limit" if trade.number % 3 else "market"}","trade_id":{trade.number},"timestamp":"{iso(trade.time, 6)}"}}'
            for trade in trades
        )
        return f'{{"channel":"trade","type":"{kind}","data":[{told}]}}'.encode()

    def of_trades(self, trades: Sequence[Trade], talk: Talk) -> list[bytes]:
        return [self._message("update", trades)]

    def snapshot(self, listing: int, talk: Talk) -> list[bytes]:
        return [self._message("snapshot", self.market.newest(listing, SNAPSHOT))]

    def of_quotes(self, quotes: Sequence[Quote], talk: Talk) -> list[bytes]:
        said: list[bytes] = []
        for quote in quotes:
            price, quantity = self.prices[quote.listing], self.quantities[quote.listing]
            said.append(
                f'{{"channel":"ticker","type":"update","data":[{{"symbol":"{self.symbols[quote.listing]}",'
                f'"bid":{price(quote.bid)},"bid_qty":{quantity(quote.bid_quantity)},"ask":{price(quote.ask)},'
                f'"ask_qty":{quantity(quote.ask_quantity)},"last":{price(quote.bid)},"volume":997038.98383185,'
                f'"vwap":{price(quote.bid)},"low":{price(quote.bid)},"high":{price(quote.ask)},"change":-0.00017,'
                f'"change_pct":-0.17,"timestamp":"{iso(quote.time, 6)}"}}]}}'.encode()
            )
        return said

    def heartbeat(self, talk: Talk) -> list[bytes]:
        return [b'{"channel":"heartbeat"}'] if talk.streams else []

    def unknown(self, talk: Talk, padding: str = "") -> bytes:
        return dumped({"channel": "corrections", "type": "update", "data": [{"note": padding}]})

    def limited(self, status: int, retry_after: int) -> Reply:
        return Reply(dumped({"error": ["EGeneral:Too many requests"]}))

    def answer(self, query: Query) -> Reply:
        if query.path == "/0/public/Time":
            return _result({"unixtime": self.clock.now() // 1_000_000, "rfc1123": ""})
        if query.path == "/0/public/AssetPairs":
            return _result({self.pair(place)[0]: self._listed(place) for place in range(len(self.symbols))})
        if query.path != "/0/public/Trades":
            return Reply(dumped({"error": ["EGeneral:Unknown method"]}))
        names = {name: place for place in range(len(self.symbols)) for name in (*self.pair(place), self.symbols[place])}
        place = names.get(query.values.get("pair", ""))
        if place is None:
            return Reply(dumped({"error": ["EQuery:Unknown asset pair"]}))
        count, since = number(query.values.get("count"), 1000, 1000), query.values.get("since")
        if since is None:
            trades = self.market.newest(place, count)
        else:
            trades = self.market.since(place, number(since, 0, 2**62) // 1000, count)
        last = trades[-1].time * 1000 if trades else number(since, self.clock.now() * 1000, 2**62)
        rows = ",".join(self._row(trade) for trade in trades)
        return Reply(f'{{"error":[],"result":{{"{self.pair(place)[0]}":[{rows}],"last":"{last}"}}}}'.encode())

    def _row(self, trade: Trade) -> str:
        seconds, micros = divmod(trade.time, 1_000_000)
        return (
            f'["{self.prices[trade.listing](trade.price)}","{self.quantities[trade.listing](trade.quantity)}",'
            f'{seconds}.{micros:06d}0,"{"b" if trade.buy else "s"}","{"l" if trade.number % 3 else "m"}","",{trade.number}]'
        )

    def _listed(self, place: int) -> dict[str, Any]:
        listing = self.market.listed[place]
        _, short, slashed = self.pair(place)
        return {
            "altname": short,
            "wsname": slashed,
            "aclass_base": "currency",
            "base": OLD_NAMES.get(listing.base, listing.base),
            "aclass_quote": "currency",
            "quote": f"Z{listing.quote}",
            "lot": "unit",
            "cost_decimals": 5,
            "pair_decimals": digits(listing.tick),
            "lot_decimals": digits(listing.lot),
            "lot_multiplier": 1,
            "ordermin": self.quantities[place](1),
            "costmin": "0.5",
            "tick_size": self.prices[place](1),
            "status": "online" if listing.trading else "cancel_only",
        }


def _result(result: Mapping[str, Any]) -> Reply:
    return Reply(dumped({"error": [], "result": result}))
