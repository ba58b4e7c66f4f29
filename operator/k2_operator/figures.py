"""Lag, rate and freshness of feeds, from offsets alone. Pure: readings in, figures and findings out; the time is an argument.

Figures are rounded to two digits: what moves without meaning anything would be a write a minute for each feed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from k2.model.exchanges import Exchange
from k2_operator.plans import FeedPlan
from k2_operator.status import Finding, no, unknown, yes

STALLED_SECONDS = 300.0
FRESH_SECONDS = 120.0

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
        found = [each for _, text in self.committed.values() if (each := _newest(text)) is not None]
        return max(found, default=None)


@dataclass(frozen=True, slots=True)
class Progress:
    """What two readings say together; `moved_at` is when the group last went on (or had nothing to do)."""

    latest: Reading
    rate: float
    moved_at: float


def progress(before: Progress | None, reading: Reading) -> Progress:
    """Take in another reading."""
    if before is None:
        return Progress(reading, 0.0, reading.at)
    old = before.latest
    sent = sum(reading.ends.values()) - sum(old.ends.values())
    moved = reading.lag == 0 or _offsets(reading.committed) != _offsets(old.committed)
    rate = max(0.0, sent / max(reading.at - old.at, 0.001))
    return Progress(reading, rate, reading.at if moved else before.moved_at)


def fields(streams: Mapping[str, Progress]) -> dict[str, Any]:
    """The figures of a feed's status, of its topics together; none when nothing was read."""
    if not streams:
        return {}
    newest = [each for found in streams.values() if (each := found.latest.newest) is not None]
    shown = max(newest, default=None)
    return {
        "lag": rounded(sum(each.latest.lag for each in streams.values())),
        "rate": rounded(sum(each.rate for each in streams.values())),
        "lastEventTime": None if shown is None else shown.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def findings(
    plan: FeedPlan, market: Exchange, streams: Mapping[str, Progress], now: datetime, at: float
) -> dict[str, Finding]:
    """`Fresh` and `Degraded`; neither is a part of `Ready`."""
    return {"Fresh": _fresh(plan, market, streams, now), "Degraded": _degraded(streams, at)}


def rounded(value: float) -> int:
    """Two digits: 12345 → 12000."""
    number = round(value)
    scale = 10 ** max(0, len(str(number)) - 2)
    return round(number / scale) * scale


def _fresh(plan: FeedPlan, market: Exchange, streams: Mapping[str, Progress], now: datetime) -> Finding:
    if plan.producer is None:
        return unknown("ExternalSource", "Somebody else sends; K2 does not know when there should be events.")
    if plan.producer.finite:
        return unknown("FiniteSource", "The source has an end; its events are as old as they are.")
    local = now.astimezone(market.zone)
    if market.regular is not None and (
        local.weekday() >= 5 or not market.regular[0] <= local.time().replace(tzinfo=None) < market.regular[1]
    ):
        return unknown("MarketClosed", f"{market.code} is outside of its regular session.")
    newest = max((each for found in streams.values() if (each := found.latest.newest)), default=None)
    if newest is None:
        return unknown("NotMeasured", "No sink has committed anything yet.")
    interval = max((each.config.commit_interval_seconds for each in plan.sinks), default=0.0)
    if now - newest <= timedelta(seconds=FRESH_SECONDS + interval):
        return yes("Fresh", "Events reach the tables as they happen.")
    return no("Stale", "The newest event in the tables is old (status.lastEventTime); look at the producer's log.")


def _degraded(streams: Mapping[str, Progress], at: float) -> Finding:
    stalled = sorted(
        topic for topic, each in streams.items() if each.latest.lag and at - each.moved_at > STALLED_SECONDS
    )
    if stalled:
        minutes = f"{STALLED_SECONDS / 60:.0f}"
        return yes(
            "SinkStalled",
            f"For {minutes} minutes no sink has committed anything of {', '.join(stalled)}, although there are messages; "
            "look at its log.",
        )
    return no("AsExpected", "Nothing is known to be wrong.")


def _newest(text: str) -> datetime | None:
    try:
        found = json.loads(text).get("newest")
        return None if found is None else datetime.fromisoformat(found)
    except (ValueError, AttributeError, TypeError):
        return None


def _offsets(committed: Committed) -> dict[int, int]:
    return {number: offset for number, (offset, _) in committed.items()}
