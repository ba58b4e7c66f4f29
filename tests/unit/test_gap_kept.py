"""The account of a feed that runs, without Kafka: what is missing is fetched and handed over, and shown."""

import asyncio
import time

import pytest
from k2_testing.paper_venue import PaperExchange, PaperVenue, paper_trades
from prometheus_client import REGISTRY

from k2.feeds.gaps.budget import WeightBudget
from k2.feeds.gaps.kept import NOWHERE, KeptAccount
from k2.feeds.venues.venue import Numbering
from k2.model.topics import DataType


class Kept:
    """An account that is kept, of an exchange with a name of its own: its figures are no other test's."""

    def __init__(self, exchange, numbering=Numbering.CONSECUTIVE):
        self.venue, self.exchange, self.handed = PaperVenue(), PaperExchange(), []
        self.venue.exchange, self.venue.numbering = exchange, numbering

        async def get(request):
            return self.exchange.answer(request)

        budget = WeightBudget(self.venue.limits.weight_a_minute)
        self.account = KeptAccount(self.venue, NOWHERE, get=get, hand_over=self.handed.extend, budget=budget)

    def figure(self, name, **labels):
        return REGISTRY.get_sample_value(name, {"exchange": self.venue.exchange} | labels)

    async def until(self, holds, seconds=60.0):
        running = asyncio.create_task(self.account.run())
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, self.account.note
            await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.wait([running])


def test_a_hole_is_fetched_and_handed_over_and_counted():
    async def run():
        kept = Kept("KEPT1")
        assert kept.figure("k2_feed_missing_trades") == 0
        assert kept.figure("k2_feed_gap_trades_total", outcome="unfillable") == 0
        await kept.account.begin(["A"])
        kept.exchange.trades["A"] = list(range(1, 11))
        kept.account.connected(1, ["A"])
        kept.account.heard(DataType.TRADES, paper_trades("A", [1, 10]))
        await kept.until(lambda: kept.figure("k2_feed_gap_trades_total", outcome="filled") == 8)
        assert kept.figure("k2_feed_missing_trades") == 0
        ((kind, batch),) = kept.handed
        assert kind is DataType.TRADES
        assert batch.column("source_sequence").to_pylist() == list(range(2, 10))
        assert (kept.account.note.counts.filled, kept.account.note.counts.open) == (8, 0)

    asyncio.run(run())


def test_what_kafka_did_not_take_is_fetched_again():
    async def run():
        kept = Kept("KEPT2")
        await kept.account.begin(["A"])
        kept.exchange.trades["A"] = [1, 2, 3]
        batch = paper_trades("A", [2, 3])
        kept.account.heard(DataType.TRADES, paper_trades("A", [1]))
        kept.account.heard(DataType.TRADES, batch)
        await asyncio.to_thread(kept.account.lost, DataType.TRADES, batch, "timed out")
        await kept.until(lambda: bool(kept.handed))
        assert kept.handed[0][1].column("source_sequence").to_pylist() == [2, 3]

    asyncio.run(run())


@pytest.mark.parametrize("forgotten", [False, True])
def test_symbols_that_nobody_wants_any_more_are_not_unknown(forgotten):
    kept = Kept(f"KEPT3{forgotten}", Numbering.NONE)
    kept.account.connected(1, ["A"])
    if forgotten:
        kept.account.forget(["A"])
        kept.account.connected(2, ["B"])
    kept.account.disconnected(1, [] if forgotten else ["A"])
    kept.account.close()
    assert kept.account.note.counts.unknown == (0 if forgotten else 1)
    assert kept.figure("k2_feed_unknown_times_total") == kept.account.note.counts.unknown
    assert not kept.account.note.numbered
