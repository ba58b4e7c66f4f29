"""The factors of a replay: of its history as fixed when it began, of what comes in later by what is known by then.

What was given is not given again: a split that comes about while a replay follows changes rows from before it that come in after.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from k2.model.adjusted import Adjusted
from k2.model.compute import pc
from k2.model.events import TIMESTAMP
from k2.model.exchanges import exchange as exchange_of
from k2.model.topics import DataType
from k2.query.adjust.adjusting import AdjustedRows, Adjuster
from k2.query.adjust.closes import Closes
from k2.query.adjust.histories import ex_dates
from k2.query.asked.adjusted import Adjusting
from k2.query.asked.cursor import Cursor, ReplayQuery
from k2.query.asked.requests import CURRENT, At, TableSnapshots, Window
from k2.query.plan.directory import SymbolDirectory
from k2.query.plan.pinned import Pinned
from k2.query.plan.planner import Planner
from k2.query.rows.adjusted import SymbolSteps
from k2.query.rows.relation import Relation
from k2.query.rows.statement import RowSource

_FIRST = (DataType.TRADES, DataType.QUOTES)
"""Whose moment the reference data is of, and the closes of dividends: that of trades, where these are asked for."""


@dataclass(frozen=True, slots=True)
class _Changes:
    """What the reference data at one moment says, as far as it tells whether rows are to be adjusted at all.

    Attributes:
        moment: its snapshots, and the ends of their tails.
        instants: when each change of the symbols' companies came about or will.
        symbols: those that there is a record of.
    """

    moment: tuple[TableSnapshots, tuple[tuple[str, int, int], ...]]
    instants: tuple[int, ...]
    symbols: frozenset[str]


_Made = tuple[Window, Adjusting, tuple[SymbolSteps, ...]]
"""Factors, of which window they are, and how they were asked for."""


@dataclass(slots=True)
class KnownFactors:
    """The factors of one replay. `clock`: microseconds since 1970 UTC."""

    engine: RowSource
    planner: Planner
    directory: SymbolDirectory
    closes: Closes
    clock: Callable[[], int] = lambda: time.time_ns() // 1000
    # Of the window that was read last: a page, or what is read after a seek, asks more than once.
    _made: dict[DataType, _Made] = field(default_factory=dict[DataType, _Made])
    _changes: _Changes | None = None

    def fixed(self, query: ReplayQuery, pinned: Mapping[DataType, Pinned]) -> ReplayQuery:
        """The question, by what its history that is pinned is adjusted from now on; raises as `Adjuster.adjusted` does.

        Its window says by which calendars the factors were found, too.
        """
        how, series, by = query.adjusted, dict[DataType, tuple[SymbolSteps, ...]](), set(query.window.by)
        assert how is not None
        for data_type in (each for each in _FIRST if each in pinned):
            rows = _rows(query, data_type, (query.at or {}).get(data_type, CURRENT))
            found = self._adjuster().adjusted(pinned[data_type], rows, how)
            assert found.factors is not None
            how, series[data_type] = found.factors.how, found.series
            by |= set(found.factors.calendars)
        window = replace(query.window, by=tuple(sorted(by)))
        self._made = {data_type: (window, how, found) for data_type, found in series.items()}
        return replace(query, adjusted=how, window=window)

    def of_history(self, cursor: Cursor, data_type: DataType, pinned: Pinned) -> Pinned:
        """The rows that the cursor fixed, adjusted by what it fixed; raises as `Adjuster.adjusted` does."""
        query = cursor.query
        how = query.adjusted
        assert how is not None
        window, made_by, series = self._made.get(data_type, (None, None, ()))
        if window != query.window or made_by != how:
            at = At(ends=cursor.ends.get(data_type, ()), tables=cursor.snapshots[data_type])
            series = self._adjuster().adjusted(pinned, _rows(query, data_type, at), how).series
            self._made[data_type] = (query.window, how, series)
        return replace(pinned, series=series)

    def of_news(
        self, query: ReplayQuery, data_type: DataType, pinned: Pinned, rows: Relation
    ) -> tuple[SymbolSteps, ...]:
        """The factors of rows that came in after the history, by what is known now; raises as `Adjuster.adjusted` does.

        Hardly ever is a row that comes in from before an ex-date: only where one may be is more read than what is known.
        """
        assert query.adjusted is not None
        how = Adjusting(query.adjusted.to)
        known = self._known_now(query, data_type, pinned, how)
        first_us, now_us = _first_us(rows), self.clock()
        if known.symbols.issuperset(query.symbols) and not any(first_us < us <= now_us for us in known.instants):
            return ()
        asked = _rows(query, data_type, CURRENT, query.window.starting(first_us))
        return self._adjuster().adjusted(pinned, asked, how).series

    def _known_now(self, query: ReplayQuery, data_type: DataType, pinned: Pinned, how: Adjusting) -> _Changes:
        adjuster, rows = self._adjuster(), _rows(query, data_type, CURRENT)
        reference, at = adjuster.reference(pinned, rows, how)
        moment = (reference.snapshots, reference.ends)
        if self._changes is None or self._changes.moment != moment:
            records = adjuster.known(reference, rows, at).rows.to_pylist()
            codes = {record["exchange"] for record in records}
            dividends = how.to is Adjusted.ALL
            instants = {us for code in codes for us in ex_dates(exchange_of(code), records, dividends=dividends)}
            symbols = frozenset(record["symbol"] for record in records)
            self._changes = _Changes(moment, tuple(sorted(instants)), symbols)
        return self._changes

    def _adjuster(self) -> Adjuster:
        return Adjuster(self.engine, self.planner, self.directory, self.closes, self.clock())


def _rows(query: ReplayQuery, data_type: DataType, at: At, window: Window | None = None) -> AdjustedRows:
    return AdjustedRows(data_type, query.symbols, query.exchange, window or query.window, at)


def _first_us(rows: Relation) -> int:
    """No row is before that instant."""
    bounds = [file.start_us for file in rows.files]
    if rows.tail is not None and rows.tail.num_rows:
        bounds.append(pc.min(rows.tail.column("timestamp").cast(TIMESTAMP).cast(pa.int64())).as_py())
    return min(bounds)
