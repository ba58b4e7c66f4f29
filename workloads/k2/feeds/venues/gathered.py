"""What a venue's messages say, gathered while they are read: the further half of every `Venue.parse`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

import msgspec
import pyarrow as pa

from k2.feeds.venues.columns import EventColumns, Made, QuoteRows, TradeRows
from k2.feeds.venues.reading import REFUSED, NoMessageError
from k2.feeds.venues.venue import Frame, Heard, Notice, NoticeKind, Unreadable
from k2.model.topics import DataType

Said = TypeVar("Said")


@dataclass(slots=True)
class Gathered:
    """Notices and dead letters of messages, in the order in which they came."""

    notices: list[Notice] = field(default_factory=list[Notice])
    unreadable: list[Unreadable] = field(default_factory=list[Unreadable])

    def note(self, kind: NoticeKind, frame: Frame, text: str = "", symbols: Iterable[str] = ()) -> None:
        """A message that is no event."""
        self.notices.append(Notice(kind, frame.connection, text, tuple(symbols)))

    def refuse(self, raw: bytes, *reasons: str) -> None:
        """A message, or parts of it, that should have been events."""
        self.unreadable.extend(Unreadable(raw, reason) for reason in reasons)

    def read(
        self,
        frames: Sequence[Frame],
        decoder: msgspec.json.Decoder[Said],
        by_itself: Callable[[bytes], tuple[Said, Sequence[str]]],
    ) -> Iterator[tuple[Frame, Said]]:
        """Each message by its type. What is none of its type is refused, or the parts of it that are none.

        Args:
            frames: messages as they came.
            decoder: of their type.
            by_itself: what fits of a message that is not of its type, and why the rest does not; `NoMessageError`: nothing does.
        """
        decode = decoder.decode
        # A loop over messages: each is an object of its own until here, and the columns begin behind it.
        for frame in frames:
            try:
                message = decode(frame.data)
            except REFUSED:
                try:
                    message, reasons = by_itself(frame.data)
                except NoMessageError as error:
                    self.refuse(frame.data, str(error))
                    continue
                self.refuse(frame.data, *reasons)
            yield frame, message

    def heard(self, columns: EventColumns, trades: TradeRows | None = None, quotes: QuoteRows | None = None) -> Heard:
        """All of it, with these rows as events."""
        events: dict[DataType, pa.RecordBatch] = {}
        made: list[tuple[DataType, Made]] = []
        if trades is not None and trades.raw:
            made.append((DataType.TRADES, columns.trades(trades)))
        if quotes is not None and quotes.raw:
            made.append((DataType.QUOTES, columns.quotes(quotes)))
        for data_type, rows in made:
            self.unreadable.extend(rows.unreadable)
            if rows.events is not None:
                events[data_type] = rows.events
        return Heard(MappingProxyType(events), tuple(self.notices), tuple(self.unreadable))
