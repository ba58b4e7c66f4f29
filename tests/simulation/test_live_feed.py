"""A feed hears a stand-in exchange that breaks by seed: what came out of it, each trade once, is what the market made.

Everything but Kafka is real: sockets with TLS, the venue's parser, the account of gaps, filling over REST. Only waits are shorter. What
is compared is the exchange's own list of trades. The controls show that both halves of the claim are needed: without filling trades are
missing, and the account names them; without deduplication some are there twice.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pytest
from k2_testing.exchange import Counts, Exchange, Fault, Planned, Rules, Script
from k2_testing.exchange.faults import PASSING
from k2_testing.extent import sized

from k2.feeds.gaps import account, filling, kept, schedule
from k2.feeds.live.handover import Handover
from k2.feeds.live.market import LiveMarket
from k2.feeds.live.pace import Timing
from k2.feeds.live.web import Address
from k2.feeds.venues.columns import EventColumns
from k2.feeds.venues.registry import VENUES
from k2.model.gaps import GapAccount, GapEvent, GapKind
from k2.model.topics import DataType

SEEDS = sized(20, 200)
NUMBERED = ("binance", "coinbase", "binance", "kraken", "okx")
"""Venues by seed: those whose numbers prove what is missing."""
# A stream that is dead among living ones is found by what the others say; here they fall quiet in the end.
KINDS = PASSING - {Fault.DEAD_STREAM, Fault.DEAF_SUBSCRIPTION}
# The same limits over more seconds: on a busy machine what was sent in its time arrives together.
OVER_LONGER = {
    "coinbase": {"weight": 600, "weight_seconds": 60.0},
    "kraken": {"weight": 60, "weight_seconds": 60.0},
    "okx": {"weight": 600, "weight_seconds": 60.0, "connections": 30, "connection_seconds": 10.0},
}
TOGETHER = 8
"""Runs at a time: they mostly wait."""
TRADES, RATE, FAULTS = 400, 150.0, 12
SECONDS = 120.0
COLUMNS = ["symbol", "source_sequence", "price", "quantity", "side", "timestamp"]
HURRIED = Timing(
    silent=1.5,
    stream=2.0,
    first_retry=0.02,
    longest_retry=0.3,
    opening=5.0,
    overlap=0.3,
    gather=0.005,
    look=0.1,
)


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """What waits for seconds waits for parts of one."""
    monkeypatch.setattr(account, "PATIENCE_US", 300_000)
    monkeypatch.setattr(filling, "WAKE_SECONDS", 0.05)
    monkeypatch.setattr(filling, "UNTOLD_SECONDS", 0.5)
    monkeypatch.setattr(schedule, "LONG_PAUSE", 1.0)
    monkeypatch.setattr(schedule, "ABSENT_PAUSES", (0.2, 0.5, 1.0, 2.0, 4.0))


class NeverFilling:
    """In the place of filling, for a control."""

    def __init__(self, *_, **__):
        pass

    async def run(self):
        await asyncio.Event().wait()


@dataclass
class Listened:
    """What came of a run."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    events: list[GapEvent] = field(default_factory=list)
    made: pa.Table | None = None
    counts: Counts | None = None
    rules: Rules | None = None

    @property
    def rows(self):
        return pa.Table.from_batches(self.batches)

    @property
    def once(self):
        """Each message id once, in the oracle's columns and order."""
        rows = self.rows
        first = pa.table({"id": rows["message_id"], "at": range(len(rows))}).group_by("id").aggregate([("at", "min")])
        once = rows.take(first["at_min"]).select(COLUMNS)
        return once.cast(self.made.schema).sort_by([("symbol", "ascending"), ("source_sequence", "ascending")])

    @property
    def account(self):
        told = GapAccount()
        told.add(self.events)
        return told

    def numbers(self, kind):
        """(symbol, number) of all events of a kind."""
        return {
            (event.symbol, number)
            for event in self.events
            if event.kind is kind and event.first is not None and event.last is not None
            for number in range(event.first, event.last + 1)
        }


async def listen(exchange, venue="binance", until_complete=True):
    """Run a feed until the market is quiet and nothing is missing, or for two settled seconds where nothing will be filled."""
    columns = EventColumns(venue.upper())
    handover, listened = Handover(), Listened()
    where = Address(venue, exchange.url, exchange.rest_url, exchange.ca_file)
    market = LiveMarket(VENUES[venue](columns), columns, where, exchange.symbols, [DataType.TRADES], handover, HURRIED)
    # Without Kafka what the account tells goes nowhere: it is overheard.
    inner = market.account._account
    tell = inner.events

    def overheard():
        told = tell()
        listened.events.extend(told)
        return told

    inner.events = overheard
    running = asyncio.create_task(market.run())
    ids, end, quiet_since = set(), time.monotonic() + SECONDS, None
    wanted = None
    try:
        while time.monotonic() < end and not running.done():
            await asyncio.sleep(0.02)
            taken = handover.take(0, 1_000_000)
            for _, batch in taken.events if taken else []:
                listened.batches.append(batch)
                ids.update(zip(batch["symbol"].to_pylist(), batch["source_sequence"].to_pylist(), strict=True))
            if not exchange.server.quiet.is_set():
                continue
            quiet_since = quiet_since or time.monotonic()
            if wanted is None:
                listened.made = exchange.oracle()
                columns_of = (listened.made[name].to_pylist() for name in ("symbol", "source_sequence"))
                wanted = set(zip(*columns_of, strict=True))
            settled = not inner.holes() and time.monotonic() - quiet_since > 1.0
            if until_complete and settled and ids >= wanted:
                break
            if not until_complete and time.monotonic() - quiet_since > 3.0:
                break
    finally:
        market.stop()
        with suppress(asyncio.CancelledError):
            await running
        taken = handover.take(0, 1_000_000)
        listened.batches.extend(batch for _, batch in (taken.events if taken else []))
    assert listened.made is not None, f"the market never went quiet: {exchange.made} trades, {market.ready()}"
    listened.counts, listened.rules = exchange.counts, exchange.server.rules
    return listened


def check(seed, listened):
    made = listened.made
    missing = made.num_rows - listened.once.num_rows
    assert listened.once.equals(made), (
        f"seed {seed}: {missing} trades missing; {dict(listened.counts.faults)}; open {listened.account.open}"
    )
    held = listened.account
    assert held.counts.open == 0, (seed, held.open)
    assert held.counts.unfillable == 0, (seed, held.unfillable)
    # What was told to be missing was made by the market, and is told to be filled.
    opened = listened.numbers(GapKind.OPENED)
    everything = set(zip(made["symbol"].to_pylist(), made["source_sequence"].to_pylist(), strict=True))
    assert opened <= everything, seed
    assert listened.numbers(GapKind.FILLED) >= opened, seed
    counts = listened.counts
    assert (counts.over_messages, counts.refused_connections, counts.bans) == (0, 0, 0), (seed, counts)
    assert counts.most_weight_in_window <= 0.8 * listened.rules.weight or not listened.rules.weight, (seed, counts)


async def run(seed):
    venue = NUMBERED[seed % len(NUMBERED)]
    drawn = Script.drawn(seed, TRADES, FAULTS, KINDS)
    # Not before each symbol was heard once: what was before the first number that is known, no number proves.
    script = Script([replace(planned, at=max(planned.at, TRADES // 5)) for planned in drawn.planned])
    rules = OVER_LONGER.get(venue, {})
    with Exchange(venue=venue, seed=seed, rate=RATE, trades=TRADES, script=script, rules=rules) as exchange:
        check(seed, await listen(exchange, venue=venue))
        return exchange.counts


def test_what_a_feed_gives_is_what_the_market_made_whatever_breaks(measured):
    async def main():
        turn = asyncio.Semaphore(TOGETHER)

        async def one(seed):
            async with turn:
                return await run(seed)

        return await asyncio.gather(*(one(seed) for seed in range(SEEDS)))

    counted = asyncio.run(main())
    happened = sum(sum(counts.faults.values()) for counts in counted)
    measured("faults that a feed got over", happened)
    # It was not for want of faults: several to a run happened, and something was filled over REST.
    assert happened > 2 * SEEDS
    assert sum(count for counts in counted for path, count in counts.paths.items() if "rades" in path) > SEEDS


DROPS = Script(
    [
        Planned(60, Fault.DROPPED, times=5),
        Planned(120, Fault.SNAPSHOT_AGAIN),
        Planned(160, Fault.REPEATED, times=10),
        Planned(220, Fault.RESET),
    ]
)


def heard_of(until_complete):
    with Exchange(seed=7, rate=RATE, trades=TRADES, script=DROPS) as exchange:
        return asyncio.run(listen(exchange, until_complete=until_complete))


def test_without_filling_trades_are_missing_and_the_account_names_each_of_them(monkeypatch):
    monkeypatch.setattr(kept, "Filling", NeverFilling)
    listened = heard_of(until_complete=False)
    made = listened.made
    assert listened.once.num_rows < made.num_rows
    pairs = [
        set(zip(table["symbol"].to_pylist(), table["source_sequence"].to_pylist(), strict=True))
        for table in (made, listened.once)
    ]
    named = {
        (symbol, number)
        for symbol, held in listened.account.open.items()
        for part in held
        for number in range(part.first, part.last + 1)
    }
    assert named == pairs[0] - pairs[1]


def test_without_deduplication_trades_are_there_twice():
    listened = heard_of(until_complete=True)
    assert listened.once.equals(listened.made)
    assert listened.rows.num_rows > listened.made.num_rows
