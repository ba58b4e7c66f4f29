"""What holds a sink up, followed over the life of its process: which kind it is, since when, and when it is to be told again.

One instance serves the loop and the waiting before it, so that "since when" is one time. The metric says it at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from k2.lake.appends.trouble import Trouble
from k2.lake.appends.unwritable import TableFaultError
from k2.lake.payloads import PausedError
from k2.lake.schema_ids import BoundAnewError
from k2.model.errors import K2Error, RefusedError, WorldError
from k2.model.held_up import HeldUp, HeldUpBy, in_short
from k2.obs import metrics
from k2.obs.logging import get_logger

log = get_logger(__name__)

AGAIN = timedelta(seconds=20)
"""What lasts is told so often, with its newest words: who reads it takes what is far older for that of a sink that is gone."""

STALL_SECONDS = 60.0
"""Beyond two commit intervals: a sink that has work and has committed nothing for so long says so."""
SILENT_SECONDS = 30.0
"""Beyond two: the same where a commit is under way, of which nothing is heard."""
TROUBLE_SECONDS = 10.0
"""Beyond one: the same where commits fail, and it is known why. Whoever asks in between finds it told."""
HELD_MEANWHILE = "Nothing is lost: the sink holds what it has read, tries again, and goes on by itself"


class TooManyDeadError(PausedError):
    """More of the last messages are dead letters than the feed allows: no more is read until somebody has mended it."""


@dataclass(slots=True)
class Telling:
    """Follows one sink.

    Args:
        topic: that it reads.

    Attributes:
        held: what holds it up, as it was last told; None while it goes on.
    """

    topic: str
    held: HeldUp | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for each in HeldUpBy:
            metrics.SINK_HELD_UP.labels(self.topic, each.value).set(0)

    def see(self, by: HeldUpBy | None, said: str, now: datetime) -> bool:
        """Take in what holds the sink up now (None: nothing does). True: it is to be told, `held` is what.

        Args:
            by: the kind.
            said: for a person, of any length.
            now: the time, UTC.
        """
        before = self.held
        if before is not None and before.by is by:
            if now - before.told < AGAIN:
                return False
            self.held = replace(before, said=in_short(said), told=now)
            return True
        if before is not None:
            metrics.SINK_HELD_UP.labels(self.topic, before.by.value).set(0)
        if by is None:
            self.held = None
            if before is not None:
                log.info("sink.went_on", topic=self.topic, kind=before.by.value, since=before.since.isoformat())
            return before is not None
        self.held = HeldUp(by, in_short(said), now if before is None else before.since, now)
        metrics.SINK_HELD_UP.labels(self.topic, by.value).set(1)
        log.info("sink.held_up", topic=self.topic, kind=by.value, reason=said)
        return True


def in_words(error: K2Error) -> tuple[HeldUpBy, str]:
    """What kind of thing holds up a sink that has met this error, and what is said of it."""
    match error:
        case BoundAnewError():
            return HeldUpBy.DECISION, str(error)
        case TooManyDeadError():
            return HeldUpBy.DEAD_LETTERS, str(error)
        case RefusedError():
            return (
                HeldUpBy.DECISION,
                f"{error} The sink reads nothing until that is decided, and then goes on by itself.",
            )
        case TableFaultError() if (trouble := Trouble.of(error.__cause__ or error)).of_access:
            return HeldUpBy.ACCESS, f"Nothing can be committed: {trouble.said}. Nothing is lost meanwhile"
        case PausedError() if isinstance(error.__cause__, WorldError):
            return HeldUpBy.REGISTRY, str(error)
        case PausedError():
            return HeldUpBy.TABLE, str(error)
        case _:
            trouble = Trouble.of(error)
            return (HeldUpBy.ACCESS, trouble.said) if trouble.of_access else (HeldUpBy.PARTS, str(error))


def of_commits(table: str, interval: float, seconds: float, trouble: str | None) -> tuple[HeldUpBy, str] | None:
    """What holds up a sink that has work and has committed nothing for some time; None as long as that is usual.

    Args:
        table: that it writes.
        interval: seconds between two of its commits.
        seconds: since it has had work and committed nothing.
        trouble: what the commit under way met at its last try, empty for nothing; None: there is none under way.
    """
    if trouble and seconds > interval + TROUBLE_SECONDS:
        found = Trouble.of(trouble)
        kind = HeldUpBy.ACCESS if found.of_access else HeldUpBy.COMMIT
        return kind, f"Commits to {table} fail: {found.said.rstrip('.')}. {HELD_MEANWHILE}"
    if trouble == "" and seconds > 2 * interval + SILENT_SECONDS:
        said = f"A commit to {table} is under way, and neither the catalog nor the store answers. {HELD_MEANWHILE}"
        return HeldUpBy.COMMIT, said
    if seconds > 2 * interval + STALL_SECONDS:
        return HeldUpBy.COMMIT, f"Nothing is committed to {table}, and nothing tells why: the sink's log may"
    return None
