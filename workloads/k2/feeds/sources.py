"""What reads each kind of source (`k2.model.sources`). One that can have an end and one without may be of the same kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from k2.feeds.live import source as heard
from k2.feeds.load import csv_source
from k2.feeds.load.chunks import FiniteSource
from k2.feeds.load.live import LiveSource
from k2.feeds.load.opening import Opening
from k2.feeds.venues.synthetic import source as synthetic
from k2.model.errors import UserError


@dataclass(frozen=True, slots=True)
class SourceReader:
    """What opens a kind of source: for a load, and for a producer that runs on. None: there is no such source of the kind."""

    finite: Callable[[Opening], FiniteSource] | None = None
    live: Callable[[Opening], LiveSource] | None = None


READERS: Mapping[str, SourceReader] = {
    "live": SourceReader(live=heard.opened),
    "csv": SourceReader(finite=csv_source.opened),
    "synthetic": SourceReader(finite=synthetic.opened, live=synthetic.opened_live),
}


def finite_source(opening: Opening) -> FiniteSource:
    """The source of a load.

    Raises:
        UserError: it has no end (that is for `k2 run producer`), or it cannot be used.
    """
    source, feed = opening.config.source, opening.config.feed
    finite = READERS[source.kind].finite
    if source.is_live or finite is None:
        raise UserError(
            f"The source of {feed} has no end",
            found=source.kind,
            expected="one that can be read to its end",
            remedy="Run it as `k2 run producer`",
        )
    return finite(opening)


def live_source(opening: Opening) -> LiveSource:
    """The source of a producer.

    Raises:
        UserError: it has an end (that is for `k2 run load`), or it cannot be used.
    """
    source, feed = opening.config.source, opening.config.feed
    live = READERS[source.kind].live
    if not source.is_live or live is None:
        raise UserError(
            f"The source of {feed} has an end",
            found=source.kind,
            expected="a live source, or synthetic with days: 0",
            remedy="Run it as `k2 run load`",
        )
    return live(opening)
