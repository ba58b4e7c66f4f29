"""Questions as frozen values, checked when they are made. Times are integer microseconds since 1970, UTC."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from k2.model.errors import UserError
from k2.model.exchanges import Session
from k2.model.prints import EVERY_PRINT, Prints, check_prints
from k2.model.symbols import SYMBOL_SHAPE, is_symbol
from k2.model.times import DAY_US, HOUR_US, iso, midnight, parse_time
from k2.model.topics import DataType

if TYPE_CHECKING:
    from k2.model.events import SortKey
    from k2.query.asked.adjusted import Adjusting

DEFAULT_LIMIT = 1_000
MOST_ROWS = 1_000_000_000
"""Rows of one streamed answer; a JSON object holds fewer (`max_rows`)."""
MOST_SYMBOLS = 500
"""Symbols of one question: more of them would make its page tokens too long for a URL."""
# A trading date in the zones furthest from UTC lies within these of its UTC date.
_EAST_US, _WEST_US = 15 * HOUR_US, 13 * HOUR_US
_EARLIEST_US, _LATEST_US = midnight(date.min), midnight(date.max) + DAY_US - 1
_EXCHANGE = re.compile(r"[A-Z0-9][A-Z0-9-]{0,31}")

TableSnapshots = tuple[tuple[str, int | None], ...]
"""Tables of one data type, each with the id of a snapshot of it; None: it had none."""


@dataclass(frozen=True, slots=True)
class Window:
    """Events from `start_us` (inclusive) to `end_us` (exclusive); None is without bound.

    `within`: of that only these stretches [start, end), which come one after the other; none: all of it. `by`: (exchange, calendar)
    that found it, where it is of trading dates.
    """

    start_us: int | None = None
    end_us: int | None = None
    within: tuple[tuple[int, int], ...] = ()
    by: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.start_us is not None and self.end_us is not None and self.start_us > self.end_us:
            raise UserError(
                "The time range is reversed",
                found=f"start {iso(self.start_us)}, end {iso(self.end_us)}",
                expected="start before end",
            )

    @classmethod
    def of(cls, stretches: Sequence[tuple[int, int]]) -> Window:
        """What these stretches, at least one, hold together; they come one after the other."""
        joined: list[tuple[int, int]] = []
        for start_us, end_us in stretches:
            if joined and joined[-1][1] == start_us:
                joined[-1] = (joined[-1][0], end_us)
            elif start_us < end_us:
                joined.append((start_us, end_us))
        if not joined:
            return cls(stretches[0][0], stretches[0][0])
        return cls(joined[0][0], joined[-1][1], tuple(joined) if len(joined) > 1 else ())

    @classmethod
    def from_list(cls, held: Sequence[Any]) -> Window:
        """The inverse of `to_list`; a `ValueError` or `TypeError` for anything else."""
        start_us, end_us, *rest = held
        for bound in (start_us, end_us):
            if bound is not None:
                check_instant(bound)
        within: list[tuple[int, int]] = []
        last = 0
        for ahead, length in rest[0] if rest else ():
            within.append((check_instant(last + ahead), check_instant(last + ahead + length)))
            last += ahead
        by = [(str(code)[:64], str(title)[:200]) for code, title in rest[1]] if len(rest) > 1 else []
        return cls(start_us, end_us, tuple(within), tuple(by))

    def to_list(self) -> list[Any]:
        """Plain values, short for a token: of each stretch how far it begins after the one before, and how long it is."""
        if not self.within:
            return [self.start_us, self.end_us, *([[], self.by] if self.by else [])]
        starts = [start for start, _ in self.within]
        ahead = [start - before for before, start in pairwise([0, *starts])]
        lengths = [end - start for start, end in self.within]
        stretches = [list(each) for each in zip(ahead, lengths, strict=True)]
        return [self.start_us, self.end_us, stretches, *([self.by] if self.by else [])]

    @property
    def bounds(self) -> tuple[int | None, int | None]:
        """Its start and its end."""
        return self.start_us, self.end_us

    def starting(self, start_us: int) -> Window:
        """The same from that instant on."""
        return replace(self, start_us=start_us)

    def opened_us(self, us: int) -> int | None:
        """When the stretch that an instant lies in starts."""
        started = [start for start, _ in self.within if start <= us]
        return started[-1] if started else self.start_us

    @classmethod
    def around(cls, first: date, last: date) -> Window:
        """What these trading dates, both inclusive, lie in, of whichever exchange."""
        # A trading date may begin as early as the day before.
        return cls(midnight(first) - DAY_US - _EAST_US, midnight(last) + DAY_US + _WEST_US)

    @classmethod
    def parse(cls, start: str | None, end: str | None, zone: ZoneInfo | None = None) -> Window:
        """A window from two texts (see `parse_time`), each of which may be absent."""
        return cls(
            None if start is None else parse_time(start, "start", zone),
            None if end is None else parse_time(end, "end", zone),
        )


@dataclass(frozen=True, slots=True)
class At:
    """Which snapshots answer: one by its id, those that were current at a time, a pin's, or (none given) the current ones.

    A data type may have several tables. The one snapshot is of one of them, which alone answers then.

    Attributes:
        hybrid: with what the topics hold beyond the current snapshot (True), without it (False), or as the service does.
        ends: (topic id, partition, offset): only rows before that offset, wherever they are by now. What an answer with a
            tail had, its later pages have.
        tables: these tables alone, each at its snapshot (with `ends`: up to these). What an answer had, its later pages have.
    """

    snapshot: int | None = None
    as_of_us: int | None = None
    pin: str | None = None
    hybrid: bool | None = None
    ends: tuple[tuple[str, int, int], ...] = ()
    tables: TableSnapshots = ()

    def __post_init__(self) -> None:
        if self.hybrid and self.is_past:
            raise UserError(
                "hybrid=true is about now, and snapshot, as_of and pin are about what was", expected="one of them"
            )
        if self.snapshot is not None and self.as_of_us is not None:
            raise UserError("Both snapshot and as_of are given", expected="one of them")
        if self.pin is not None and (self.snapshot is not None or self.as_of_us is not None):
            raise UserError("A pin is given beside snapshot or as_of", expected="one of them")

    @property
    def is_past(self) -> bool:
        """Whether a snapshot was chosen: then what came after it is not asked for."""
        chosen = (self.snapshot, self.as_of_us, self.pin)
        return any(each is not None for each in chosen) or bool(self.tables and not self.ends)

    def in_files(self) -> At:
        """The same without what the topics hold beyond the snapshot."""
        return replace(self, hybrid=False)

    @classmethod
    def parse(
        cls,
        snapshot: str | None,
        as_of: str | None,
        pin: str | None = None,
        hybrid: bool | None = None,
        zone: ZoneInfo | None = None,
    ) -> At:
        """From texts, each of which may be absent."""
        if snapshot is not None and not re.fullmatch(r"[0-9]{1,19}", snapshot.strip()):
            raise UserError("snapshot is not a snapshot's id", found=snapshot, expected="an integer from /v1/snapshots")
        if pin is not None and not re.fullmatch(r"[0-9a-f]{16}", pin):
            raise UserError("Not a pin", found=pin, expected="one that POST /v1/pins gave")
        as_of_us = None if as_of is None else parse_time(as_of, "as_of", zone)
        return cls(None if snapshot is None else int(snapshot), as_of_us, pin, hybrid)


CURRENT = At()
"""The current snapshot."""


@dataclass(frozen=True, slots=True)
class EventsQuery:
    """Trades or quotes of symbols (empty: all) in a window, oldest first, at most `limit` of them.

    Attributes:
        fields: columns of the answer, in this order; none: all but those that tell where in Kafka a row came from.
        after: only what comes later in the order than a row of this key (keyset paging).
        since: only what the table got after this snapshot (difference between two snapshots).
        prints: only trades that these let through.
        adjusted: for what prices and quantities are adjusted; None: they are as they were traded.
    """

    data_type: DataType
    symbols: tuple[str, ...] = ()
    exchange: str | None = None
    window: Window = Window()
    limit: int = DEFAULT_LIMIT
    at: At = CURRENT
    fields: tuple[str, ...] = ()
    after: SortKey = ()
    since: int | None = None
    prints: Prints = EVERY_PRINT
    adjusted: Adjusting | None = None

    def __post_init__(self) -> None:
        check_symbols(self.symbols)
        check_limit(self.limit)
        check_prints(self.prints, (self.data_type,))


@dataclass(frozen=True, slots=True)
class SummaryQuery:
    """OHLCV and VWAP of a symbol on one trading date: a calendar date in the exchange's own time zone.

    `prints`: of the trades that these let through.
    """

    symbol: str
    day: date
    exchange: str | None = None
    at: At = CURRENT
    session: Session = Session.ALL
    prints: Prints = EVERY_PRINT
    adjusted: Adjusting | None = None

    def __post_init__(self) -> None:
        check_symbol(self.symbol)
        # A trading date reaches into the UTC days beside it, which must exist.
        if not date(1, 1, 3) <= self.day <= date(9999, 12, 29):
            raise UserError("The date is out of range", found=self.day.isoformat(), expected="a year from 1 to 9999")


def check_instant(us: Any) -> int:
    """The instant as it is, or a `ValueError` when it is none of the years 1 to 9999."""
    if type(us) is not int or not _EARLIEST_US <= us <= _LATEST_US:
        raise ValueError(us)
    return us


def check_symbol(symbol: str) -> str:
    """The symbol as it is, or a `UserError` when it cannot be one."""
    if not is_symbol(symbol):
        raise UserError("Not a symbol", found=symbol, expected=SYMBOL_SHAPE)
    return symbol


def check_symbols(symbols: Sequence[str], *, needed: bool = False) -> None:
    """A `UserError` when they cannot be the symbols of one question; `needed`: there must be one."""
    if needed and not symbols:
        raise UserError("No symbol is given", expected="one or more")
    if len(symbols) > MOST_SYMBOLS:
        raise UserError("Too many symbols", found=len(symbols), expected=f"at most {MOST_SYMBOLS}")
    for symbol in symbols:
        check_symbol(symbol)


def check_limit(limit: int) -> None:
    """A `UserError` when no answer can be of so many rows."""
    if limit < 1:
        raise UserError("limit is too small", found=limit, expected="1 or more")


def exchange_code(text: str | None) -> str | None:
    """An exchange's code as events carry it (upper case), or a `UserError`; None stays None."""
    if text is None:
        return None
    code = text.strip().upper()
    if not _EXCHANGE.fullmatch(code):
        raise UserError("Not an exchange's code", found=text, expected="1 to 32 letters, digits and '-', such as ASX")
    return code
