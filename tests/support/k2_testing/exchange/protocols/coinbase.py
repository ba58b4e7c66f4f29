"""Coinbase: the Advanced Trade streams, numbered by connection, and the public REST interface of Coinbase Exchange beside them.

After docs.cdp.coinbase.com: a product's last trades come as a snapshot before the subscription is confirmed, trades stand newest
first, sides are the maker's, times have no trailing zeros, and a product in USDC gives the trades of its alias in USD.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from k2_testing.exchange.counting import Rules
from k2_testing.exchange.market import Listing, Quote, Trade
from k2_testing.exchange.protocols.protocol import Query, Reply, Talk, VenueProtocol, dumped, iso, number

TRADES, TICKER, HEARTBEATS = "market_trades", "ticker", "heartbeats"
SNAPSHOT = 100


class Coinbase(VenueProtocol):
    """See the module."""

    name = "coinbase"
    rules = Rules(
        messages_a_second=8,
        connections=750,
        connection_seconds=1.0,
        # Ten requests a second, fifteen in bursts.
        weight=15,
        weight_seconds=1.0,
        ban_after=10**9,
        subscribe_seconds=5.0,
        quiet_seconds=75.0,
    )
    quote_asset = "USD"
    price_key = b'"price":'

    @staticmethod
    def symbol(listing: Listing) -> str:
        return f"{listing.base}-{listing.quote}"

    def place(self, product: str) -> int | None:
        """Where a product stands in the market's list, also by the other name that it is listed by."""
        base, _, quote = product.partition("-")
        for place, listing in enumerate(self.market.listed):
            if listing.base == base and quote in {listing.quote, listing.alias or listing.quote}:
                return place
        return None

    def opened(self, path: str, values: Mapping[str, str], talk: Talk) -> list[bytes] | None:
        return [] if path == "/" else None

    def _message(self, channel: str, event: Mapping[str, Any] | str, talk: Talk) -> bytes:
        body = event if isinstance(event, str) else dumped(event).decode()
        sequence, talk.sequence = talk.sequence, talk.sequence + 1
        now = iso(self.clock.now()).removesuffix("Z") + "004Z"
        return f'{{"channel":"{channel}","timestamp":"{now}","sequence_num":{sequence},"events":[{body}]}}'.encode()

    def received(self, text: str, talk: Talk) -> list[bytes]:
        try:
            message = json.loads(text)
            kind, channel, products = message["type"], message["channel"], message.get("product_ids", [])
            places = [self.place(product) for product in products]
        except (ValueError, KeyError, TypeError, AttributeError):
            return [dumped({"type": "error", "message": "failure to parse the request"})]
        if kind not in {"subscribe", "unsubscribe"} or channel not in {TRADES, TICKER, HEARTBEATS}:
            return [dumped({"type": "error", "message": f"{channel} is not a valid channel"})]
        if None in places:
            unknown = products[places.index(None)]
            return [dumped({"type": "error", "message": f"{unknown} is not a valid product"})]
        known = [place for place in places if place is not None]
        said: list[bytes] = []
        if channel == HEARTBEATS:
            talk.heartbeats = kind == "subscribe"
        else:
            heard = talk.trades if channel == TRADES else talk.quotes
            for place in known:
                (heard.add if kind == "subscribe" else heard.discard)(place)
            if kind == "subscribe" and channel == TRADES:
                said = [message for place in known for message in self.snapshot(place, talk)]
        return [*said, self._message("subscriptions", {"subscriptions": self._heard(talk)}, talk)]

    def _heard(self, talk: Talk) -> dict[str, list[str]]:
        heard = {HEARTBEATS: ["heartbeats"]} if talk.heartbeats else {}
        for channel, places in ((TRADES, talk.trades), (TICKER, talk.quotes)):
            if places:
                heard[channel] = [self.symbols[place] for place in sorted(places)]
        return heard

    def refusal(self, text: str, talk: Talk) -> bytes:
        return dumped({"type": "error", "message": "rate limit exceeded"})

    def _trade(self, trade: Trade) -> str:
        place = trade.listing
        return (
            f'{{"product_id":"{self.symbols[place]}","trade_id":"{trade.number}","price":"{self.prices[place](trade.price)}",'
            f'"size":"{self.quantities[place](trade.quantity)}","time":"{iso(trade.time)}",'
            f'"side":"{"SELL" if trade.buy else "BUY"}"}}'
        )

    def of_trades(self, trades: Sequence[Trade], talk: Talk) -> list[bytes]:
        told = ",".join(self._trade(trade) for trade in reversed(trades))
        return [self._message(TRADES, f'{{"type":"update","trades":[{told}]}}', talk)]

    def snapshot(self, listing: int, talk: Talk) -> list[bytes]:
        told = ",".join(self._trade(trade) for trade in reversed(self.market.newest(listing, SNAPSHOT)))
        return [self._message(TRADES, f'{{"type":"snapshot","trades":[{told}]}}', talk)]

    def of_quotes(self, quotes: Sequence[Quote], talk: Talk) -> list[bytes]:
        said: list[bytes] = []
        for quote in quotes:
            place = quote.listing
            price, quantity = self.prices[place], self.quantities[place]
            ticker = {
                "type": "ticker",
                "product_id": self.symbols[place],
                "price": price(quote.bid),
                "volume_24_h": quantity(quote.bid_quantity * 1000),
                "low_24_h": price(quote.bid),
                "high_24_h": price(quote.ask),
                "low_52_w": price(quote.bid),
                "high_52_w": price(quote.ask),
                "price_percent_chg_24_h": "0.09601107287722",
                "best_bid": price(quote.bid),
                "best_ask": price(quote.ask),
                "best_bid_quantity": quantity(quote.bid_quantity),
                "best_ask_quantity": quantity(quote.ask_quantity),
            }
            said.append(self._message(TICKER, {"type": "update", "tickers": [ticker]}, talk))
        return said

    def heartbeat(self, talk: Talk) -> list[bytes]:
        if not talk.heartbeats:
            return []
        now = iso(self.clock.now()).replace("T", " ").removesuffix("Z")
        beat = {"current_time": f"{now} +0000 UTC m=+41691.26", "heartbeat_counter": int(self.clock.seconds())}
        return [self._message(HEARTBEATS, beat, talk)]

    def unknown(self, talk: Talk, padding: str = "") -> bytes:
        return self._message("trade_corrections", {"type": "update", "note": padding}, talk)

    def limited(self, status: int, retry_after: int) -> Reply:
        return Reply(dumped({"message": "Public rate limit exceeded"}), status)

    def answer(self, query: Query) -> Reply:
        parts = query.path.strip("/").split("/")
        if query.path == "/time":
            return Reply(dumped({"iso": iso(self.clock.now()), "epoch": self.clock.now() / 1e6}))
        if query.path == "/products":
            return Reply(dumped([self._product(place) for place in range(len(self.symbols))]))
        place = self.place(parts[1]) if len(parts) > 1 and parts[0] == "products" else None
        if place is not None and len(parts) == 2:
            return Reply(dumped(self._product(place)))
        if place is None or parts[2:] != ["trades"]:
            return Reply(dumped({"message": "NotFound"}), 404)
        limit = number(query.values.get("limit"), 1000, 1000)
        below = number(query.values.get("after"), 2**62, 2**62)
        trades = self.market.below(place, below, limit)[::-1]
        pages = {"CB-BEFORE": str(trades[0].number), "CB-AFTER": str(trades[-1].number)} if trades else {}
        return Reply(dumped([self._row(trade) for trade in trades]), headers=pages)

    def _row(self, trade: Trade) -> dict[str, Any]:
        return {
            "trade_id": trade.number,
            "side": "sell" if trade.buy else "buy",
            "size": f"{self.quantities[trade.listing](trade.quantity)}",
            "price": f"{self.prices[trade.listing](trade.price)}",
            "time": iso(trade.time),
        }

    def _product(self, place: int) -> dict[str, Any]:
        listing = self.market.listed[place]
        return {
            "id": self.symbols[place],
            "base_currency": listing.base,
            "quote_currency": listing.quote,
            "quote_increment": self.prices[place](1),
            "base_increment": self.quantities[place](1),
            "display_name": f"{listing.base}/{listing.quote}",
            "min_market_funds": "1",
            "margin_enabled": False,
            "post_only": False,
            "limit_only": False,
            "cancel_only": False,
            "status": "online" if listing.trading else "delisted",
            "status_message": "",
            "trading_disabled": not listing.trading,
            "fx_stablecoin": False,
            "auction_mode": False,
        }
