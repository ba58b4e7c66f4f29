"""Lag, rate, freshness and commits of feeds, from offsets alone. Pure: readings in, figures and findings out; the time is an argument.

Figures are rounded to two digits: what moves without meaning anything would be a write a minute for each feed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from k2.model.commit_note import CommitNote, held_up_of
from k2.model.dead_share import DeadShare
from k2.model.exchanges import Exchange
from k2.model.held_up import HeldUp, HeldUpBy
from k2.model.times import micros
from k2.model.workload import SinkConfig
from k2_operator.plan.plans import FeedPlan
from k2_operator.report import status
from k2_operator.report.status import Finding, no, unknown, yes
from k2_operator.spec.conditions import ConditionType, Reason
from k2_operator.spec.objects import Object

STALLED_SECONDS = 30.0
"""Beyond two commit intervals. With the half minute between two readings, a sink that stands still is told of within a minute."""
HEARD_SECONDS = 100.0
"""A sink that is held up says so again every twenty seconds. What was not said again for so long was left by one that is gone."""
OLD = timedelta(minutes=15)
"""The same by the clocks, for the first look of all, which knows of nothing that was said before."""
GROWING_SECONDS = 300.0
"""Beyond two commit intervals, between which messages gather: where the lag has grown at each look for so long, the sink is too slow."""
FRESH_SECONDS = 120.0
COMMITS_PER_SECOND = 1.0
"""Of all sinks of a table together. Above it commits wait for each other, and snapshots pile up faster than they are expired."""

MEASURED = (ConditionType.FRESH, ConditionType.COMPLETE, ConditionType.DEGRADED)
"""Of a feed: what `findings` finds."""

HELD_UP = (Reason.DECISION_NEEDED, Reason.MANY_DEAD_LETTERS, Reason.SINK_STALLED)
"""Why a sink commits nothing, as its offsets and notes tell it: of several sinks the first of these is the feed's."""
_REASONS = {HeldUpBy.DECISION: Reason.DECISION_NEEDED, HeldUpBy.DEAD_LETTERS: Reason.MANY_DEAD_LETTERS}

FIELDS = ("lag", "rate", "lastEventTime", "gaps", "completeness", "deadLetters", "sinks")
"""Of a feed's status: what `fields` gives."""

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
    def held(self) -> HeldUp | None:
        """What holds a sink up, as it said last; what was left by one that is gone among it (`SinkProgress`)."""
        told = [found for _, text in self.committed.values() if (found := held_up_of(text)) is not None]
        return max(told, key=lambda each: each.told, default=None)

    @property
    def letters(self) -> int | None:
        """Dead letters of all partitions that the table has counted; None when no sink has told them."""
        counts = [each.letters for each in self.notes if each.letters is not None]
        return sum(counts) if counts else None

    @property
    def dead(self) -> DeadShare:
        """The dead letters among the last messages of the sink's pod that has most of them."""
        told = [note.dead for note in self.notes if note.dead is not None]
        return max(told, key=lambda each: (each.dead, each.in_a_row), default=DeadShare())


@dataclass(frozen=True, slots=True)
class SinkProgress:
    """What the readings say together. Times are of a steady clock, in seconds.

    Args:
        latest: the newest.
        rate: messages a second into the topic.
        moved_at: when the group last went on, or had nothing to do.
        held_at: since when it has been read that something holds the sink up.
        heard_at: when the sink last said so anew.
        growing_at: since when the lag has grown at each reading.
    """

    latest: Reading
    rate: float
    moved_at: float
    held_at: float = 0.0
    heard_at: float = 0.0
    growing_at: float = 0.0

    def held(self, now: datetime, at: float) -> HeldUp | None:
        """What holds the sink up, if a sink that is there says so."""
        found = self.latest.held
        if found is None or at - self.heard_at > HEARD_SECONDS or now - found.told > OLD:
            return None
        return found


def progress(before: SinkProgress | None, reading: Reading) -> SinkProgress:
    """Take in another reading."""
    if before is None:
        return SinkProgress(reading, 0.0, reading.at, reading.at, reading.at, reading.at)
    old = before.latest
    sent = sum(reading.ends.values()) - sum(old.ends.values())
    moved = reading.lag == 0 or _offsets(reading.committed) != _offsets(old.committed)
    rate = max(0.0, sent / max(reading.at - old.at, 0.001))
    said, again = old.held, reading.held
    held_at = before.held_at if said is not None and again is not None else reading.at
    heard_at = before.heard_at if said is not None and again is not None and said.told == again.told else reading.at
    growing_at = before.growing_at if reading.lag > old.lag else reading.at
    return SinkProgress(reading, rate, reading.at if moved else before.moved_at, held_at, heard_at, growing_at)


def is_asked(before: SinkProgress | None, ends: Ends, *, lacks_pods: bool) -> bool:
    """Whether a sink's group is to be asked for its offsets: where they may have moved, and where something else may be told.

    Args:
        before: what is known of it.
        ends: the topic's ends now.
        lacks_pods: whether fewer of its pods are ready than should be: it may say why, though no message waits.
    """
    if lacks_pods or (before is not None and before.latest.held is not None):
        return True
    settled = before is not None and before.latest.lag == 0 and before.latest.ends == ends
    return any(ends.values()) and not settled


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
    letters = [each for found in streams.values() if (each := found.latest.letters) is not None]
    sinks = [
        _sink(sink.config, streams[sink.config.topic].latest) for sink in plan.sinks if sink.config.topic in streams
    ]
    return {
        "lag": rounded(sum(each.latest.lag for each in streams.values())),
        "rate": rounded(sum(each.rate for each in streams.values())),
        "lastEventTime": _stamp(newest),
        "gaps": sum(gaps) if gaps else None,
        "completeness": None,  # where the feed keeps an account, that is more: `completeness`
        "deadLetters": sum(letters) if letters else None,
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
        ConditionType.DEGRADED: _degraded(plan, streams, crowded, at),
    }
    held_up = _held_up(plan, streams, now, at)
    return found if held_up is None else found | {ConditionType.SINK_AVAILABLE: held_up}


def carried(obj: Object) -> dict[ConditionType, Finding]:
    """What was measured before a restart, until it is measured again; that a sink is held up among it."""
    found = status.carried(obj, (*MEASURED, ConditionType.SINK_AVAILABLE))
    sinks = found.get(ConditionType.SINK_AVAILABLE)
    if sinks is not None and sinks.reason not in HELD_UP:
        del found[ConditionType.SINK_AVAILABLE]
    return found


def not_known(told: str) -> dict[ConditionType, Finding]:
    """What is said while Kafka is away: nothing that was measured before it went. `told` says how it is away."""
    finding = unknown(Reason.KAFKA_UNREACHABLE, f"Not measured: {told}")
    return dict.fromkeys(MEASURED, finding)


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
    if not market.calendar.is_open(micros(now)):
        return unknown(Reason.MARKET_CLOSED, f"{market.code} is outside of its regular session.")
    newest = max((each for found in streams.values() if (each := found.latest.newest)), default=None)
    if newest is None:
        return unknown(Reason.NOT_MEASURED, "No sink has committed anything yet.")
    interval = max((each.config.commit_interval_seconds for each in plan.sinks), default=0.0)
    if now - newest <= timedelta(seconds=FRESH_SECONDS + interval):
        return yes(Reason.FRESH, "Events reach the tables as they happen.")
    return no(Reason.STALE, "The newest event in the tables is old (status.lastEventTime); look at the producer's log.")


def _held_up(plan: FeedPlan, streams: Mapping[str, SinkProgress], now: datetime, at: float) -> Finding | None:
    """Whether a sink brings nothing into its table although it should, with what the sink itself says of it."""
    found = [
        said
        for sink in sorted(plan.sinks, key=lambda each: each.config.topic)
        if (each := streams.get(sink.config.topic)) is not None
        and (said := _standing(sink.config, each, now, at)) is not None
    ]
    if not found:
        return None
    reason = min((reason for reason, _ in found), key=HELD_UP.index)
    return no(reason, "; ".join(text.rstrip(".") for _, text in found) + ".")


def _standing(config: SinkConfig, found: SinkProgress, now: datetime, at: float) -> tuple[Reason, str] | None:
    """Why one sink brings nothing into its table, and since when; None while it goes on, or may yet."""
    limit = 2 * config.commit_interval_seconds + STALLED_SECONDS
    waited = at - found.moved_at if found.latest.lag else 0.0
    held = found.held(now, at)
    if held is not None and (not held.by.passes or max(waited, at - found.held_at) >= limit):
        # What a person has to do about it is in what the sink says, and at its end.
        since = max(waited, (now - held.since).total_seconds())
        return _REASONS.get(held.by, Reason.SINK_STALLED), f"{config.topic} ({_span(since)}): {held.said}"
    dead, most = found.latest.dead, config.dead_letters_stop_above
    if found.latest.lag and most is not None and dead.above(most):
        return Reason.MANY_DEAD_LETTERS, dead.stop_said(config.topic, most)
    if waited < limit:
        return None
    said = (
        f"Messages wait and no sink commits them: {config.topic} ({_span(waited)}). Its pods do not say why; their log may "
        "(`kubectl logs -l app.kubernetes.io/component=sink`); nothing is lost meanwhile."
    )
    return Reason.SINK_STALLED, said


def _span(seconds: float) -> str:
    """A time for a person, coarser the longer it is: what changes at each look would be a write of the status at each."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.0f} h"


def _degraded(plan: FeedPlan, streams: Mapping[str, SinkProgress], crowded: list[str], at: float) -> Finding:
    shares = {topic: found.dead for topic, found in _readings(plan, streams).items()}
    dead = {topic: share for topic, share in shares.items() if share.many or share.none_good}
    if dead:
        said = "; ".join(share.said(topic) for topic, share in sorted(dead.items()))
        return yes(
            Reason.MANY_DEAD_LETTERS,
            f"{said}. Mend what sends them, then `k2 dlq redrive` brings back what can be read. The rest flows.",
        )
    if slow := [sink.config.topic for sink in plan.sinks if _falls_behind(sink.config, streams, at)]:
        return yes(
            Reason.FALLING_BEHIND,
            f"Messages of {', '.join(sorted(slow))} come faster than the sinks commit them: the lag has grown at each look for five "
            "minutes and more. Give the sinks more pods (spec.sink.replicas, at most one for each partition) or more processor time.",
        )
    if crowded:
        return yes(
            Reason.COMMIT_CONTENTION,
            f"The sinks of {', '.join(crowded)} commit more than once a second, all of them together, and wait for each other; "
            "raise spec.sink.commitInterval of the feeds that send to it, or give some of them a table of their own.",
        )
    return no(Reason.AS_EXPECTED, "Nothing is known to be wrong.")


def _falls_behind(config: SinkConfig, streams: Mapping[str, SinkProgress], at: float) -> bool:
    """Whether a sink commits, and less than comes."""
    found, gathers = streams.get(config.topic), 2 * config.commit_interval_seconds
    return (
        found is not None
        and at - found.growing_at >= gathers + GROWING_SECONDS
        and at - found.moved_at < gathers + STALLED_SECONDS
    )


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
        "deadLetters": reading.letters,
        "recentDeadLetters": rounded(reading.dead.dead) or None,
        "deadLetterReason": reading.dead.kind or None,
        "lastSnapshot": None if last is None else str(last.snapshot),
        "lastCommitTime": None if last is None else _stamp(last.committed),
    }
    return {name: value for name, value in told.items() if value is not None}


def _stamp(time: datetime | None) -> str | None:
    """A time as Kubernetes writes it, to the second."""
    return None if time is None else time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _offsets(committed: Committed) -> dict[int, int]:
    return {number: offset for number, (offset, _) in committed.items()}
