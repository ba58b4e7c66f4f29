"""A feed's account of gaps: what it tells, and that a restart from what it told knows the same."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.feeds.gaps.account import CHECKED_US, PATIENCE_US, RETOLD_US, SETTLE_US, Account, Way
from k2.feeds.venues.venue import Hole, Numbering
from k2.model.gaps import MOST_REMEMBERED, GapAccount, GapCounts, GapEvent, GapKind
from k2.model.topics import DataType

SECOND = 1_000_000
START = 1_700_000_000 * SECOND


def trades(rows):
    return pa.record_batch(
        {
            "symbol": pa.array([row[0] for row in rows], pa.string()),
            "source_sequence": pa.array([row[1] for row in rows], pa.int64()),
            "timestamp": pa.array([START + row[1] * 1_000 for row in rows], pa.timestamp("us", tz="UTC")),
        }
    )


def of(symbol, *numbers):
    return trades([(symbol, number) for number in numbers])


def told(events):
    """What was said, without what people read."""
    return [(str(each.kind), each.symbol, each.first, each.last) for each in events]


def folded(events):
    account = GapAccount()
    account.add(events)
    return account


class Clock:
    """Our clock, which tests move."""

    def __init__(self):
        self.now = START

    def after(self, micros):
        self.now += micros
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def account():
    return Account(Numbering.CONSECUTIVE)


def test_a_gap_is_told_when_it_has_stood_and_filled_in_parts(account, clock):
    account.seen(DataType.TRADES, of("BTCUSDT", 1, 2, 10), Way.STREAM, clock.now)
    assert account.events() == []
    account.advance(clock.after(SETTLE_US))
    (opened,) = account.events()
    assert told([opened]) == [("opened", "BTCUSDT", 3, 9)]
    assert (opened.after, opened.before) == (START + 2_000, START + 10_000)
    assert opened.why == "the numbers jumped"
    assert account.holes() == [Hole("BTCUSDT", 3, 9, START + 2_000, START + 10_000)]
    account.seen(DataType.TRADES, of("BTCUSDT", 5, 6), Way.FILL, clock.after(SECOND))
    account.seen(DataType.TRADES, of("BTCUSDT", 3), Way.STREAM, clock.after(SECOND))
    events = account.events()
    assert told(events) == [("filled", "BTCUSDT", 5, 6), ("filled", "BTCUSDT", 3, 3)]
    assert [each.how for each in events] == ["fill", "stream"]
    assert {each.since for each in events} == {START}
    assert [(each.first, each.last) for each in account.holes()] == [(4, 4), (7, 9)]
    assert account.counts == GapCounts(open=4, filled=3, open_ranges=2, oldest=START)


def test_a_swapped_pair_is_no_event(account, clock):
    account.seen(DataType.TRADES, of("A", 1, 3), Way.STREAM, clock.now)
    account.seen(DataType.TRADES, of("A", 2, 4), Way.STREAM, clock.after(SETTLE_US // 2))
    account.advance(clock.after(10 * SECOND))
    assert account.events() == []
    assert account.holes() == []


def test_what_the_exchange_has_not_got_is_unfillable_and_counts_as_filled_if_it_comes_after_all(account, clock):
    account.seen(DataType.TRADES, of("A", 1, 5), Way.STREAM, clock.now)
    account.advance(clock.after(SECOND))
    (hole,) = account.holes()
    account.seen(DataType.TRADES, of("A", 3), Way.FILL, clock.now)
    account.unfillable(hole, clock.now, "Binance has no such trades any more")
    assert told(account.events())[1:] == [
        ("filled", "A", 3, 3),
        ("unfillable", "A", 2, 2),
        ("unfillable", "A", 4, 4),
    ]
    assert account.holes() == []
    assert account.counts == GapCounts(filled=1, unfillable=2)
    account.seen(DataType.TRADES, of("A", 4), Way.FILL, clock.now)
    assert told(account.events()) == [("filled", "A", 4, 4)]
    assert account.counts == GapCounts(filled=2, unfillable=1)


def test_a_refused_trade_is_a_dead_letter_and_not_asked_for(account, clock):
    account.seen(DataType.TRADES, of("A", 1, 2), Way.STREAM, clock.now)
    account.refused("A", 3, clock.now, "an hour ahead of the exchange's clock")
    account.seen(DataType.TRADES, of("A", 4, 6), Way.STREAM, clock.now)
    account.refused("A", 5, clock.now, "an hour ahead of the exchange's clock")
    account.refused("A", 5, clock.now, "it came again")
    account.advance(clock.after(SECOND))
    assert told(account.events()) == [("dead_lettered", "A", 3, 3), ("dead_lettered", "A", 5, 5)]
    assert account.holes() == []
    assert account.counts.dead_lettered == 2


def test_a_refused_trade_shows_the_hole_before_it(account, clock):
    account.seen(DataType.TRADES, of("A", 1), Way.STREAM, clock.now)
    account.refused("A", 4, clock.now, "no price")
    account.advance(clock.after(SECOND))
    assert told(account.events()) == [("dead_lettered", "A", 4, 4), ("opened", "A", 2, 3)]


def test_trades_that_kafka_did_not_take_are_missing_again(account, clock):
    batch = of("A", 2, 3)
    account.seen(DataType.TRADES, of("A", 1), Way.STREAM, clock.now)
    account.seen(DataType.TRADES, batch, Way.STREAM, clock.now)
    account.lost(batch, clock.after(120 * SECOND), "Kafka did not take them: timed out")
    account.advance(clock.after(SECOND))
    (event,) = account.events()
    assert told([event]) == [("opened", "A", 2, 3)]
    assert event.why.startswith("Kafka did not take them")
    assert [(each.first, each.last) for each in account.holes()] == [(2, 3)]


def test_numbers_that_begin_again_are_told_and_what_was_open_cannot_be_had(account, clock):
    account.seen(DataType.TRADES, of("A", 8_000, 8_002), Way.STREAM, clock.now)
    account.advance(clock.after(SECOND))
    again = pa.record_batch(
        {
            "symbol": ["A", "A"],
            "source_sequence": [1, 2],
            "timestamp": pa.array([START + 60 * SECOND] * 2, pa.timestamp("us", tz="UTC")),
        }
    )
    account.seen(DataType.TRADES, again, Way.STREAM, clock.after(SECOND))
    assert told(account.events()) == [
        ("opened", "A", 8_001, 8_001),
        ("unfillable", "A", 8_001, 8_001),
        ("restarted", "A", 1, 8_002),
    ]
    assert account.holes() == []


def test_an_outage_of_ours_says_why_and_asks_for_the_newest_trades(account, clock):
    account.connected(1, ["A", "B"], clock.now)
    account.seen(DataType.TRADES, of("A", 1, 2), Way.STREAM, clock.now)
    account.disconnected(1, ["A", "B"], clock.after(SECOND))
    assert sorted(account.deaf) == ["A", "B"]
    account.connected(2, ["A", "B"], clock.after(SECOND))
    assert account.unheard() == []
    account.advance(clock.after(PATIENCE_US))
    assert account.unheard() == ["A", "B"]
    account.seen(DataType.TRADES, of("A", 6, 7), Way.SNAPSHOT, clock.after(SECOND))
    account.advance(clock.after(SECOND))
    (event,) = account.events()
    assert told([event]) == [("opened", "A", 3, 5)]
    assert event.why.startswith("no connection from 2023-11-14T22:13:21")
    assert account.unheard() == ["B"]


def test_the_planned_exchange_of_a_connection_is_no_outage(clock):
    account = Account(Numbering.NONE)
    account.connected(1, ["A"], clock.now)
    account.connected(2, ["A"], clock.after(SECOND))
    account.disconnected(1, ["A"], clock.after(SECOND))
    assert account.events() == []
    assert list(account.deaf) == []


def test_an_outage_of_the_exchange_is_no_gap(account, clock):
    account.connected(1, ["A"], clock.now)
    account.seen(DataType.TRADES, of("A", 1, 2), Way.STREAM, clock.now)
    account.seen(DataType.TRADES, of("A", 3), Way.STREAM, clock.after(4 * 3600 * SECOND))
    account.advance(clock.after(SECOND))
    assert [each for each in account.events() if each.kind is not GapKind.CHECKED] == []


def test_where_numbers_prove_nothing_times_without_a_connection_are_unknown_at_once(clock):
    account = Account(Numbering.NONE)
    account.connected(1, ["A"], clock.now)
    account.seen(DataType.TRADES, of("A", 9, 4), Way.STREAM, clock.now)
    account.disconnected(1, ["A"], clock.after(SECOND))
    (began,) = account.events()
    assert (began.kind, began.after, began.before) == (GapKind.UNKNOWN, START + SECOND, None)
    account.connected(2, ["A"], clock.after(SECOND))
    (ended,) = account.events()
    assert (ended.kind, ended.after, ended.before) == (GapKind.UNKNOWN, START + SECOND, START + 2 * SECOND)
    assert folded([began, ended]).counts == GapCounts(unknown=1)
    assert account.holes() == []


def test_where_numbers_prove_nothing_a_restart_is_unknown_from_when_the_market_was_last_heard(clock):
    account = Account(Numbering.NONE, last_heard=clock.now)
    account.connected(1, ["A"], clock.after(30 * SECOND))
    (event,) = account.events()
    assert (event.kind, event.after, event.before) == (GapKind.UNKNOWN, START, START + 30 * SECOND)


def test_symbols_that_traded_are_said_to_be_accounted_for_and_all_that_stands_is_said_again(account, clock):
    account.seen(DataType.TRADES, trades([("A", 1), ("B", 7), ("B", 9)]), Way.STREAM, clock.now)
    account.advance(clock.after(CHECKED_US))
    events = account.events()
    assert told(events) == [
        ("opened", "B", 8, 8),
        ("checked", "A", None, 1),
        ("checked", "B", None, 9),
    ]
    account.seen(DataType.TRADES, of("A", 2), Way.STREAM, clock.now)
    account.advance(clock.after(CHECKED_US))
    assert told(account.events()) == [("checked", "A", None, 2)]
    account.advance(clock.after(RETOLD_US))
    again = account.events()
    assert told(again) == [("opened", "B", 8, 8), ("checked", "A", None, 2), ("checked", "B", None, 9)]
    assert again[0].since == START
    assert folded([*events, *again]).counts == account.counts


def test_nothing_is_checked_whose_gap_is_not_told(account, clock):
    account.advance(clock.now)
    account.seen(DataType.TRADES, of("A", 1, 3), Way.STREAM, clock.after(CHECKED_US - 1))
    account.advance(clock.after(1))
    assert told(account.events()) == [("opened", "A", 2, 2), ("checked", "A", None, 3)]


def test_an_account_of_long_ago_counts_what_it_does_not_list():
    account = GapAccount()
    account.add(
        GapEvent(GapKind.UNFILLABLE, "A", START, number, number) for number in range(0, 2 * MOST_REMEMBERED + 20, 2)
    )
    account.add(GapEvent(GapKind.UNKNOWN, "A", START, after=at, before=at + 1) for at in range(1, MOST_REMEMBERED + 11))
    assert account.counts.unfillable == MOST_REMEMBERED + 10
    assert account.counts.unknown == MOST_REMEMBERED + 10
    assert len(account.unfillable["A"]) == len(account.unknown) == MOST_REMEMBERED


steps = st.lists(
    st.one_of(
        st.tuples(st.just("stream"), st.lists(st.integers(0, 12), min_size=1, max_size=8)),
        st.tuples(st.just("wait"), st.sampled_from([1, SETTLE_US // 2, SETTLE_US, CHECKED_US])),
        st.tuples(st.just("fill"), st.integers(0, 5)),
        st.tuples(st.just("give up"), st.integers(0, 5)),
        st.tuples(st.just("crash"), st.booleans()),
    ),
    max_size=25,
)


def numbers_in(ranges):
    return {number for each in ranges for number in range(each.first, each.last + 1)}


class Feed:
    """A feed that hears one symbol: what it has sent to the topic and said of it outlives its process."""

    def __init__(self):
        self.clock, self.account = Clock(), Account(Numbering.CONSECUTIVE)
        self.topic, self.ledger, self.at = [], [], 50

    def do(self, what, how):
        if what == "stream":
            # Around a place that moves on, so that numbers are skipped, swapped, late and repeated.
            self.send([self.at + offset for offset in how], Way.STREAM)
            self.at += 4
        elif what == "wait":
            self.account.advance(self.clock.after(how))
        elif what == "crash":
            self.crash(telling=how)
        elif holes := self.account.holes():
            hole = holes[how % len(holes)]
            if what == "fill":
                self.send(list(range(hole.first, hole.last + 1)), Way.FILL)
            else:
                self.account.unfillable(hole, self.clock.now, "gone")

    def send(self, numbers, way):
        batch = of("A", *numbers)
        self.account.seen(DataType.TRADES, batch, way, self.clock.after(1_000))
        self.topic.append((self.clock.now, batch))

    def crash(self, *, telling):
        """End, with or without what was not said yet, and begin with what is known."""
        said = self.account.events()
        self.ledger += said if telling else []
        known = folded(self.ledger)
        self.account = Account(Numbering.CONSECUTIVE, known)
        since = known.checked["A"].at if "A" in known.checked else 0
        for came, batch in self.topic:
            if came >= since:
                self.account.seen(DataType.TRADES, batch, Way.STREAM, came)


@given(steps)
def test_after_any_crash_the_account_and_the_topic_tell_what_did_not_come(script):
    feed = Feed()
    for what, how in script:
        feed.do(what, how)
        # Half of the steps end before what they led to is said.
        feed.ledger += feed.account.events() if feed.clock.now % 2_000 else []
    feed.account.close(feed.clock.after(SECOND))
    feed.ledger += feed.account.events()
    came = {number for _, batch in feed.topic for number in batch.column("source_sequence").to_pylist()}
    known = folded(feed.ledger)
    still, lost = numbers_in(known.open.get("A", ())), numbers_in(known.unfillable.get("A", ()))
    if came:
        lowest = min(feed.topic[0][1].column("source_sequence").to_pylist())
        missing = set(range(lowest, max(came) + 1)) - came
        assert still | lost == missing
    assert not still & lost
    assert numbers_in(feed.account.holes()) == still
    assert folded([*feed.ledger, *feed.ledger]).counts.open == known.counts.open


def test_without_numbers_the_newest_trades_are_asked_for_once_after_each_cut(clock):
    account = Account(Numbering.NONE)
    account.connected(1, ["BTCUSDT"], clock.now)
    account.advance(clock.after(PATIENCE_US))
    assert account.unheard() == []
    account.disconnected(1, ["BTCUSDT"], clock.after(SECOND))
    account.connected(2, ["BTCUSDT"], clock.after(SECOND))
    # A trade says nothing of those before it.
    account.seen(DataType.TRADES, of("BTCUSDT", 7), Way.STREAM, clock.after(SECOND))
    account.advance(clock.after(PATIENCE_US))
    assert account.unheard() == ["BTCUSDT"]
    account.heard_newest("BTCUSDT")
    assert account.unheard() == []
