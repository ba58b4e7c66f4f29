"""Coinbase, Kraken, OKX and Bybit are heard from a stand-in exchange that breaks: what came out, each trade once, is what the market made.

The stand-in was made from the venues' documentation by itself, and so were K2's venues: here they meet, over TLS, with the account of gaps and
filling between them. All four run side by side, because they mostly wait.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pyarrow as pa
import pytest
from k2_testing.exchange import Exchange, Fault, Planned, Script

from k2.feeds.live.handover import Handover
from k2.feeds.live.market import LiveMarket
from k2.feeds.live.pace import Timing
from k2.feeds.live.web import Address
from k2.feeds.venues.columns import EventColumns
from k2.feeds.venues.registry import VENUES
from k2.model.events import Decimals
from k2.model.topics import DataType

SECONDS = 150.0
TRADES = 240
HURRIED = Timing(first_retry=0.02, longest_retry=0.3, overlap=0.3, gather=0.005, look=0.1)
LOSSES = [Planned(60, Fault.RESET), Planned(90, Fault.NUMBER_FOR_STRING), Planned(140, Fault.DROPPED, times=5)]
"""What is dropped comes by REST alone: no connection is made after it, whose snapshot could have it."""
TOLD = ["symbol", "price", "quantity", "side", "timestamp"]


async def heard_of(venue, losses):
    """The trades of a market, those that a feed made of it (each id once), and how often REST was asked for trades."""
    columns = EventColumns(venue.upper(), decimals=dict.fromkeys(DataType, Decimals.WIDE))
    handover, batches = Handover(), []
    end = time.monotonic() + SECONDS
    with Exchange(venue=venue, seed=5, rate=120.0, trades=TRADES, script=Script(list(losses))) as exchange:
        where = Address(venue, exchange.url, exchange.rest_url, exchange.ca_file)
        made_of = VENUES[venue](columns)
        market = LiveMarket(made_of, columns, where, exchange.symbols, [DataType.TRADES], handover, HURRIED)
        running = asyncio.create_task(market.run())
        try:
            while time.monotonic() < end and not running.done():
                await asyncio.sleep(0.02)
                taken = handover.take(0, 1_000_000)
                batches += [batch for _, batch in taken.events] if taken else []
                distinct = len({each for batch in batches for each in batch["message_id"].to_pylist()})
                if exchange.server.quiet.is_set() and distinct >= exchange.oracle().num_rows:
                    break
        finally:
            market.stop()
            with suppress(asyncio.CancelledError):
                await running
        made = exchange.oracle()
        asked = sum(count for path, count in exchange.counts.paths.items() if "rade" in path)
    rows = pa.Table.from_batches(batches)
    first = pa.table({"id": rows["message_id"], "at": range(len(rows))}).group_by("id").aggregate([("at", "min")])
    return made, rows.take(first["at_min"]), asked


def in_order(table, names):
    rows = table.select(names)
    return sorted(zip(*(rows[name].to_pylist() for name in names), strict=True))


@pytest.fixture(scope="module")
def heard():
    async def main():
        losses = {"coinbase": LOSSES, "kraken": LOSSES, "okx": LOSSES, "bybit": ()}
        found = await asyncio.gather(*(heard_of(venue, lost) for venue, lost in losses.items()))
        return dict(zip(losses, found, strict=True))

    return asyncio.run(main())


@pytest.mark.parametrize("venue", ["coinbase", "kraken", "okx"])
def test_what_a_feed_makes_of_a_venue_that_loses_trades_is_what_its_market_made(heard, venue):
    made, events, asked = heard[venue]
    names = [*TOLD, "source_sequence"]
    assert in_order(events, names) == in_order(made, names)
    assert asked >= 1


def test_where_numbers_prove_nothing_what_was_heard_is_what_the_market_made(heard):
    made, events, _ = heard["bybit"]
    assert in_order(events, TOLD) == in_order(made, TOLD)
    assert set(events["source_sequence"].to_pylist()) == {None}


@pytest.mark.parametrize("venue", ["coinbase", "kraken", "okx", "bybit"])
def test_the_currency_of_its_prices_is_what_the_venue_lists(heard, venue):
    _, events, _ = heard[venue]
    quoted = {"coinbase": "USD", "kraken": "USD", "okx": "USDT", "bybit": "USDT"}
    assert set(events["currency"].to_pylist()) == {quoted[venue]}
