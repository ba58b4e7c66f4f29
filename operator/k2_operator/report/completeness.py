"""Whether trades of a feed are missing, from what its account of gaps comes to. Pure: a note in, a finding and figures out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from k2.model.gap_note import GapNote
from k2.model.times import iso, to_datetime
from k2.model.topics import DataType
from k2_operator.plan.plans import FeedPlan
from k2_operator.report.status import Finding, no, unknown, yes
from k2_operator.spec.conditions import Reason

HEARD = timedelta(minutes=5)
"""A feed says anew every quarter of a minute what its account comes to. What is older was said by one that is gone."""


def account_topic(plan: FeedPlan) -> str | None:
    """The topic of a feed's account; None: it keeps none."""
    if plan.producer is None or plan.producer.finite:
        return None
    streams = plan.producer.config.streams
    return next((stream.topic for stream in streams if stream.data_type is DataType.GAPS), None)


def complete(plan: FeedPlan, note: GapNote | None, now: datetime) -> Finding:
    """`Complete` of a feed.

    Args:
        plan: of the feed.
        note: what its account came to when it last said so; None: it never did.
        now: the time.
    """
    if account_topic(plan) is None:
        return unknown(
            Reason.NO_ACCOUNT,
            "Nobody keeps an account of gaps: a live source does, with a stream whose dataType is gaps.",
        )
    if note is None:
        return unknown(Reason.NOT_MEASURED, "The feed has not said yet what it has not got.")
    said = to_datetime(note.at)
    if now - said > HEARD:
        return unknown(
            Reason.NOT_MEASURED, f"The feed has said nothing of gaps since {_second(note.at)}; look at its pods."
        )
    counts = note.counts
    look = f"`k2 feed gaps {plan.exchange.lower()}` lists them"
    if counts.open:
        since = "" if counts.oldest is None else f", the oldest since {_second(counts.oldest)}"
        of = f" (of {note.worst} among others)" if note.worst else ""
        return no(Reason.GAPS_OPEN, f"{counts.open} trades are missing{of}{since}. They are asked for; {look}.")
    if counts.unfillable:
        return no(
            Reason.TRADES_MISSING,
            f"{counts.unfillable} trades are missing for good: the exchange has not got them. {look[0].upper()}{look[1:]}; its own "
            "files may have them.",
        )
    if counts.unknown:
        return unknown(
            Reason.TIMES_UNKNOWN,
            f"There were {counts.unknown} times in which nothing was heard, and the exchange's numbers do not tell what was missed. "
            f"{look[0].upper()}{look[1:]}.",
        )
    if note.deaf:
        return unknown(Reason.TIMES_UNKNOWN, f"{note.deaf} symbols are not heard now: no connection carries them.")
    return yes(Reason.ALL_TRADES_HERE, "No trade is missing.")


def completeness_fields(note: GapNote | None) -> dict[str, Any]:
    """What a status says of the account; nothing where there is none."""
    if note is None:
        return {}
    counts = note.counts
    told = {
        "open": counts.open,
        "filled": counts.filled,
        "unfillable": counts.unfillable,
        "unknown": counts.unknown,
        "deadLettered": counts.dead_lettered,
        "oldest": None if counts.oldest is None else _second(counts.oldest),
        "asOf": _minute(note.at),
    }
    return {"gaps": counts.open, "completeness": {name: value for name, value in told.items() if value is not None}}


def _second(micros: int) -> str:
    return f"{iso(micros)[:19]}Z"


def _minute(micros: int) -> str:
    """To the minute: a time that moved at each look would be a write at each."""
    return to_datetime(micros).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:00Z")
