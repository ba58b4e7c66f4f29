"""Lag, rate, freshness and commits of feeds, from offsets alone. Pure: readings in, figures and findings out; the time is an argument.

Figures are rounded to two digits: what moves without meaning anything would be a write a minute for each feed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from k2.model.commit_note import CommitNote
from k2.model.dead_share import DeadShare
from k2.model.exchanges import Exchange
from k2.model.workload import SinkConfig
from k2_operator.plan.plans import FeedPlan
from k2_operator.report.status import Finding, no, unknown, yes
from k2_operator.spec.conditions import ConditionType, Reason

STALLED_SECONDS = 30.0
"""Beyond two commit intervals. With the half minute between two readings, a sink that stands still is told of within a minute."""
FRESH_SECONDS = 120.0
COMMITS_PER_SECOND = 1.0
"""Of all sinks of a table together. Above it commits wait for each other, and snapshots pile up faster than they are expired."""

MEASURED = (ConditionType.FRESH, ConditionType.DEGRADED)
"""Of a feed: what `findings` finds."""

Ends = Mapping[int, int]
Committed = Mapping[int, tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a topic and its sink's group; `at` in seconds of a steady clock."""

    at: float
    ends: Ends
    committed: Committed

    @property
    def lag(self) -> int:
        """Messages that the group has not passed."""
        return sum(max(0, end - self.committed.get(number, (0, ""))[0]) for number, end in self.ends.items())

    @property
    def newest(self) -> datetime | None:
        """Time of the newest event that the sink has committed, as it says beside its offsets."""
        return max((each.newest for each in self.notes if each.newest is not None), default=None)

    @property
    def notes(self) -> list[CommitNote]:
        """What the sinks have left beside their offsets, of each partition."""
        return [note for _, text in self.committed.values() if (note := CommitNote.from_json(text)) is not None]

    @property
    def last(self) -> CommitNote | None:
        """The newest commit of all partitions."""
        return max(self.notes, key=lambda note: note.sequence or 0, default=None)

    @property
    def gaps(self) -> int | None:
        """Gaps in the source's sequence that the sinks have counted; None when none of them counts."""
        counts = [note.gaps for note in self.notes if note.gaps is not None]
        return sum(counts) if counts else None

    @property
    def dead(self) -> DeadShare:
        """The dead letters among the last messages of the sink's pod that has most of them."""
        told = [note.dead for note in self.notes if note.dead is not None]
        return max(told, key=lambda each: (each.dead, each.in_a_row), default=DeadShare())


@dataclass(frozen=True, slots=True)
class SinkProgress:
    """What two readings say together; `moved_at` is when the group last went on (or had nothing to do)."""

    latest: Reading
    rate: float
    moved_at: float


def progress(before: SinkProgress | None, reading: Reading) -> SinkProgress:
    """Take in another reading."""
    if before is None:
        return SinkProgress(reading, 0.0, reading.at)
    old = before.latest
    sent = sum(reading.ends.values()) - sum(old.ends.values())
    moved = reading.lag == 0 or _offsets(reading.committed) != _offsets(old.committed)
    rate = max(0.0, sent / max(reading.at - old.at, 0.001))
    return SinkProgress(reading, rate, reading.at if moved else before.moved_at)


@dataclass(frozen=True, slots=True)
class Commits:
    """How fast a table's snapshots are numbered: `rate` a second, between two looks at the newest number."""

    sequence: int
    at: float
    rate: float = 0.0


def commits(before: Commits | None, readings: Iterable[Reading]) -> Commits | None:
    """Take in the readings of all sinks of one table; None when no sink has told a number yet."""
    told = [(note.sequence, reading.at) for reading in readings for note in reading.notes if note.sequence is not None]
    if not told:
        return before
    sequence, at = max(told)
    if before is None or sequence < before.sequence:  # a table that was made anew begins at 1
        return Commits(sequence, at)
    at = max(at for _, at in told)
    return Commits(sequence, at, (sequence - before.sequence) / max(at - before.at, 1.0))


def fields(plan: FeedPlan, streams: Mapping[str, SinkProgress]) -> dict[str, Any]:
    """The figures of a feed's status, by topic and together; none when nothing was read."""
    if not streams:
        return {}
    newest = max((each for found in streams.values() if (each := found.latest.newest)), default=None)
    gaps = [each for found in streams.values() if (each := found.latest.gaps) is not None]
    sinks = [
        _sink(sink.config, streams[sink.config.topic].latest) for sink in plan.sinks if sink.config.topic in streams
    ]
    return {
        "lag": rounded(sum(each.latest.lag for each in streams.values())),
        "rate": rounded(sum(each.rate for each in streams.values())),
        "lastEventTime": _stamp(newest),
        "gaps": sum(gaps) if gaps else None,
        "sinks": sinks,
    }


def findings(
    plan: FeedPlan,
    market: Exchange,
    streams: Mapping[str, SinkProgress],
    tables: Mapping[str, Commits],
    now: datetime,
    at: float,
) -> dict[ConditionType, Finding]:
    """`Fresh` and `Degraded`, neither of which is a part of `Ready`; and `SinkAvailable`, False, where a sink does not go on.

    `tables` are by identifier, `at` is of a steady clock.
    """
    crowded = sorted(
        {
            sink.config.table
            for sink in plan.sinks
            if (found := tables.get(sink.config.table)) is not None and found.rate > COMMITS_PER_SECOND
        }
    )
    found = {
        ConditionType.FRESH: _fresh(plan, market, streams, now),
        ConditionType.DEGRADED: _degraded(plan, streams, crowded),
    }
    held_up = _stopped(plan, streams) or _stalled(plan, streams, at)
    return found if held_up is None else found | {ConditionType.SINK_AVAILABLE: held_up}


def rounded(value: float) -> int:
    """Two digits: 12345 → 12000."""
    number = round(value)
    scale = 10 ** max(0, len(str(number)) - 2)
    return round(number / scale) * scale


def _fresh(plan: FeedPlan, market: Exchange, streams: Mapping[str, SinkProgress], now: datetime) -> Finding:
    if plan.producer is None:
        return unknown(Reason.EXTERNAL_SOURCE, "Somebody else sends; K2 does not know when there should be events.")
    if plan.producer.finite:
        return unknown(Reason.FINITE_SOURCE, "The source has an end; its events are as old as they are.")
    local = now.astimezone(market.zone)
    if market.regular is not None and (
        local.weekday() >= 5 or not market.regular[0] <= local.time().replace(tzinfo=None) < market.regular[1]
    ):
        return unknown(Reason.MARKET_CLOSED, f"{market.code} is outside of its regular session.")
    newest = max((each for found in streams.values() if (each := found.latest.newest)), default=None)
    if newest is None:
        return unknown(Reason.NOT_MEASURED, "No sink has committed anything yet.")
    interval = max((each.config.commit_interval_seconds for each in plan.sinks), default=0.0)
    if now - newest <= timedelta(seconds=FRESH_SECONDS + interval):
        return yes(Reason.FRESH, "Events reach the tables as they happen.")
    return no(Reason.STALE, "The newest event in the tables is old (status.lastEventTime); look at the producer's log.")


def _stalled(plan: FeedPlan, streams: Mapping[str, SinkProgress], at: float) -> Finding | None:
    """Whether a sink has messages before it and commits none of them."""
    waits = {
        sink.config.topic: round(at - each.moved_at)
        for sink in plan.sinks
        if (each := streams.get(sink.config.topic)) is not None
        and each.latest.lag
        and at - each.moved_at >= 2 * sink.config.commit_interval_seconds + STALLED_SECONDS
    }
    if not waits:
        return None
    topics = ", ".join(f"{topic} ({seconds} s)" for topic, seconds in sorted(waits.items()))
    return no(
        Reason.SINK_STALLED,
        f"Messages wait and no sink commits them: {topics}. Its /ready and its log tell why (`kubectl logs -l "
        "app.kubernetes.io/component=sink`); nothing is lost meanwhile.",
    )


def _stopped(plan: FeedPlan, streams: Mapping[str, SinkProgress]) -> Finding | None:
    """Whether a sink reads no more because of its dead letters: its last commit tells how many there were."""
    readings = _readings(plan, streams)
    said = [
        readings[sink.config.topic].dead.stop_said(sink.config.topic, most)
        for sink in plan.sinks
        if (most := sink.config.dead_letters_stop_above) is not None
        and sink.config.topic in readings
        and readings[sink.config.topic].lag
        and readings[sink.config.topic].dead.above(most)
    ]
    return no(Reason.MANY_DEAD_LETTERS, f"{'; '.join(sorted(said))}.") if said else None


def _degraded(plan: FeedPlan, streams: Mapping[str, SinkProgress], crowded: list[str]) -> Finding:
    dead = {topic: found.dead for topic, found in _readings(plan, streams).items() if found.dead.many}
    if dead:
        said = "; ".join(share.said(topic) for topic, share in sorted(dead.items()))
        return yes(
            Reason.MANY_DEAD_LETTERS,
            f"{said}. Mend what sends them, then `k2 dlq redrive` brings back what can be read. The rest flows.",
        )
    if crowded:
        return yes(
            Reason.COMMIT_CONTENTION,
            f"The sinks of {', '.join(crowded)} commit more than once a second, all of them together, and wait for each other; "
            "raise spec.sink.commitInterval of the feeds that send to it, or give some of them a table of their own.",
        )
    return no(Reason.AS_EXPECTED, "Nothing is known to be wrong.")


def _readings(plan: FeedPlan, streams: Mapping[str, SinkProgress]) -> dict[str, Reading]:
    """The newest reading of each of the feed's own sinks, by topic."""
    topics = (sink.config.topic for sink in plan.sinks)
    return {topic: streams[topic].latest for topic in topics if topic in streams}


def _sink(config: SinkConfig, reading: Reading) -> dict[str, Any]:
    last = reading.last
    told = {
        "dataType": config.data_type.value,
        "topic": config.topic,
        "table": config.table,
        "lag": rounded(reading.lag),
        "gaps": reading.gaps,
        "recentDeadLetters": rounded(reading.dead.dead) or None,
        "lastSnapshot": None if last is None else str(last.snapshot),
        "lastCommitTime": None if last is None else _stamp(last.committed),
    }
    return {name: value for name, value in told.items() if value is not None}


def _stamp(time: datetime | None) -> str | None:
    """A time as Kubernetes writes it, to the second."""
    return None if time is None else time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _offsets(committed: Committed) -> dict[int, int]:
    return {number: offset for number, (offset, _) in committed.items()}
