"""Which streams are dead among living ones: by when each was heard last, and how often it is heard otherwise. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from k2.model.topics import DataType

Stream = tuple[DataType, str]
"""A data type and a symbol."""

_TIMES_ITS_PACE = 10
"""A stream that is heard once a minute is not missed after five."""


@dataclass(slots=True)
class _Heard:
    since: float
    last: float
    events: int = 0
    suspected: bool = False


class StreamWatch:
    """When each stream of a feed was heard.

    Args:
        seconds: silence after which a stream may be dead, where it is otherwise heard often enough.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._heard: dict[Stream, _Heard] = {}

    def expect(self, streams: Iterable[Stream], now: float) -> None:
        """These are subscribed to from now on."""
        for stream in streams:
            self._heard.setdefault(stream, _Heard(now, now))

    def forget(self, symbols: Collection[str]) -> None:
        """These are not subscribed to any more."""
        self._heard = {stream: heard for stream, heard in self._heard.items() if stream[1] not in symbols}

    def seen(self, stream: Stream, events: int, now: float) -> None:
        """Events of it came."""
        heard = self._heard.get(stream)
        if heard is not None:
            heard.last, heard.suspected = now, False
            heard.events += events

    def suspects(self, now: float) -> list[Stream]:
        """Those that are silent for longer than is usual for them; each once until it is heard again."""
        found: list[Stream] = []
        for stream, heard in self._heard.items():
            silence = now - heard.last
            usual = (heard.last - heard.since) / heard.events if heard.events else 0.0
            if not heard.suspected and silence >= max(self._seconds, _TIMES_ITS_PACE * usual):
                heard.suspected = True
                found.append(stream)
        return found
