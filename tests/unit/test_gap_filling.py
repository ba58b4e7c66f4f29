"""Holes are filled under the exchange's limits: a simulated clock, an exchange of a few lines, the real schedule and runner."""

import asyncio
from decimal import Decimal
from itertools import pairwise

import pytest
from k2_testing.paper_venue import APART_US, PAGE, START_US, PaperExchange, PaperVenue, paper_trades
from k2_testing.simulated_time import run_simulated

from k2.feeds.gaps.account import Account, Way
from k2.feeds.gaps.budget import SHARE, WeightBudget
from k2.feeds.gaps.filling import Filling, LimitedError
from k2.feeds.gaps.schedule import FAILURES, LONG_PAUSE, FillSchedule
from k2.feeds.venues.venue import Numbering
from k2.model.errors import WorldError
from k2.model.gaps import GapKind
from k2.model.topics import DataType

LATENCY = 0.05


class Desk:
    """A feed that fills from the exchange, under a clock of its own."""

    def __init__(self, volumes=None, venue=None):
        self.venue = venue or PaperVenue()
        self.exchange = PaperExchange()
        self.account = Account(Numbering.CONSECUTIVE)
        self.volumes = volumes or {}
        self.asked, self.delivered, self.events = [], [], []
        self.refusal = lambda _now, _request: None

    def heard(self, symbol, *numbers, has=None):
        """The stream gave these; the exchange has others beside them."""
        self.exchange.trades.setdefault(symbol, []).extend(numbers if has is None else has)
        self.account.seen(DataType.TRADES, paper_trades(symbol, numbers), Way.STREAM, self.wall())

    def wall(self):
        return START_US + 10_000 * APART_US + int(asyncio.get_running_loop().time() * 1_000_000)

    async def get(self, request):
        now = asyncio.get_running_loop().time()
        self.asked.append((now, request))
        await asyncio.sleep(LATENCY)
        if (error := self.refusal(now, request)) is not None:
            raise error
        return self.exchange.answer(request)

    async def fill_for(self, seconds):
        loop = asyncio.get_running_loop()
        schedule = FillSchedule(self.venue, WeightBudget(self.venue.limits.weight_a_minute), jitter=lambda: 1.0)
        filling = Filling(
            self.venue,
            self.account,
            schedule,
            self.get,
            lambda heard: self.delivered.append(heard.events[DataType.TRADES]),
            volumes=lambda: self.volumes,
            steady=loop.time,
            wall=self.wall,
        )
        task = asyncio.ensure_future(filling.run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait([task])
        self.events += self.account.events()

    def of(self, kind):
        return [(each.symbol, each.first, each.last) for each in self.events if each.kind is kind]

    def symbols_asked(self):
        return [request.path.split("symbol=")[1].split("&")[0] for _, request in self.asked]


def simulated(script, **how):
    """Run a script with a desk."""

    async def run():
        desk = Desk(**how)
        await script(desk)
        return desk

    return run_simulated(run())


def most_weight_in_a_minute(asked):
    return max(sum(request.weight for at, request in asked if start <= at < start + 60.0) for start, _ in asked)


def test_a_hole_is_filled_page_after_page_and_its_trades_are_delivered_once():
    async def script(desk):
        desk.heard("A", 1, 1_000, has=range(1, 1_001))
        await desk.fill_for(30)

    desk = simulated(script)
    numbers = [number for batch in desk.delivered for number in batch.column("source_sequence").to_pylist()]
    assert numbers == list(range(2, 1_000))
    assert len(desk.asked) == 1 + 998 // PAGE
    assert desk.account.holes() == []
    assert desk.of(GapKind.OPENED) == [("A", 2, 999)]
    assert desk.account.counts.filled == 998


def test_the_most_traded_symbols_come_first():
    async def script(desk):
        for symbol in ("SLOW", "FAST", "MIDDLE"):
            desk.heard(symbol, 1, 5, has=range(1, 6))
        await desk.fill_for(10)

    volumes = {"FAST": Decimal(10**9), "MIDDLE": Decimal(10**6)}
    assert simulated(script, volumes=volumes).symbols_asked() == ["FAST", "MIDDLE", "SLOW"]


def test_a_hundred_symbols_are_filled_in_seconds_within_four_fifths_of_the_limit():
    async def script(desk):
        for number in range(100):
            desk.heard(f"S{number}", 1, 62, has=range(1, 63))
        await desk.fill_for(10)

    desk = simulated(script)
    assert desk.account.holes() == []
    assert desk.account.counts.filled == 100 * 60
    assert len(desk.asked) == 100


def test_no_minute_has_more_than_four_fifths_of_the_limit_however_much_there_is_to_do():
    async def script(desk):
        for number in range(12):
            desk.heard(f"S{number}", 1, 2_000, has=range(1, 2_001))
        await desk.fill_for(150)

    desk = simulated(script)
    assert desk.account.holes() == []
    assert len(desk.asked) == 12 * 20
    assert most_weight_in_a_minute(desk.asked) == SHARE * desk.venue.limits.weight_a_minute


def test_a_long_hole_does_not_keep_others_waiting():
    async def script(desk):
        desk.heard("FAST", 1, 30_000, has=range(1, 30_001))
        desk.heard("SLOW", 1, 5, has=range(1, 6))
        # As if the exchange allowed a request every few seconds.
        desk.venue.limits = desk.venue.limits.__class__(1024, 5.0, 60.0, weight_a_minute=500.0)
        await desk.fill_for(90)

    desk = simulated(script, volumes={"FAST": Decimal(10**9)})
    assert "SLOW" in desk.symbols_asked()[:15]
    assert desk.symbols_asked()[0] == "FAST"


def test_nothing_is_asked_before_the_time_that_the_exchange_named():
    async def script(desk):
        for number in range(20):
            desk.heard(f"S{number}", 1, 5, has=range(1, 6))
        desk.refusal = lambda now, _: LimitedError("429", 30.0) if now < 3.0 else None
        await desk.fill_for(120)

    desk = simulated(script)
    early = [at for at, _ in desk.asked if at < 3.0]
    first_refused = early[0] + LATENCY
    assert not [at for at, _ in desk.asked if first_refused < at < first_refused + 30.0]
    assert desk.account.holes() == []
    assert len(desk.asked) == len(early) + 20


def test_a_refusal_without_a_time_stops_for_a_minute():
    async def script(desk):
        desk.heard("A", 1, 5, has=range(1, 6))
        desk.refusal = lambda now, _: LimitedError("418") if now < 3.0 else None
        await desk.fill_for(70)

    first, second = (at for at, _ in simulated(script).asked)
    assert second >= first + LATENCY + 60.0


def test_failures_are_tried_again_with_pauses_that_grow_and_for_ever():
    async def script(desk):
        desk.heard("A", 1, 5, has=range(1, 6))
        desk.refusal = lambda now, _: WorldError("503") if now < 3_600 else None
        await desk.fill_for(2 * 3_600)

    desk = simulated(script)
    times = [at for at, _ in desk.asked]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[: FAILURES - 1] == sorted(pauses[: FAILURES - 1])
    assert len(times) <= FAILURES * (3_600 / LONG_PAUSE + 2)
    assert desk.account.counts.filled == 3
    assert desk.of(GapKind.UNFILLABLE) == []


def test_what_the_exchange_has_not_got_is_asked_for_a_few_times_and_then_unfillable():
    async def script(desk):
        desk.heard("A", 1, 200, has=[*range(1, 50), *range(60, 201)])
        await desk.fill_for(600)

    desk = simulated(script)
    assert desk.of(GapKind.UNFILLABLE) == [("A", 50, 59)]
    assert desk.account.holes() == []
    assert len(desk.asked) == 2 + 3
    last = [at for at, _ in desk.asked][-1]
    assert 40.0 < last < 60.0


def test_an_exchange_that_is_late_with_its_trades_is_waited_for():
    async def script(desk):
        desk.heard("A", 1, 5)
        filling = asyncio.ensure_future(desk.fill_for(60))
        await asyncio.sleep(5.0)
        desk.exchange.trades["A"] = list(range(1, 6))
        await filling

    desk = simulated(script)
    assert desk.account.counts.filled == 3
    assert desk.of(GapKind.UNFILLABLE) == []


def test_many_small_holes_are_one_request():
    async def script(desk):
        desk.heard("A", *range(1, 100, 2), has=range(1, 100))
        await desk.fill_for(10)

    desk = simulated(script)
    assert len(desk.asked) == 1
    assert [batch.column("source_sequence").to_pylist() for batch in desk.delivered] == [list(range(2, 99, 2))]


def test_a_venue_without_such_a_question_has_unfillable_gaps():
    async def script(desk):
        desk.venue.can_fill = False
        desk.heard("A", 1, 5)
        await desk.fill_for(5)

    desk = simulated(script)
    assert desk.of(GapKind.UNFILLABLE) == [("A", 2, 4)]
    assert desk.asked == []


def test_after_a_silence_a_symbol_that_does_not_trade_is_asked_for_its_newest():
    async def script(desk):
        desk.account.connected(1, ["QUIET", "BUSY"], desk.wall())
        desk.heard("QUIET", 1, 2)
        desk.heard("BUSY", 1, 2)
        desk.account.disconnected(1, ["QUIET", "BUSY"], desk.wall())
        desk.exchange.trades["QUIET"] = list(range(1, 301))
        desk.exchange.trades["BUSY"] = list(range(1, 5))
        desk.account.connected(2, ["QUIET", "BUSY"], desk.wall())
        desk.heard("BUSY", 5, has=[5])
        await desk.fill_for(30)

    desk = simulated(script)
    assert [request.path for _, request in desk.asked].count("/newest?symbol=QUIET") == 1
    assert "/newest?symbol=BUSY" not in [request.path for _, request in desk.asked]
    numbers = {n for batch in desk.delivered for n in batch.column("source_sequence").to_pylist()}
    assert numbers == set(range(3, 301))
    assert sum(len(batch) for batch in desk.delivered) == 298 + 2
    assert desk.account.holes() == []
    assert desk.account.unheard() == []


@pytest.mark.parametrize("error", [WorldError("the answer is HTML"), ZeroDivisionError("a parser's mistake")])
def test_no_answer_leaves_its_symbol_unasked_for_ever(error):
    async def script(desk):
        desk.heard("A", 1, 5, has=range(1, 6))
        desk.refusal = lambda _now, _request: error if len(desk.asked) == 1 else None
        await desk.fill_for(10)

    assert simulated(script).account.counts.filled == 3


def test_what_others_use_of_the_same_address_counts():
    budget = WeightBudget(1_000.0)
    budget.spend(0.0, 100.0)
    assert budget.wait(1.0, 700.0) == 0.0
    budget.used(1.0, 500.0)
    assert budget.wait(1.0, 300.0) == 0.0
    assert budget.wait(1.0, 301.0) == pytest.approx(60.0)
    assert budget.wait(1.0, 701.0) == pytest.approx(61.0)
    budget.stop(2.0, 300.0)
    assert budget.wait(62.5, 1.0) == pytest.approx(239.5)
