"""Answers of Binance's REST interface: the listing, and trades by their numbers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct
from msgspec import field as named

from k2.feeds.venues.columns import Number
from k2.feeds.venues.venue import Instrument
from k2.model.errors import WorldError

TRADING = "TRADING"


class RestTrade(Struct, gc=False):
    """A trade of `/api/v3/historicalTrades` and `/api/v3/trades`."""

    number: Number = named(name="id")
    price: str | None = None
    quantity: str | None = named(name="qty", default=None)
    time: Number = 0
    buyer_is_maker: bool | None = named(name="isBuyerMaker", default=None)


class _Filter(Struct):
    kind: str = named(name="filterType", default="")
    tick: Decimal | None = named(name="tickSize", default=None)
    lot: Decimal | None = named(name="stepSize", default=None)


class _Symbol(Struct):
    symbol: str
    status: str = ""
    base: str = named(name="baseAsset", default="")
    quote: str = named(name="quoteAsset", default="")
    filters: list[_Filter] = []


class _Listing(Struct):
    symbols: list[_Symbol]


_decode_trades = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_trade = msgspec.json.Decoder(RestTrade).decode
_decode_listing = msgspec.json.Decoder(_Listing, strict=False).decode


def decoded_trades(body: bytes) -> list[tuple[bytes, RestTrade | str]]:
    """Each trade of an answer with its text; in place of one that cannot be read, why.

    Raises:
        WorldError: it is no list of trades.
    """
    found: list[tuple[bytes, RestTrade | str]] = []
    # A loop over trades: a thousand an answer, and few answers a second.
    for raw in _list(body):
        said = bytes(raw)
        try:
            found.append((said, _decode_trade(said)))
        except (ValueError, RecursionError) as error:
            found.append((said, f"trade cannot be read: {str(error)[:200]}"))
    return found


def decoded_listing(body: bytes) -> list[Instrument]:
    """All symbols that are listed.

    Raises:
        WorldError: it is no listing.
    """
    try:
        listing = _decode_listing(body)
    except (ValueError, RecursionError) as error:
        raise WorldError(f"Binance's listing cannot be read ({error}): found {shown(body)}") from error
    return [
        Instrument(
            symbol=each.symbol,
            base=each.base,
            quote=each.quote,
            trading=each.status == TRADING,
            status=each.status,
            tick=_step(next((rule.tick for rule in each.filters if rule.kind == "PRICE_FILTER"), None)),
            lot=_step(next((rule.lot for rule in each.filters if rule.kind == "LOT_SIZE"), None)),
        )
        for each in listing.symbols
    ]


def shown(body: bytes) -> str:
    """The beginning of an answer, for an error."""
    return repr(body[:120].decode("utf-8", "replace"))


def _list(body: bytes) -> list[Any]:
    try:
        return _decode_trades(body)
    except (ValueError, RecursionError) as error:
        raise WorldError(f"Binance's answer is no list of trades ({error}): found {shown(body)}") from error


def _step(value: Decimal | None) -> Decimal | None:
    return value.normalize() if value else None
