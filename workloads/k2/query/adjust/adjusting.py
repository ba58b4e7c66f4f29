"""A pinned data type made to give adjusted rows: reference data at the same moment, closes where dividends need them, factors.

Nothing of it is stored: each answer is computed from what its tables held then, and says from which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from k2.lake.reader import TableMissingError
from k2.model.adjusted import Adjusted
from k2.model.exchanges import exchange as exchange_of
from k2.model.topics import DataType
from k2.query.adjust.closes import DATES_BACK, Closes, Trades
from k2.query.adjust.factors import Close, relevant, steps
from k2.query.adjust.histories import FactorChange, Stretch, history
from k2.query.asked.adjusted import Adjusting
from k2.query.asked.reference_requests import ReferenceQuery
from k2.query.asked.requests import At, Window
from k2.query.plan.directory import SymbolDirectory
from k2.query.plan.pinned import Pinned
from k2.query.plan.planner import Planner
from k2.query.plan.provenance import FactorSource
from k2.query.plan.venue import one_exchange
from k2.query.reference.records import Reference, reference_of
from k2.query.rows import sql
from k2.query.rows.adjusted import Step, SymbolSteps
from k2.query.rows.errors import NotAdjustableError, SnapshotGoneError
from k2.query.rows.statement import RowSource

_EVERY_RECORD = 1_000_000
_LOAD = "Load it with `k2 load reference-data` (companies, splits, mergers, dividends), or ask without adjusted"


@dataclass(frozen=True, slots=True)
class AdjustedRows:
    """Which rows are to be adjusted: of these symbols on the exchange (None: the one that each is traded on) in the window.

    `venues`: symbol → exchange, where that is known.
    """

    data_type: DataType
    symbols: tuple[str, ...]
    exchange: str | None
    window: Window
    at: At
    venues: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Adjuster:
    """Puts factors to the rows of a question. `closes`: what is remembered of them; `now_us`: when it is asked."""

    engine: RowSource
    planner: Planner
    directory: SymbolDirectory
    closes: Closes
    now_us: int

    def adjusted(self, pinned: Pinned, rows: AdjustedRows, how: Adjusting | None) -> Pinned:
        """The same tables, whose rows are given adjusted; without `how` they are as they are.

        Raises:
            NotAdjustableError: no symbol is named, there is no reference data of one, or its records give no factor.
            SnapshotGoneError: what was known then is not retained.
            AmbiguousSymbolError: a symbol is traded on several exchanges in the window, and none was asked for.
        """
        if how is None:
            return pinned
        if not rows.symbols:
            raise NotAdjustableError("adjusted is of named symbols", found="none", expected="one or more symbols")
        reference, at = self.reference(pinned, rows, how)
        trades, trades_at = self._trades(pinned, rows, how)
        until_us = how.until_us if how.until_us is not None else self._until(pinned, reference, rows.at)
        found = self.known(reference, rows, at)
        records = found.rows.to_pylist()  # of a few companies: the loops below are over their events
        histories = self._histories(pinned, rows, records, dividends=how.to is Adjusted.ALL)
        firsts = self._firsts(pinned, rows, histories, until_us)
        series: list[SymbolSteps] = []
        events = 0
        for symbol, (code, stretches) in histories.items():
            used = relevant(stretches, firsts.get(symbol), until_us)
            market = exchange_of(code)
            before = trades.clipped(trades_at)
            where = Trades(self.engine, self.planner, trades, market, before, self.closes)
            closes = self._closes(where, symbol, used)
            made = steps(symbol, used, closes)
            if made not in ((), (Step(None),)):
                series.append(SymbolSteps(symbol, made))
            events += sum(change.events for each in used for change in each.changes)
        fixed = [(DataType.REFERENCE_DATA, _fixed(reference, at))]
        if how.to is Adjusted.ALL:
            fixed.append((DataType.TRADES, _fixed(trades, trades_at)))
        venues = {symbol: code for symbol, (code, _) in histories.items()}
        calendars = {(code, exchange_of(code).of(symbol).calendar.title) for symbol, code in venues.items()}
        by = Adjusting(how.to, until_us, tuple(fixed))
        source = FactorSource(by, events, found.provenance, venues, tuple(sorted(calendars)))
        return replace(pinned, series=tuple(series), factors=source)

    def known(self, reference: Pinned, rows: AdjustedRows, at: At) -> Reference:
        """The newest record of each thing of the companies that have or had the symbols of the rows."""
        asked = ReferenceQuery(rows.symbols, exchange=rows.exchange, limit=_EVERY_RECORD, at=at)
        return reference_of(self.engine, self.planner, reference, asked)

    def reference(self, pinned: Pinned, rows: AdjustedRows, how: Adjusting) -> tuple[Pinned, At]:
        """The reference data that gives the factors; raises as `adjusted` does."""
        at = how.at(DataType.REFERENCE_DATA) or _beside(pinned, rows.at)
        try:
            found = self.planner.pin(DataType.REFERENCE_DATA, at)
        except TableMissingError as error:
            raise NotAdjustableError(
                "There is no reference data to adjust by", found=str(error), remedy=_LOAD
            ) from error
        except SnapshotGoneError as error:
            raise SnapshotGoneError(
                f"No reference data is kept of then: {error.what}",
                found=error.found,
                expected=error.expected,
                remedy="Ask as of a time at which it was loaded, or make the pin with reference_data among its tables",
            ) from error
        if not found.has_data:
            raise NotAdjustableError(
                "There is no reference data to adjust by", found=f"{found.named} is empty", remedy=_LOAD
            )
        return found, at

    def _trades(self, pinned: Pinned, rows: AdjustedRows, how: Adjusting) -> tuple[Pinned, At]:
        """Where closes are read: the trades that are asked for, or those that there were at the same moment."""
        if rows.data_type is DataType.TRADES or how.to is not Adjusted.ALL:
            return pinned, rows.at
        at = how.at(DataType.TRADES) or _beside(pinned, rows.at)
        return self.planner.pin(DataType.TRADES, at), at

    def _until(self, pinned: Pinned, reference: Pinned, at: At) -> int:
        """What comes later has not happened as of the answer."""
        if at.as_of_us is not None:
            return at.as_of_us
        tables = (*pinned.tables, *reference.tables)
        committed = [each.snapshot.time_us for each in tables if each.snapshot is not None]
        return max(committed) if at.is_past and committed else self.now_us

    def _histories(
        self, pinned: Pinned, rows: AdjustedRows, records: Sequence[dict[str, Any]], *, dividends: bool
    ) -> dict[str, tuple[str, tuple[Stretch, ...]]]:
        """Symbol → its exchange, and what happened to it; a symbol without rows is absent."""
        found: dict[str, tuple[str, tuple[Stretch, ...]]] = {}
        missing: list[str] = []
        relation = self.planner.plan(pinned, rows.symbols, rows.exchange, rows.window)
        for symbol in dict.fromkeys(rows.symbols):
            code = (
                rows.exchange or rows.venues.get(symbol) or one_exchange(self.directory, relation, symbol, rows.window)
            )
            if code is None:
                continue
            stretches = history(symbol, exchange_of(code), records, dividends=dividends)
            if stretches is None:
                missing.append(f"{symbol} on {code}")
            else:
                found[symbol] = (code, stretches)
        if missing:
            raise NotAdjustableError(
                "There is no reference data to adjust by", found=f"nothing of {', '.join(missing)}", remedy=_LOAD
            )
        return found

    def _firsts(
        self,
        pinned: Pinned,
        rows: AdjustedRows,
        known: dict[str, tuple[str, tuple[Stretch, ...]]],
        until_us: int,
    ) -> dict[str, int]:
        """When each symbol's first row is, of those to which anything happened: what was before it changes nothing."""
        relation = self.planner.plan(pinned, rows.symbols, rows.exchange, rows.window)
        start_us = rows.window.start_us
        if relation.files and relation.tail is None:  # no row is before the files' first one
            bound = min(file.start_us for file in relation.files)
            start_us = bound if start_us is None else max(bound, start_us)
        symbols = tuple(
            symbol
            for symbol, (_, stretches) in known.items()
            if any(
                (start_us is None or start_us < change.us) and change.us <= until_us
                for each in stretches
                for change in each.changes
            )
        )
        if not symbols or not relation:
            return {}
        which = sql.Filter(symbols, rows.exchange, *rows.window.bounds, before=pinned.clipped(rows.at))
        condition, params = sql.where(relation, which)
        names = {"symbol", "exchange", "timestamp", *(sql.LINEAGE if which.before else ())}
        text = (
            f'SELECT symbol, epoch_us(min("timestamp")) AS us FROM {sql.source(relation, names=names)}{condition} '
            "GROUP BY symbol"
        )
        found = self.engine.fetch("adjusting", sql.statement(text, params, relation))
        return {row["symbol"]: row["us"] for row in found.to_pylist()}

    def _closes(self, trades: Trades, symbol: str, stretches: Sequence[Stretch]) -> dict[FactorChange, Close]:
        paying = [change for each in stretches for change in each.changes if change.dividends]
        if not paying:
            return {}
        found = trades.closes(symbol, paying)
        absent = next((change for change in paying if change not in found), None)
        if absent is not None:
            raise NotAdjustableError(
                f"There is no close to set the dividend of {symbol} with ex-date {absent.day.isoformat()} against",
                found=f"no trade of it on {trades.market.code} within {DATES_BACK} dates before",
                expected="a trade",
                remedy="Load trades of these dates, ask with adjusted=splits, or for a start on or after the ex-date",
            )
        return found


def _beside(pinned: Pinned, at: At) -> At:
    """The same moment of another data type: a snapshot is of one table, so the others are as they were at its time."""
    chosen = pinned.tables[0].snapshot
    return At(as_of_us=chosen.time_us) if at.snapshot is not None and chosen is not None else at


def _fixed(pinned: Pinned, at: At) -> At:
    """What later pages are to read."""
    return At(ends=at.ends or pinned.ends, tables=pinned.snapshots)
