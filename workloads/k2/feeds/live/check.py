"""What comes of a venue's symbols in a few seconds: counts, rates, clocks, and what is odd. Needs the exchange and nothing of K2."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as pa

from k2.feeds.live.source import HeardMarket
from k2.feeds.venues.venue import NoticeKind, Unreadable
from k2.model.amounts import plain
from k2.model.compute import pc
from k2.model.gaps import GapCounts
from k2.model.times import SECOND_US, iso
from k2.model.topics import DataType

CLOCK_SECONDS = 1.0
"""A difference of the clocks that is more than a slow way."""


@dataclass(slots=True)
class SymbolCheck:
    """What came of one symbol and data type."""

    symbol: str
    data_type: str
    events: int = 0
    first: int | None = None
    """The lowest number, where the venue numbers."""
    last: int | None = None
    newest: str = ""
    """Time of the newest event, by the exchange's clock."""
    example: dict[str, str] = field(default_factory=dict[str, str])
    """The newest event's price and quantity, or its two sides."""


@dataclass(slots=True)
class FeedCheck:
    """What was heard, and what is odd about it."""

    venue: str
    seconds: float
    streams: list[SymbolCheck]
    clock_difference: float | None
    """Seconds that our clock is before the exchange's, and what the fastest message took; None: no trade came."""
    filled: int
    odd: list[str]
    """In a person's words; empty: all is well."""


def check(heard: HeardMarket, venue: str, symbols: list[str], seconds: float, stop: threading.Event) -> FeedCheck:
    """Hear a market for so many seconds after its first connection stands, three times as long at most.

    Args:
        heard: the market; `stop` is what it was made with.
        venue: its name.
        symbols: what is heard.
        seconds: for how long.
        stop: is set at the end.

    Raises:
        UserError: a symbol is not listed.
        WorldError: the exchange cannot be heard.
    """
    began = time.monotonic()
    connected: float | None = None
    found: dict[tuple[DataType, str], SymbolCheck] = {}
    unreadable: list[Unreadable] = []
    least: int | None = None
    said = (False, f"waiting for {venue}")
    for batches in heard.events():
        now = time.monotonic()
        unreadable += heard.unreadable()
        for kind, batch in batches:
            least = _least_delay(kind, batch, least)
            for each in _streams(kind, batch):
                _add(found.setdefault((kind, each.symbol), each), each)
        if connected is None and heard.ready()[0]:
            connected = now
        if not stop.is_set():
            said = heard.ready()
        if (connected is not None and now - connected >= seconds) or now - began >= 3 * seconds:
            stop.set()
    took = time.monotonic() - (connected or began)
    odd = [] if connected is not None else [said[1]]
    market = heard.market
    if market is not None:
        odd += _odd_notices(market.notices)
    if connected is not None:
        quiet = [symbol for symbol in symbols if not any(name == symbol for _, name in found)]
        odd += [f"nothing came of {', '.join(quiet)}: it may be a quiet market"] if quiet else []
    counted = Counter(each.reason for each in unreadable)
    odd += [f"{number} messages were no events: {reason}" for reason, number in counted.most_common(3)]
    if least is not None and abs(least) > CLOCK_SECONDS * SECOND_US:
        side = "before" if least > 0 else "behind"
        odd.append(f"our clock is {abs(least) / SECOND_US:.1f} s {side} the exchange's: look at NTP on this machine")
    counts = GapCounts() if market is None else market.account.counts
    odd += [f"{counts.open} trades were missed and not filled"] if counts.open else []
    return FeedCheck(
        venue,
        round(took, 1),
        sorted(found.values(), key=lambda each: (each.symbol, each.data_type)),
        None if least is None else least / SECOND_US,
        counts.filled,
        odd,
    )


def _streams(kind: DataType, batch: pa.RecordBatch) -> Iterator[SymbolCheck]:
    symbols = batch.column("symbol")
    for symbol in pc.unique(symbols).to_pylist():  # of a few symbols that a person named
        events = batch.filter(pc.equal(symbols, symbol))
        last: dict[str, Any] = events.slice(events.num_rows - 1).to_pylist()[0]
        numbers = events.column("source_sequence").drop_null().to_pylist()
        names = ("price", "quantity", "side") if kind is DataType.TRADES else ("bid_price", "ask_price")
        shown = {name: _shown(last[name]) for name in (*names, "currency")}
        when = events.column("timestamp").cast(pa.int64())[-1].as_py()
        yield SymbolCheck(
            symbol,
            str(kind),
            events.num_rows,
            min(numbers, default=None),
            max(numbers, default=None),
            iso(when),
            shown,
        )


def _shown(value: Decimal | str | None) -> str:
    return "" if value is None else plain(value) if isinstance(value, Decimal) else value


def _add(to: SymbolCheck, new: SymbolCheck) -> None:
    if to is new:
        return
    to.events += new.events
    to.first = min((each for each in (to.first, new.first) if each is not None), default=None)
    to.last = max((each for each in (to.last, new.last) if each is not None), default=None)
    to.newest, to.example = new.newest, new.example


def _least_delay(kind: DataType, batch: pa.RecordBatch, before: int | None) -> int | None:
    if kind is not DataType.TRADES or not batch.num_rows:
        return before
    received = batch.column("ingestion_timestamp").cast(pa.int64())
    late = pc.min(pc.subtract(received, batch.column("timestamp").cast(pa.int64()))).as_py()
    return late if before is None else min(before, late)


def _odd_notices(notices: Counter[tuple[NoticeKind, str]]) -> list[str]:
    words = {
        NoticeKind.REFUSED: "the exchange refused: {}",
        NoticeKind.UNKNOWN: "events of an unknown kind came: {}",
        NoticeKind.ENDING: "the exchange announced the end of a connection ({})",
    }
    return [words[kind].format(text) for kind, text in notices if kind in words]
